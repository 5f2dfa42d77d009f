"""Effects of the claims about linear features (Zhou et al., NeurIPS 2023), read off a study of spawned and independent
models: `spawned` says how many epochs the models share (0: none)."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from onebasin.claims.effects import Condition, Effect, Measure, MissingError, Tables, mean_effect, where

MIDPOINT = 0.5
SPAWN = "spawn"  # the study's column; its cells are settings, as text


def _rows(tables: Tables, table: str, condition: Condition, method: str, count: int) -> pd.DataFrame:
    frame = tables[table]
    if SPAWN not in frame:
        study = "vary: {training.spawn: [{epochs: 0}, {epochs: 5}]}"
        raise MissingError(f"a study of spawned and independent models ({study})")
    shared = {SPAWN: str({"epochs": int(condition.options["spawned"])})}
    return where(frame, method=method, count=count, split=condition.options["split"], **shared)


def _worst_layer(frame: pd.DataFrame, column: str, worst: str) -> pd.Series:
    """The layer that is worst in the mean over a trial's pairs."""
    means = frame.groupby(["trial", "layer"])[column].agg(lambda values: values.mean(skipna=False))
    found: pd.Series = means.groupby("trial").agg(lambda layers: getattr(layers, worst)(skipna=False))
    return found


def _dissimilarity(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """1 - cos between the middle's features and the mean of the ends', of the layer where it is largest."""
    rows = _rows(tables, "llfc", condition, method, count)
    pairs = rows[(rows["model_b"] != "merged") & np.isclose(rows["weight_b"], MIDPOINT)]
    return _worst_layer(pairs, "dissimilarity", "max")


def _dissimilarity_change(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Logarithm of that dissimilarity over the other method's."""
    own, other = (_dissimilarity(tables, condition, name, count) for name in (method, condition.options["against"]))
    return _log_ratio(own, other)


def _commutativity_change(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Logarithm of the largest layer's commutativity distance over the other method's."""
    own, other = (
        _worst_layer(_rows(tables, "llfc_conditions", condition, name, count), "commutativity", "max")
        for name in (method, condition.options["against"])
    )
    return _log_ratio(own, other)


def _barrier(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """The mean loss barrier of the trial's pairs, in nats."""
    rows = _rows(tables, "pairwise", condition, method, count)
    return rows.groupby("trial")["barrier_loss"].agg(lambda values: values.mean(skipna=False))


def _stitched(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Accuracy of stitched models over the parents', at the layer where it is lowest."""
    parents = _rows(tables, "merged", condition, method, count).set_index("trial")["parents_accuracy"]
    stitched = _worst_layer(_rows(tables, "stitching", condition, method, count), "accuracy", "min")
    return stitched / parents.reindex(stitched.index)


def _log_ratio(above: pd.Series, below: pd.Series) -> pd.Series:
    return pd.Series(np.log(above.where(above > 0) / below.where(below > 0)))


def _of_all(measure: Measure, what: str, table: str) -> Callable[[Tables, Condition, int], str]:
    """A detail that lists the effect for every method, among as many shared epochs."""

    def describe(tables: Tables, condition: Condition, count: int) -> str:
        methods = dict.fromkeys(where(tables[table], count=count)["method"])
        listed = [f"{method} {mean_effect(measure, tables, condition, method, count)}" for method in methods]
        return f"{what}, {condition.options['spawned']:g} epochs shared: {', '.join(listed)}"

    return describe


_DISSIMILARITIES = _of_all(_dissimilarity, "largest 1 - cos of a layer", "llfc")
FEATURE_DISSIMILARITY = Effect(("llfc",), ("split", "spawned"), _dissimilarity, _DISSIMILARITIES, of_studies=True)
FEATURE_CHANGE = Effect(
    ("llfc",), ("split", "spawned", "against"), _dissimilarity_change, _DISSIMILARITIES, of_studies=True
)
COMMUTATIVITY_CHANGE = Effect(
    ("llfc_conditions",),
    ("split", "spawned", "against"),
    _commutativity_change,
    _of_all(_commutativity_change, "log ratio of the largest commutativity distance to that of the other", "llfc"),
    of_studies=True,
)
SPAWNED_BARRIER = Effect(
    ("pairwise",), ("split", "spawned"), _barrier, _of_all(_barrier, "mean barrier (nats)", "pairwise"), of_studies=True
)
STITCHED_ACCURACY = Effect(
    ("stitching", "merged"),
    ("split", "spawned"),
    _stitched,
    _of_all(_stitched, "lowest stitched accuracy over the parents'", "stitching"),
    of_studies=True,
)
