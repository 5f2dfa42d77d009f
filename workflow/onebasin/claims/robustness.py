"""Effects of the claims about merging in stages (Franke et al., 2025): losses beside others', robustness, norms."""

import numpy as np
import pandas as pd

from onebasin.claims.effects import (
    Condition,
    Effect,
    Measure,
    Tables,
    by_trial,
    log_ratio,
    mean_by_count,
    mean_effect,
    of_every_method,
    smallest_count,
    where,
)


def _loss_difference(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Loss of the merged model less that by the other method, in units of the parents' loss."""
    rows = {"count": count, "split": condition.options["split"]}
    own, other = (where(tables["merged"], method=name, **rows) for name in (method, condition.options["against"]))
    return (by_trial(own, "loss") - by_trial(other, "loss")) / by_trial(own, "parents_loss")


def _accuracy_drop(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """The parents' mean accuracy less the merged model's."""
    return _of_merged("barrier_accuracy", tables, condition, method, count)


def _merged_accuracy(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """The merged model's accuracy."""
    return _of_merged("accuracy", tables, condition, method, count)


def _of_merged(column: str, tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    rows = where(tables["merged"], method=method, count=count, split=condition.options["split"])
    return by_trial(rows, column)


def _attacked(tables: Tables, condition: Condition, method: str, count: int, model: str = "merged") -> pd.Series:
    table = tables["robustness"]
    rows = table[np.isclose(table["strength"], condition.options["strength"]) & (table["model"].astype(str) == model)]
    rows = where(rows, method=method, count=count, split=condition.options["split"], attack=condition.options["attack"])
    return by_trial(rows, "accuracy")


def _robustness_change(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Accuracy under attack at `count` models less that at the smallest count."""
    smallest = smallest_count(tables["robustness"], count, "robustness")
    return _attacked(tables, condition, method, count) - _attacked(tables, condition, method, smallest)


def _robustness_over_rescaled(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Accuracy under attack less that of a single model scaled to the merged model's norm."""
    return _attacked(tables, condition, method, count) - _rescaled(tables, condition, method, count)


def _norm(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """The merged model's norm."""
    table = tables["norms"]
    merged = table[table["model"].astype(str) == "merged"]
    rows = where(merged, method=method, count=count, split=condition.options["split"])
    return by_trial(rows, condition.options["norm"])


def _norm_change(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Logarithm of the merged model's norm at `count` models over that at the smallest count."""
    smallest = smallest_count(tables["norms"], count, "norms")
    return log_ratio(*(_norm(tables, condition, method, number) for number in (count, smallest)))


def _loss(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """The merged model's loss."""
    return by_trial(where(tables["merged"], method=method, count=count, split=condition.options["split"]), "loss")


# Details: what a reader wants to see beside the verdict


def _by_method_and_count(tables: Tables, table: str, measure: Measure, condition: Condition) -> str:
    methods = dict.fromkeys(tables[table]["method"])
    return "; ".join(f"{method} {mean_by_count(measure, tables, table, condition, method)}" for method in methods)


def _loss_detail(tables: Tables, condition: Condition, count: int) -> str:
    return f"loss by count: {_by_method_and_count(tables, 'merged', _loss, condition)}"


def _drop_detail(tables: Tables, condition: Condition, count: int) -> str:
    return f"accuracy lost by count: {_by_method_and_count(tables, 'merged', _accuracy_drop, condition)}"


def _attack_detail(tables: Tables, condition: Condition, count: int) -> str:
    what = f"accuracy under {condition.options['attack']} {condition.options['strength']:g}"
    scaled = mean_effect(_rescaled, tables, condition, condition.methods[0], count)
    counts = _by_method_and_count(tables, "robustness", _attacked, condition)
    return f"{what} by count: {counts}; of a single model scaled to the norm at {count}: {scaled}"


def _rescaled(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    return _attacked(tables, condition, method, count, "rescaled")


def _norm_detail(tables: Tables, condition: Condition, count: int) -> str:
    return f"{condition.options['norm']} by count: {_by_method_and_count(tables, 'norms', _norm, condition)}"


_ATTACKED = ("split", "attack", "strength")
LOSS_DIFFERENCE = Effect(("merged",), ("split", "against"), _loss_difference, _loss_detail)
ACCURACY_DROP = Effect(("merged",), ("split",), _accuracy_drop, _drop_detail)
MERGED_ACCURACY = Effect(
    ("merged",), ("split",), _merged_accuracy, of_every_method("merged", "merged accuracy", _merged_accuracy)
)
ROBUSTNESS_CHANGE = Effect(("robustness",), _ATTACKED, _robustness_change, _attack_detail)
ROBUSTNESS_OVER_RESCALED = Effect(("robustness",), _ATTACKED, _robustness_over_rescaled, _attack_detail)
NORM_CHANGE = Effect(("norms",), ("split", "norm"), _norm_change, _norm_detail)
