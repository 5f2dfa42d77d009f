"""Measure `spectra`: singular values of all layers, and how strongly inputs excite them (Ito et al., ICLR 2025)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from onebasin.measures.responses import responses
from onebasin.measures.run import Run
from onebasin.measures.singular import decompositions, singular_values


def spectra(run: Run, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Tables `singular_values` and `responses`.

    Args:
        settings: the `split` and how many of its `images` the responses are to.
    """
    split = run.split(settings)
    tables: dict[str, list[pd.DataFrame]] = {"singular_values": [], "responses": []}
    for trial, seeds in run.seeds.items():
        for seed in seeds:  # one after the other: they need not be in memory together
            model = run.models_of([seed])
            place = {"trial": trial, "model": seed}
            [parts] = decompositions(model)
            excited = responses(model.network, model[0], parts, split).assign(split=settings["split"])
            tables["singular_values"].append(singular_values(parts).assign(**place))
            tables["responses"].append(excited.assign(**place))
    return {name: pd.concat(found) for name, found in tables.items()}
