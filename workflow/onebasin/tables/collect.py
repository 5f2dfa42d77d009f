"""Tables: what the jobs measure, collected into one CSV file a kind.

`COLUMNS` is the contract between the jobs that measure, the claims that judge and the figures that draw. Losses are in
nats and accuracies in [0, 1]. Nothing is measured or judged here.
"""

import csv
import math
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path

import pandas as pd

from onebasin.errors import OnebasinError
from onebasin.storage.files import read_sealed, read_text

_RUN = ["experiment", "method", "count", "trial"]

# what names a row, in the order of sorting; no two rows of a table share it
KEYS: dict[str, list[str]] = {
    "merged": [*_RUN, "split"],
    "pairwise": [*_RUN, "split", "model_a", "model_b"],
    "sharpness": [*_RUN, "model", "split", "estimator"],
    "sharpness_layers": [*_RUN, "model", "split", "estimator", "layer"],
    "timing": _RUN,
    "top_eigenvalue": [*_RUN, "model", "split"],
    "acceleration": [*_RUN, "warm_start"],
    "interpolation": [*_RUN, "split", "model_a", "model_b", "weight_b"],
    "landscape": [*_RUN, "split", "point", "x", "y"],
    "history": ["experiment", "seed", "epoch"],
    "distance": [*_RUN, "model_a", "model_b"],
    "taylor": [*_RUN, "split", "model_a", "model_b", "weight_b"],
    "singular_values": ["experiment", "trial", "model", "layer", "rank"],
    "alignment": [*_RUN, "layer", "gamma", "model_a", "model_b"],
    "responses": ["experiment", "trial", "model", "split", "layer", "rank"],
    "three_models": [*_RUN, "split", "model_a", "model_b"],
    "truncation": [*_RUN, "split", "gamma", "model_a", "model_b"],
    "claims": ["paper", "claim", "experiment"],
}

