"""Measure `spectra`: singular values of all layers, and how strongly inputs excite them (Ito et al., ICLR 2025)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from onebasin.measures.responses import responses
from onebasin.measures.run import Run, one_below_the_other
from onebasin.measures.singular import decompositions, singular_values


def spectra(run: Run, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Tables `singular_values` and `responses`.

    Args:
        settings: the `split` and how many of its `images` the responses are to.
    """
    split = run.split(settings)

    def of(trial: int, seed: int) -> dict[str, pd.DataFrame]:
        model = run.models_of([seed])
        [parts] = decompositions(model)
        excited = responses(model.network, model[0], parts, split)
        return {
            "singular_values": singular_values(parts).assign(trial=trial, model=seed),
            "responses": excited.assign(split=settings["split"], trial=trial, model=seed),
        }

    # one after the other: they need not be in memory together
    return one_below_the_other(of(trial, seed) for trial, seeds in run.seeds.items() for seed in seeds)
