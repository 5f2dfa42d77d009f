"""Measure `evaluation`: merged models, and the lines between permuted ones, by method and count."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from onebasin.measures.merged import evaluate_merged, predict
from onebasin.measures.pairwise import interpolation_curves, pairwise_barriers
from onebasin.measures.run import Run, by_count


def evaluation(run: Run, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Tables `merged`, `pairwise` and `interpolation`.

    Args:
        settings: `points` of a line between two models, the ends included.
    """
    predictions = run.once("predictions", lambda: predict(run.models, run.data))

    def measured(count: int) -> dict[str, pd.DataFrame]:
        curves = interpolation_curves(run.aligned(count), run.data, settings["points"], run.recalibration())
        return {
            "merged": evaluate_merged(run.parents(count), run.merged(count), run.data, predictions),
            "pairwise": pairwise_barriers(curves),
            "interpolation": curves,
        }

    return by_count(run, measured)
