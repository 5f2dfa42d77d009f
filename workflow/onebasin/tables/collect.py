"""Tables: what the jobs measured, collected into one CSV file a table.

The records (`tables.record`) are the contract between the jobs that measure, the claims that judge and the figures that
draw. Nothing is measured or judged here.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from onebasin.errors import OnebasinError
from onebasin.storage.files import read_text
from onebasin.storage.parts import read_texts
from onebasin.tables.record import Table, table


def check(frame: pd.DataFrame, name: str, where: str | Path | None = None, varied: Sequence[str] = ()) -> pd.DataFrame:
    """Return the table with the columns of its record, in that order and of their types; a study's, with `varied` ones.

    Model columns become text: "merged" or a seed. `where` names the table in messages, usually its file.

    Raises:
        OnebasinError: there is no table `name`; a column is missing, unknown or of the wrong type; a key is empty; two
            rows have the same key.
    """
    record = table(name, varied)
    where = where or f"table {name}"
    missing = [column for column in record.columns if column not in frame.columns]
    unknown = [str(column) for column in frame.columns if column not in record.columns]
    if missing or unknown:
        wrong = "; ".join(
            f"{what} column {', '.join(found)}" for what, found in [("missing", missing), ("unknown", unknown)] if found
        )
        raise OnebasinError(f"{where}: {wrong}; table {name} has the columns {', '.join(record.columns)}")
    empty = [key for key in record.keys if frame[key].isna().any()]
    if empty:
        raise OnebasinError(
            f"{where}: empty cells in column {', '.join(empty)}; every row needs its {', '.join(empty)}"
        )
    frame = pd.DataFrame({column: _typed(frame[column], record, where) for column in record.columns})
    twice = frame[frame.duplicated(record.keys)]
    if len(twice):
        row = ", ".join(f"{key} {twice.iloc[0][key]}" for key in record.keys)
        raise OnebasinError(f"{where}: more than one row for {row}; give every row of table {name} its own key")
    return frame


def _typed(column: pd.Series, record: Table, where: str | Path) -> pd.Series:
    name = str(column.name)
    if name in record.text:
        return column.fillna("").astype(str)
    if name in record.truth:
        if len(column) and not pd.api.types.is_bool_dtype(column):
            raise OnebasinError(f"{where}: column {name} holds something other than True and False; write it again")
        return column.astype(bool)
    try:
        numbers = pd.to_numeric(column).astype("float64")
    except (ValueError, TypeError):
        if name in record.varied:
            return column.astype(str)
        raise OnebasinError(f"{where}: column {name} holds something that is not a number; write it again") from None
    # one that is missing (the steps of a search that takes none) leaves the whole column floats
    if name in record.whole and numbers.map(math.isfinite).all():
        if not (numbers % 1 == 0).all():
            raise OnebasinError(f"{where}: column {name} holds a number that is not whole; write it again")
        return pd.to_numeric(column).astype("int64")
    return numbers


def read_csv(path: str | Path, name: str, varied: Sequence[str] = ()) -> pd.DataFrame:
    """Read table `name` from the CSV file `path`, checked as by `check`. A header without rows is a table without rows.

    Raises:
        OnebasinError: the file is absent, empty or cut short, or is not the table `name`.
    """
    return _parsed(read_text(path), path, name, varied)


def _parsed(text: str, path: str | Path, name: str, varied: Sequence[str] = ()) -> pd.DataFrame:
    if not text.strip():
        raise OnebasinError(f"{path}: empty, where table {name} should be; delete it and make it again")
    widths = [len(row) for row in csv.reader(StringIO(text, newline="")) if row]
    if not text.endswith("\n") or len(set(widths)) > 1:
        raise OnebasinError(f"{path}: table {name} is cut short or has uneven rows; delete it and make it again")
    record = table(name, varied)
    types = dict.fromkeys({*record.text} & {*record.columns}, str)
    frame = pd.read_csv(StringIO(text), dtype=types, keep_default_na=False, na_values=["", "nan"])
    return check(frame, name, path, varied)


def collect(parts: Iterable[str | Path], name: str, methods: Sequence[str] | None = None) -> pd.DataFrame:
    """Concatenate the `parts` of table `name` (`storage.parts.write_parts`), sorted by its keys.

    Methods come in the order of `methods`, the rest after them by name; "merged" before the models, and models by
    number; layers as the parts have them. Otherwise the order of the parts does not matter.

    Raises:
        OnebasinError: no parts; a part is not as it was written, or not of the table; two parts hold the same row.
    """
    frames = [_parsed(_text(part, name), part, name) for part in parts]
    if not frames:
        raise OnebasinError(f"table {name}: no parts to collect; ask for at least one experiment, method and trial")
    # parts without rows have no types of their own to give
    frame = pd.concat([part for part in frames if len(part)] or frames[:1], ignore_index=True)
    return _ordered(check(frame, name), name, list(methods or []))


def _text(part: str | Path, name: str) -> str:
    texts = read_texts(part)
    if name not in texts:
        raise OnebasinError(f"{part}: has no table {name}; delete it and run again to make it anew")
    return texts[name]


def together(frames: Mapping[str, pd.DataFrame], name: str, varied: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The table `name` of a study: those of its experiments, with a column a varied setting.

    Args:
        varied: what each experiment has in these columns.
    """
    columns = list(next(iter(varied.values())))
    parts = [frames[experiment].assign(**values) for experiment, values in varied.items()]
    return check(pd.concat(parts, ignore_index=True), name, varied=columns)


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

    return frame.sort_values(table(name).keys, key=rank, ignore_index=True)


def _model_order(model: str) -> tuple[bool, float, str]:
    return model != "merged", int(model) if model.isdecimal() else math.inf, model
