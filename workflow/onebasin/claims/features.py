"""Effects of the claims about linear features (Zhou et al., NeurIPS 2023), read off a study of spawned and independent
models: `spawned` says how many epochs the models share (0: none)."""

import numpy as np
import pandas as pd

from onebasin.claims.effects import (
    Condition,
    Effect,
    MissingError,
    Tables,
    log_ratio,
    mean_of_pairs,
    of_every_method,
    pairs_of,
    where,
)

MIDPOINT = 0.5
SPAWN = "spawn"  # the study's column; its cells are settings, as text
SHARED = "{spawned:g} epochs shared"


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
    return log_ratio(own, other)


def _commutativity_change(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Logarithm of the largest layer's commutativity distance over the other method's."""
    own, other = (
        _worst_layer(_rows(tables, "llfc_conditions", condition, name, count), "commutativity", "max")
        for name in (method, condition.options["against"])
    )
    return log_ratio(own, other)


def _barrier(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """The mean loss barrier of the trial's pairs, in nats."""
    rows = _rows(tables, "pairwise", condition, method, count)
    return mean_of_pairs(rows, "barrier_loss", pairs_of(count))


def _stitched(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Accuracy of stitched models over the parents', at the layer where it is lowest."""
    parents = _rows(tables, "merged", condition, method, count).set_index("trial")["parents_accuracy"]
    stitched = _worst_layer(_rows(tables, "stitching", condition, method, count), "accuracy", "min")
    return stitched / parents.reindex(stitched.index)


_DISSIMILARITIES = of_every_method("llfc", f"largest 1 - cos of a layer, {SHARED}", _dissimilarity)
FEATURE_DISSIMILARITY = Effect(("llfc",), ("split", "spawned"), _dissimilarity, _DISSIMILARITIES, of_studies=True)
FEATURE_CHANGE = Effect(
    ("llfc",), ("split", "spawned", "against"), _dissimilarity_change, _DISSIMILARITIES, of_studies=True
)
COMMUTATIVITY_CHANGE = Effect(
    ("llfc_conditions",),
    ("split", "spawned", "against"),
    _commutativity_change,
    of_every_method(
        "llfc",
        f"log ratio of the largest commutativity distance to that of the other, {SHARED}",
        _commutativity_change,
    ),
    of_studies=True,
)
SPAWNED_BARRIER = Effect(
    ("pairwise",),
    ("split", "spawned"),
    _barrier,
    of_every_method("pairwise", f"mean barrier (nats), {SHARED}", _barrier),
    of_studies=True,
)
STITCHED_ACCURACY = Effect(
    ("stitching", "merged"),
    ("split", "spawned"),
    _stitched,
    of_every_method("stitching", f"lowest stitched accuracy over the parents', {SHARED}", _stitched),
    of_studies=True,
)
