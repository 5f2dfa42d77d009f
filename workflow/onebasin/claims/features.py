"""Effects of the claims about linear features (Zhou et al., NeurIPS 2023)."""

import numpy as np
import pandas as pd

from onebasin.claims.effects import Condition, Effect, Tables, log_ratio, of_every_method, where

MIDPOINT = 0.5


def _rows(tables: Tables, table: str, condition: Condition, method: str, count: int) -> pd.DataFrame:
    return where(tables[table], method=method, count=count, split=condition.options["split"])


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


def _stitched(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Accuracy of stitched models over the parents', at the layer where it is lowest."""
    parents = _rows(tables, "merged", condition, method, count).set_index("trial")["parents_accuracy"]
    stitched = _worst_layer(_rows(tables, "stitching", condition, method, count), "accuracy", "min")
    return stitched / parents.reindex(stitched.index)


_DISSIMILARITIES = of_every_method("llfc", "largest 1 - cos of a layer", _dissimilarity)
FEATURE_DISSIMILARITY = Effect(("llfc",), ("split",), _dissimilarity, _DISSIMILARITIES)
FEATURE_CHANGE = Effect(("llfc",), ("split", "against"), _dissimilarity_change, _DISSIMILARITIES)
COMMUTATIVITY_CHANGE = Effect(
    ("llfc_conditions",),
    ("split", "against"),
    _commutativity_change,
    of_every_method(
        "llfc_conditions", "log ratio of the largest commutativity distance to {against}'s", _commutativity_change
    ),
)
STITCHED_ACCURACY = Effect(
    ("stitching", "merged"),
    ("split",),
    _stitched,
    of_every_method("stitching", "lowest stitched accuracy over the parents'", _stitched),
)
