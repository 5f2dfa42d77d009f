"""Effects of the claims about merging many models (Ito et al., ICML 2025): losses, barriers, sharpness, warm start."""

import math
from dataclasses import replace

import pandas as pd

from onebasin.claims.effects import (
    Condition,
    Effect,
    Tables,
    by_trial,
    log_ratio,
    mean_by_count,
    mean_effect,
    mean_of_pairs,
    of_every_method,
    pairs_of,
    smallest_count,
    where,
)


def _excess_loss(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Loss of the merged model over its parents' mean loss, less 1."""
    rows = where(tables["merged"], method=method, count=count, split=condition.options["split"])
    return by_trial(rows, "loss") / by_trial(rows, "parents_loss") - 1


def _pair_barrier(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Mean loss barrier over all pairs of permuted models, in units of the parents' mean loss."""
    barriers = _pair_barriers(tables, condition, method, count).rename("barrier").reset_index()
    return mean_of_pairs(barriers, "barrier", pairs_of(count))


def _pair_barrier_nats(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """The same mean in nats."""
    rows = where(tables["pairwise"], method=method, count=count, split=condition.options["split"])
    return mean_of_pairs(rows, "barrier_loss", pairs_of(count))


def _sharpness_change(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Logarithm of the merged model's sharpness at `count` models over that at the smallest count."""
    merged = where(tables["sharpness"], model="merged", **condition.options)
    smallest = smallest_count(merged, count, "sharpness")
    large, small = (by_trial(where(merged, method=method, count=number), "value") for number in (count, smallest))
    return log_ratio(large, small)


def _scan_reduction(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Logarithm of the row scans with the warm start over those without."""
    rows = where(tables["acceleration"], method=method, count=count)
    warm, cold = (by_trial(where(rows, warm_start=start), "row_scans") for start in (True, False))
    return log_ratio(warm, cold)


def _pair_barriers(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Loss barrier of each pair in units of the parents' mean loss, by trial."""
    rows = {"method": method, "count": count, "split": condition.options["split"]}
    barriers = by_trial(where(tables["pairwise"], **rows), "barrier_loss")
    parents = by_trial(where(tables["merged"], **rows), "parents_loss")
    return barriers / parents.reindex(barriers.index)


# Details: what a reader wants to see beside the verdict


def _excess_loss_detail(tables: Tables, condition: Condition, count: int) -> str:
    counts = {method: mean_by_count(_excess_loss, tables, "merged", condition, method) for method in condition.methods}
    return "; ".join(f"{method} by count: {means}" for method, means in counts.items())


def _pair_barrier_detail(tables: Tables, condition: Condition, count: int) -> str:
    methods = [
        *condition.methods,
        *(other for other in tables["pairwise"]["method"].unique() if other not in condition.methods),
    ]
    found = []
    for method in methods:
        relative = _pair_barriers(tables, condition, method, count)
        nats = where(tables["pairwise"], method=method, count=count, split=condition.options["split"])["barrier_loss"]
        if len(relative):
            mean = _pair_barrier(tables, condition, method, count).mean(skipna=False)
            largest = f"{relative.max(skipna=False):.3g} ({nats.max(skipna=False):.3g} nats)"
            found.append(f"{method} mean {mean:.3g}, largest pair {largest}")
    return "barriers in units of the parents' loss: " + "; ".join(found)


def _sharpness_detail(tables: Tables, condition: Condition, count: int) -> str:
    own = condition.options["estimator"]
    merged = where(tables["sharpness"], model="merged", split=condition.options["split"])
    found = []
    for method in condition.methods:
        by_count = where(merged, method=method, estimator=own).groupby("count")
        means = ", ".join(f"{number}: {part['value'].mean(skipna=False):.3g}" for number, part in by_count)
        found.append(f"{method} mean {own} by count: {means}")
        for estimator in sorted(set(merged["estimator"]) - {own}):
            other = replace(condition, options={**condition.options, "estimator": estimator})
            mean = mean_effect(_sharpness_change, tables, other, method, count)
            found.append(f"{condition.effect} of {method}'s {estimator}: {mean}")
    return "; ".join(found)


def _scan_detail(tables: Tables, condition: Condition, count: int) -> str:
    factors = [
        f"{method} {math.exp(-_scan_reduction(tables, condition, method, count).mean(skipna=False)):.3g}"
        for method in condition.methods
    ]
    different = _different(tables, condition)
    results = f"results differ in {different} runs" if different else "results identical in all runs"
    return f"times fewer row scans with warm start (geometric mean over trials): {', '.join(factors)}; {results}"


def _different(tables: Tables, condition: Condition) -> int:
    rows = tables["acceleration"]
    return int((~rows["identical"] & rows["method"].isin(condition.methods)).sum())


EXCESS_LOSS = Effect(("merged",), ("split",), _excess_loss, _excess_loss_detail)
PAIR_BARRIER = Effect(("pairwise", "merged"), ("split",), _pair_barrier, _pair_barrier_detail)
PAIR_BARRIER_NATS = Effect(
    ("pairwise",),
    ("split",),
    _pair_barrier_nats,
    of_every_method("pairwise", "mean barrier (nats)", _pair_barrier_nats),
)
SHARPNESS_CHANGE = Effect(("sharpness",), ("split", "estimator"), _sharpness_change, _sharpness_detail)
SCAN_REDUCTION = Effect(
    ("acceleration",),
    (),
    _scan_reduction,
    _scan_detail,
    lambda tables, condition: _different(tables, condition) > 0,
)