# what a row holds
VALUES: dict[str, list[str]] = {
    "merged": [
        *("loss", "accuracy", "parents_loss", "parents_accuracy", "barrier_loss", "barrier_accuracy"),
        *("ensemble_loss", "ensemble_accuracy"),
    ],
    "pairwise": ["barrier_loss", "barrier_accuracy"],
    "sharpness": ["value", "standard_error", "probes"],
    "sharpness_layers": ["value"],
    "timing": ["seconds", "steps", "peak_memory_mb"],
    "top_eigenvalue": ["value", "residual"],
    "acceleration": ["steps", "assignments", "row_scans", "objective", "identical"],
    "interpolation": ["loss", "accuracy"],
    "landscape": ["loss", "accuracy"],
    "history": ["lr", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"],
    "distance": ["distance_before", "distance", "reduction"],
    "taylor": ["estimate", "measured", "recomputed"],
    "singular_values": ["value"],
    "alignment": ["alignment_before", "alignment", "kept"],
    "responses": ["singular_value", "response"],
    "three_models": ["barrier_loss", "barrier_accuracy"],
    "truncation": ["kept_share", "barrier_loss", "barrier_accuracy"],
}

COLUMNS: dict[str, list[str]] = {
    **{name: KEYS[name] + values for name, values in VALUES.items()},
    "claims": ["paper", "claim", "statement", "experiment", "verdict", "effect", "low", "high", "detail"],
}

_TEXT = {"experiment", "method", "split", "model", "model_a", "model_b", "estimator", "point", "layer"} | {
    *("paper", "claim", "statement", "verdict", "detail")
}
_TRUTH = {"warm_start", "identical"}
_WHOLE = {"seed", "epoch", "count", "trial", "steps", "assignments", "row_scans", "probes", "rank"}


def check(frame: pd.DataFrame, name: str, where: str | Path | None = None) -> pd.DataFrame:
    """Return the table with the columns of `COLUMNS[name]`, in that order and of their types.

    Model columns become text: "merged" or a seed. `where` names the table in messages, usually its file.

    Raises:
        OnebasinError: there is no table `name`; a column is missing, unknown or of the wrong type; a key is empty; two
            rows have the same key.
    """
    if name not in COLUMNS:
        raise OnebasinError(f"no table called '{name}'; known: {', '.join(COLUMNS)}")
    where = where or f"table {name}"
    missing = [column for column in COLUMNS[name] if column not in frame.columns]
    unknown = [str(column) for column in frame.columns if column not in COLUMNS[name]]
    if missing or unknown:
        wrong = "; ".join(
            f"{what} column {', '.join(found)}" for what, found in [("missing", missing), ("unknown", unknown)] if found
        )
        raise OnebasinError(f"{where}: {wrong}; table {name} has the columns {', '.join(COLUMNS[name])}")
    empty = [key for key in KEYS[name] if frame[key].isna().any()]
    if empty:
        raise OnebasinError(
            f"{where}: empty cells in column {', '.join(empty)}; every row needs its {', '.join(empty)}"
        )
    frame = pd.DataFrame({column: _typed(frame[column], column, where) for column in COLUMNS[name]})
    twice = frame[frame.duplicated(KEYS[name])]
    if len(twice):
        row = ", ".join(f"{key} {twice.iloc[0][key]}" for key in KEYS[name])
        raise OnebasinError(f"{where}: more than one row for {row}; give every row of table {name} its own key")
    return frame


def _typed(column: pd.Series, name: str, where: str | Path) -> pd.Series:
    if name in _TEXT:
        return column.fillna("").astype(str)
    if name in _TRUTH:
        if len(column) and not pd.api.types.is_bool_dtype(column):
            raise OnebasinError(f"{where}: column {name} holds something other than True and False; write it again")
        return column.astype(bool)
    try:
        numbers = pd.to_numeric(column).astype("float64")
    except (ValueError, TypeError):
        raise OnebasinError(f"{where}: column {name} holds something that is not a number; write it again") from None
    # one that is missing (the steps of a search that takes none) leaves the whole column floats
    if name in _WHOLE and numbers.map(math.isfinite).all():
        if not (numbers % 1 == 0).all():
            raise OnebasinError(f"{where}: column {name} holds a number that is not whole; write it again")
        return pd.to_numeric(column).astype("int64")
    return numbers


def read_csv(path: str | Path, name: str) -> pd.DataFrame:
    """Read table `name` from the CSV file `path`, checked as by `check`. A header without rows is a table without rows.

    Raises:
        OnebasinError: the file is absent, empty or cut short, or is not the table `name`.
    """
    return _parsed(read_text(path), path, name)


def _parsed(text: str, path: str | Path, name: str) -> pd.DataFrame:
    if not text.strip():
        raise OnebasinError(f"{path}: empty, where table {name} should be; delete it and make it again")
    widths = [len(row) for row in csv.reader(StringIO(text, newline="")) if row]
    if not text.endswith("\n") or len(set(widths)) > 1:
        raise OnebasinError(f"{path}: table {name} is cut short or has uneven rows; delete it and make it again")
    types = dict.fromkeys(_TEXT & set(COLUMNS.get(name, [])), str)
    frame = pd.read_csv(StringIO(text), dtype=types, keep_default_na=False, na_values=["", "nan"])
    return check(frame, name, path)


def collect(parts: Iterable[str | Path], name: str, methods: Sequence[str] | None = None) -> pd.DataFrame:
    """Concatenate the `parts` of table `name` (`files.write_sealed`), sorted by `KEYS[name]`.

    Methods come in the order of `methods`, the rest after them by name; "merged" before the models, and models by
    number; layers as the parts have them. Otherwise the order of the parts does not matter.

    Raises:
        OnebasinError: no parts; a part is not as it was written, or not of the table; two parts hold the same row.
    """
    frames = [_parsed(read_sealed(part), part, name) for part in parts]
    if not frames:
        raise OnebasinError(f"table {name}: no parts to collect; ask for at least one experiment, method and trial")
    # parts without rows have no types of their own to give
    frame = pd.concat([part for part in frames if len(part)] or frames[:1], ignore_index=True)
    return _ordered(check(frame, name), name, list(methods or []))


def _ordered(frame: pd.DataFrame, name: str, methods: list[str]) -> pd.DataFrame:
    def rank(column: pd.Series) -> pd.Series:
        if column.name == "method":
            places = {method: place for place, method in enumerate(methods)}
            ordered = sorted(column.unique(), key=lambda method: (places.get(method, len(places)), method))
        elif column.name in ("model", "model_a", "model_b"):
            ordered = sorted(column.unique(), key=_model_order)
        elif column.name == "layer":
            ordered = list(column.unique())  # as the signal passes them
        else:
            return column
        return column.map({value: place for place, value in enumerate(ordered)})

    return frame.sort_values(KEYS[name], key=rank, ignore_index=True)


def _model_order(model: str) -> tuple[bool, float, str]:
    return model != "merged", int(model) if model.isdecimal() else math.inf, model
