"""Effects of the claims about why matching works (Ito et al., ICLR 2025): distance, Taylor estimate, singular vectors.

Pairs of models are averaged within a trial. Where an effect compares a method with another, `against` names that one.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd

from onebasin.claims.effects import (
    Condition,
    Effect,
    Measure,
    Tables,
    mean_of_pairs,
    of_every_method,
    pairs_of,
    where,
)

MIDPOINT = 0.5


def _distance_reduction(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """By how much of itself matching reduces the L2 distance between two models."""
    return mean_of_pairs(where(tables["distance"], method=method, count=count), "reduction", pairs_of(count))


def _barrier_reduction(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """By how much of itself the barrier is lower with `method` than with the other method."""
    own, others = (
        mean_of_pairs(
            where(tables["pairwise"], method=name, count=count, split=condition.options["split"]),
            "barrier_loss",
            pairs_of(count),
        )
        for name in (method, condition.options["against"])
    )
    return 1 - own / others.where(others > 0)


def _taylor_error(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """How far the estimate is off at the midpoint, in standard deviations over trials of the measured barrier."""
    rows = where(tables["taylor"], method=method, count=count, split=condition.options["split"], weight_b=MIDPOINT)
    measured, estimate = (mean_of_pairs(rows, column, pairs_of(count)) for column in ("measured", "estimate"))
    spread = measured.std(ddof=1, skipna=False)
    return (estimate - measured).abs() / (spread if spread > 0 else np.nan)


def _singular_value_correlation(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Pearson's correlation between the singular values of a layer in two models; that of the layer with the lowest."""
    found = {}
    for trial, rows in tables["singular_values"].groupby("trial"):
        layers = [_mean_correlation(layer) for _, layer in rows.groupby("layer")]
        found[trial] = min(layers) if np.isfinite(layers).all() else np.nan
    return pd.Series(found, dtype=float)


def _mean_correlation(layer: pd.DataFrame) -> float:
    """The mean over all pairs of models; NaN for a layer of one singular value, which has no correlation."""
    values = layer.pivot_table(index="rank", columns="model", values="value", sort=True).to_numpy()
    if len(values) < 2 or values.shape[1] < 2:
        return np.nan
    correlations = np.corrcoef(values, rowvar=False)
    return float(np.mean([correlations[a, b] for a, b in combinations(range(len(correlations)), 2)]))


def _alignment(tables: Tables, method: str, count: int, gamma: float, column: str = "alignment") -> pd.Series:
    """R between two models over all layers."""
    table = tables["alignment"]
    rows = where(table[np.isclose(table["gamma"], gamma)], method=method, count=count, layer="total")
    return mean_of_pairs(rows[rows["model_b"] != "merged"], column, pairs_of(count))


def _alignment_gain(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """R after matching less R before."""
    after, before = (
        _alignment(tables, method, count, condition.options["gamma"], column)
        for column in ("alignment", "alignment_before")
    )
    return after - before


def _dominant_alignment(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """R of the dominant singular vectors, those beyond `gamma`, less R of all."""
    return _alignment(tables, method, count, condition.options["gamma"]) - _alignment(tables, method, count, 0.0)


def _alignment_ratio(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """R of a method over that of the other, NaN where the other's is not positive."""
    own, others = (
        _alignment(tables, name, count, condition.options["gamma"]) for name in (method, condition.options["against"])
    )
    return own / others.where(others > 0)


def _alignment_departure(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """How far R of a method is from that of the other, as a part of the other's."""
    return (_alignment_ratio(tables, condition, method, count) - 1).abs()


def _reduction_departure(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """How far the distance reduction of a method is from that of the other, as a part of the other's."""
    own, others = (
        _distance_reduction(tables, condition, name, count) for name in (method, condition.options["against"])
    )
    return (own / others.where(others > 0) - 1).abs()


def _anchored_barrier_difference(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Barrier between models that were matched to a third, less that with the other method (nats)."""
    pairs = pairs_of(count - 1)
    own, others = (
        mean_of_pairs(
            where(tables["three_models"], method=name, count=count, split=condition.options["split"]),
            "barrier_loss",
            pairs,
        )
        for name in (method, condition.options["against"])
    )
    return own - others


# Details: what a reader wants to see beside the verdict


def _barriers(table: str, pairs: Callable[[int], int]) -> Measure:
    def measure(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
        rows = where(tables[table], method=method, count=count, split=condition.options["split"])
        return mean_of_pairs(rows, "barrier_loss", pairs(count))

    return measure


def _of_gamma(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    return _alignment(tables, method, count, condition.options["gamma"])


def _taylor_detail(tables: Tables, condition: Condition, count: int) -> str:
    rows = where(tables["taylor"], count=count, split=condition.options["split"], weight_b=MIDPOINT)
    means = rows.groupby("method", sort=False)[["measured", "estimate"]].mean()
    listed = [f"{method} {row.measured:.3g} and {row.estimate:.3g}" for method, row in means.iterrows()]
    return f"measured and estimated excess at the midpoint (nats): {', '.join(listed)}"


def _layers_detail(tables: Tables, condition: Condition, count: int) -> str:
    layers = tables["singular_values"].groupby("layer", sort=False)
    means = [
        f"{layer} {np.mean([_mean_correlation(rows) for _, rows in of.groupby('trial')]):.4g}" for layer, of in layers
    ]
    return f"by layer: {', '.join(means)}"


def _gain_detail(tables: Tables, condition: Condition, count: int) -> str:
    gamma = condition.options["gamma"]
    listed = []
    for method in condition.methods:
        before, every, dominant = (
            _alignment(tables, method, count, *which).mean(skipna=False)
            for which in ((0.0, "alignment_before"), (0.0,), (gamma,))
        )
        listed.append(f"{method}: before {before:.3g}, after {every:.3g}, beyond {gamma:g} {dominant:.3g}")
    return f"R {'; '.join(listed)}"


_REDUCTIONS = of_every_method("distance", "mean reduction", _distance_reduction)
_ALIGNMENTS = of_every_method("alignment", "mean R", _of_gamma)

DISTANCE_REDUCTION = Effect(("distance",), (), _distance_reduction, _REDUCTIONS)
BARRIER_REDUCTION = Effect(
    ("pairwise",),
    ("split", "against"),
    _barrier_reduction,
    of_every_method("pairwise", "mean barrier (nats)", _barriers("pairwise", pairs_of)),
)
TAYLOR_ERROR = Effect(("taylor",), ("split",), _taylor_error, _taylor_detail)
SINGULAR_VALUE_CORRELATION = Effect(
    ("singular_values",), (), _singular_value_correlation, _layers_detail, of_methods=False
)
ALIGNMENT_GAIN = Effect(("alignment",), ("gamma",), _alignment_gain, _gain_detail)
DOMINANT_ALIGNMENT = Effect(("alignment",), ("gamma",), _dominant_alignment, _gain_detail)
ALIGNMENT_RATIO = Effect(("alignment",), ("gamma", "against"), _alignment_ratio, _ALIGNMENTS)
ALIGNMENT_DEPARTURE = Effect(("alignment",), ("gamma", "against"), _alignment_departure, _ALIGNMENTS)
REDUCTION_DEPARTURE = Effect(("distance",), ("against",), _reduction_departure, _REDUCTIONS)
ANCHORED_BARRIER_DIFFERENCE = Effect(
    ("three_models",),
    ("split", "against"),
    _anchored_barrier_difference,
    of_every_method(
        "three_models",
        "mean barrier (nats)",
        _barriers("three_models", lambda count: pairs_of(count - 1)),
    ),
)
