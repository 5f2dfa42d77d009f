"""Lines between every two models: loss and accuracy along them, and their barriers (Frankle et al. 2020)."""

import itertools

import numpy as np
import pandas as pd
import torch

from onebasin.data import Data
from onebasin.merging.recalibration import Recalibration
from onebasin.models.running import SPLITS, measure_many
from onebasin.models.stack import Models
from onebasin.parameters import lerp
from onebasin.progress import track


def interpolation_curves(
    permuted: Models, data: Data, points: int, recalibrate: Recalibration | None = None
) -> pd.DataFrame:
    """Loss and accuracy along the line between every two models, per split.

    Args:
        permuted: the models after permutation.
        points: evenly spaced points, the ends included.
        recalibrate: what is done to the points between the ends before they are measured.

    Returns:
        `split, model_a, model_b, weight_b, loss, accuracy`; a model is named by its seed.
    """
    weights = torch.linspace(0, 1, points, dtype=torch.float64).tolist()
    pairs = list(itertools.combinations(range(len(permuted)), 2))
    # the ends are the same for all pairs of a model: measured once
    ends = {name: measure_many(permuted.network, permuted, data.split(name)) for name in SPLITS}
    statistics = recalibrate.statistics([*permuted]) if recalibrate else []
    rows = []
    for a, b in track(pairs, f"interpolating pairs of {len(permuted)} models", len(pairs)):
        between = [lerp(permuted[a], permuted[b], weight) for weight in weights[1:-1]]
        if recalibrate:
            ends_of_line = [statistics[a], statistics[b]] if statistics else []
            shares = [[1 - weight, weight] for weight in weights[1:-1]]
            between = [recalibrate(point, ends_of_line, share) for point, share in zip(between, shares, strict=True)]
        for name in SPLITS:
            inner = measure_many(permuted.network, between, data.split(name))
            curve = [ends[name][a], *inner, ends[name][b]]
            rows += [
                (name, permuted.seeds[a], permuted.seeds[b], weight, *values)
                for weight, values in zip(weights, curve, strict=True)
            ]
    return pd.DataFrame(rows, columns=["split", "model_a", "model_b", "weight_b", "loss", "accuracy"])


def pairwise_barriers(curves: pd.DataFrame) -> pd.DataFrame:
    """The barrier of every pair from its curves: `split, model_a, model_b, barrier_loss, barrier_accuracy`.

    The largest excess over the straight line between the ends, at the points measured; never below 0, which it is at
    the ends themselves.
    """
    rows = []
    for (split, a, b), curve in curves.groupby(["split", "model_a", "model_b"], sort=False):
        weight = curve["weight_b"].to_numpy()
        line = {x: (1 - weight) * curve[x].iloc[0] + weight * curve[x].iloc[-1] for x in ("loss", "accuracy")}
        rows.append(
            (split, a, b, _barrier(curve["loss"] - line["loss"]), _barrier(line["accuracy"] - curve["accuracy"]))
        )
    return pd.DataFrame(rows, columns=["split", "model_a", "model_b", "barrier_loss", "barrier_accuracy"])


def _barrier(excess: pd.Series) -> float:
    """The largest excess between the ends, 0 if there is none; NaN if a point is not a number."""
    return float(np.maximum(0.0, excess.to_numpy()[1:-1]).max(initial=0.0))
