"""Measure `geometry`: where models lie and why they connect, by method and count (Ito et al., ICLR 2025)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from onebasin.measures.alignment import alignments
from onebasin.measures.distance import distances
from onebasin.measures.run import Run, by_count
from onebasin.measures.singular import decompositions
from onebasin.measures.taylor import taylor_estimates
from onebasin.merging.average import aligned_models


def geometry(run: Run, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Tables `distance`, `taylor` and `alignment`.

    Args:
        settings: `points` of a line between two models; the `split` and how many of its `images` Taylor estimates
            see; the cutoffs `gammas` of singular values.
    """
    split = run.split(settings)
    parts = run.once("decompositions", lambda: decompositions(run.models))

    def measured(count: int) -> dict[str, pd.DataFrame]:
        parents, found = run.parents(count), run.alignment(count)
        permuted = aligned_models(parents, run.spec, found)
        taylor = taylor_estimates(permuted, split, settings["points"], run.recalibration(repair=False))
        return {
            "distance": distances(parents, permuted),
            "taylor": taylor.assign(split=settings["split"]),
            "alignment": alignments(parents, parts[:count], run.spec, found, run.merged(count), settings["gammas"]),
        }

    return by_count(run, measured)
