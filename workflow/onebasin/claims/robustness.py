"""Effects of the claims about merging in stages (Franke et al., 2025): losses beside others', robustness, norms."""

import numpy as np
import pandas as pd

from onebasin.claims.effects import Condition, Effect, Measure, MissingError, Tables, by_trial, mean_effect, where


def _loss_difference(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Loss of the merged model less that by the other method, in units of the parents' loss."""
    rows = {"count": count, "split": condition.options["split"]}
    own, other = (where(tables["merged"], method=name, **rows) for name in (method, condition.options["against"]))
    return (by_trial(own, "loss") - by_trial(other, "loss")) / by_trial(own, "parents_loss")


def _accuracy_drop(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """The parents' mean accuracy less the merged model's."""
    rows = where(tables["merged"], method=method, count=count, split=condition.options["split"])
    return by_trial(rows, "barrier_accuracy")


def _attacked(tables: Tables, condition: Condition, method: str, count: int, model: str = "merged") -> pd.Series:
    table = tables["robustness"]
    rows = table[np.isclose(table["strength"], condition.options["strength"]) & (table["model"].astype(str) == model)]
    rows = where(rows, method=method, count=count, split=condition.options["split"], attack=condition.options["attack"])
    return by_trial(rows, "accuracy")


def _robustness_change(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Accuracy under attack at `count` models less that at the smallest count."""
    return _attacked(tables, condition, method, count) - _attacked(
        tables, condition, method, _smallest(tables["robustness"], count)
    )


def _robustness_over_rescaled(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Accuracy under attack less that of a single model scaled to the merged model's norm."""
    return _attacked(tables, condition, method, count) - _attacked(tables, condition, method, count, "rescaled")


def _norm_change(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Logarithm of the merged model's norm at `count` models over that at the smallest count."""
    table = tables["norms"]
    merged = where(table[table["model"].astype(str) == "merged"], split=condition.options["split"])
    large, small = (
        by_trial(where(merged, method=method, count=number), condition.options["norm"])
        for number in (count, _smallest(table, count))
    )
    return pd.Series(np.log(large / small))


def _smallest(table: pd.DataFrame, count: int) -> int:
    smallest = int(table["count"].min())
    if not smallest < count:
        raise MissingError("two numbers of models; there is no change to see at one")
    return smallest


def _by_method_and_count(tables: Tables, table: str, measure: Measure, condition: Condition) -> str:
    found = []
    for method in dict.fromkeys(tables[table]["method"]):
        counts = sorted({int(count) for count in where(tables[table], method=method)["count"]})
        means = [f"{count}: {mean_effect(measure, tables, condition, method, count)}" for count in counts]
        found.append(f"{method} {', '.join(means)}")
    return "; ".join(found)


def _loss_detail(tables: Tables, condition: Condition, count: int) -> str:
    def loss(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
        return by_trial(where(tables["merged"], method=method, count=count, split=condition.options["split"]), "loss")

    return f"loss by count: {_by_method_and_count(tables, 'merged', loss, condition)}"


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
    def norm(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
        table = tables["norms"]
        merged = where(table[table["model"].astype(str) == "merged"], split=condition.options["split"])
        return by_trial(where(merged, method=method, count=count), condition.options["norm"])

    return f"{condition.options['norm']} by count: {_by_method_and_count(tables, 'norms', norm, condition)}"


_ATTACKED = ("split", "attack", "strength")
LOSS_DIFFERENCE = Effect(("merged",), ("split", "against"), _loss_difference, _loss_detail)
ACCURACY_DROP = Effect(("merged",), ("split",), _accuracy_drop, _drop_detail)
ROBUSTNESS_CHANGE = Effect(("robustness",), _ATTACKED, _robustness_change, _attack_detail)
ROBUSTNESS_OVER_RESCALED = Effect(("robustness",), _ATTACKED, _robustness_over_rescaled, _attack_detail)
NORM_CHANGE = Effect(("norms",), ("split", "norm"), _norm_change, _norm_detail)
