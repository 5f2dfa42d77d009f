"""Tables: what the jobs measure, collected into one CSV file a kind, summarised over trials, set for readers.

`COLUMNS` is the contract between the jobs that measure, the claims that judge and the figures that draw. Losses are in
nats and accuracies in [0, 1] everywhere but in the formatted tables, which show accuracies in per cent. A trial is an
independent draw of models and of the search's randomness, so means and sample standard deviations are over trials; what
a trial holds several of (pairs, parents) is averaged within it first. Nothing is measured or judged here.
"""

import csv
import html
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from onebasin.errors import OnebasinError
from onebasin.files import replacing, write_text

_RUN = ["experiment", "method", "count", "trial"]

# what names a row, in the order of sorting; no two rows of a table share it
KEYS: dict[str, list[str]] = {
    "merged": [*_RUN, "split"],
    "pairwise": [*_RUN, "split", "model_a", "model_b"],
    "sharpness": [*_RUN, "model", "split", "estimator"],
    "timing": _RUN,
    "top_eigenvalue": [*_RUN, "model", "split"],
    "acceleration": [*_RUN, "warm_start"],
    "interpolation": [*_RUN, "split", "model_a", "model_b", "weight_b"],
    "landscape": [*_RUN, "split", "point", "x", "y"],
    "claims": ["paper", "claim", "experiment"],
}

# what a row holds
_VALUES: dict[str, list[str]] = {
    "merged": [
        *("loss", "accuracy", "parents_loss", "parents_accuracy", "barrier_loss", "barrier_accuracy"),
        *("ensemble_loss", "ensemble_accuracy"),
    ],
    "pairwise": ["barrier_loss", "barrier_accuracy"],
    "sharpness": ["value", "standard_error", "probes"],
    "timing": ["seconds", "steps", "peak_memory_mb"],
    "top_eigenvalue": ["value", "residual"],
    "acceleration": ["steps", "assignments", "row_scans", "objective", "identical"],
    "interpolation": ["loss", "accuracy"],
    "landscape": ["loss", "accuracy"],
}

COLUMNS: dict[str, list[str]] = {
    **{name: KEYS[name] + values for name, values in _VALUES.items()},
    "claims": ["paper", "claim", "statement", "experiment", "verdict", "effect", "low", "high", "detail"],
}

_TEXT = {"experiment", "method", "split", "model", "model_a", "model_b", "estimator", "point"} | {
    *("paper", "claim", "statement", "verdict", "detail")
}
_TRUTH = {"warm_start", "identical"}
_WHOLE = {"count", "trial", "steps", "assignments", "row_scans", "probes"}

# what a summary keeps apart, beside experiment, method and count
_APART: dict[str, list[str]] = {
    "merged": ["split"],
    "pairwise": ["split"],
    "sharpness": ["split", "estimator", "role"],
    "timing": [],
    "top_eigenvalue": ["split", "role"],
    "acceleration": ["warm_start"],
}

QUANTITIES: dict[str, list[str]] = {
    **{name: _VALUES[name] for name in ("merged", "pairwise", "timing", "acceleration")},
    "sharpness": ["value"],
    "top_eigenvalue": ["value"],
}

_PER_CENT = {"accuracy", "parents_accuracy", "barrier_accuracy", "ensemble_accuracy", "identical"}
_DECIMALS = {"loss": 3, "parents_loss": 3, "ensemble_loss": 3, "barrier_loss": 4}
_UNITS = {"seconds": "time (s)", "peak_memory_mb": "peak memory (MB)", "identical": "identical (% of trials)"}


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
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8 text"
        raise OnebasinError(f"{path}: table {name} cannot be read ({why}); make it again") from error
    if not text.strip():
        raise OnebasinError(f"{path}: empty, where table {name} should be; delete it and make it again")
    widths = [len(row) for row in csv.reader(StringIO(text, newline="")) if row]
    if not text.endswith("\n") or len(set(widths)) > 1:
        raise OnebasinError(f"{path}: table {name} is cut short or has uneven rows; delete it and make it again")
    types = dict.fromkeys(_TEXT & set(COLUMNS.get(name, [])), str)
    frame = pd.read_csv(StringIO(text), dtype=types, keep_default_na=False, na_values=["", "nan"])
    return check(frame, name, path)


def write_csv(frame: pd.DataFrame, path: str | Path, name: str | None = None) -> None:
    """Write a table or a summary as CSV, atomically: nine significant digits, NaN as an empty cell, no index.

    The same frame gives the same bytes on every machine. With `name`, the frame is checked as that table first.

    Raises:
        OnebasinError: the file cannot be written; what `check` raises.
    """
    if name is not None:
        frame = check(frame, name, path)
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.9g", lineterminator="\n", encoding="utf-8")


def collect(parts: Iterable[str | Path], name: str, methods: Sequence[str] | None = None) -> pd.DataFrame:
    """Concatenate the CSV files `parts` of table `name`, sorted by `KEYS[name]`.

    Methods come in the order of `methods`, the rest after them by name; "merged" before the models, and models by
    number. The order of the parts does not matter.

    Raises:
        OnebasinError: no parts; a part cannot be read (`read_csv`); two parts hold the same row.
    """
    frames = [read_csv(part, name) for part in parts]
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
        else:
            return column
        return column.map({value: place for place, value in enumerate(ordered)})

    return frame.sort_values(KEYS[name], key=rank, ignore_index=True)


def _model_order(model: str) -> tuple[bool, float, str]:
    return model != "merged", int(model) if model.isdecimal() else math.inf, model


def summarise(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Mean and sample standard deviation over trials of table `name`, in the units of the table.

    Returns:
        One row for each experiment, method, count and, where the table has them, split, estimator, role ("merged" or
        "parents") and warm start; columns `<quantity>_mean`, `<quantity>_sd` and `trials`. Pairs and parents are
        averaged within a trial first. A NaN in a trial makes the mean NaN; the deviation of one trial is NaN.

    Raises:
        OnebasinError: the table is not one that has a summary, or not as `COLUMNS` has it.
    """
    if name not in QUANTITIES:
        raise OnebasinError(f"table '{name}' has no summary; these have: {', '.join(QUANTITIES)}")
    frame = check(frame, name)
    if "model" in frame:
        frame["role"] = frame["model"].eq("merged").map({True: "merged", False: "parents"})
    groups = ["experiment", "method", "count", *_APART[name]]
    quantities = QUANTITIES[name]
    frame[quantities] = frame[quantities].astype("float64")
    trials = (
        frame.groupby([*groups, "trial"], sort=False)[quantities].agg(_mean).reset_index().groupby(groups, sort=False)
    )
    columns = {f"{quantity}_mean": trials[quantity].agg(_mean) for quantity in quantities}
    columns |= {f"{quantity}_sd": trials[quantity].agg(_deviation) for quantity in quantities}
    ordered = [f"{quantity}_{statistic}" for quantity in quantities for statistic in ("mean", "sd")]
    return pd.DataFrame(columns)[ordered].assign(trials=trials.size()).reset_index()


# pandas would leave a NaN out, and a diverged trial must not vanish from a mean
def _mean(values: pd.Series) -> float:
    return float(values.mean(skipna=False))


def _deviation(values: pd.Series) -> float:
    return float(values.std(ddof=1, skipna=False))


def write_markdown(summary: pd.DataFrame, name: str, path: str | Path, quantities: Sequence[str] | None = None) -> None:
    """Write a summary of table `name` as Markdown: a section for each experiment, split and estimator.

    Each section has one row a method and count and cells `mean ± sample standard deviation`, or the value alone where
    there is one trial; accuracies in per cent. The header says the number n of trials. `quantities`, of
    `QUANTITIES[name]`, chooses the columns (all of them).

    Raises:
        OnebasinError: the file cannot be written, or a quantity is unknown.
    """
    parts = [
        f"## {title}\n\n{_CAPTION}\n\n{cells.to_markdown(index=False, disable_numparse=True)}\n"
        for title, cells in _sections(summary, name, quantities)
    ]
    write_text(path, "\n".join(parts) or "No data.\n")


def write_latex(summary: pd.DataFrame, name: str, path: str | Path, quantities: Sequence[str] | None = None) -> None:
    r"""Write a summary of table `name` as LaTeX tables (needs `\usepackage{booktabs}`), as `write_markdown` does.

    Raises:
        OnebasinError: the file cannot be written, or a quantity is unknown.
    """
    parts = []
    for title, cells in _sections(summary, name, quantities):
        typeset = cells.map(_latex_cell).set_axis([_latex_text(heading) for heading in cells.columns], axis=1)
        caption = f"{_latex_text(title)}. {_latex_text(_CAPTION)}"
        form = "lr" + "r" * (len(cells.columns) - 2)
        parts.append(typeset.to_latex(index=False, escape=False, caption=caption, column_format=form))
    write_text(path, "\n".join(parts) or "% no data\n")


def write_html(summary: pd.DataFrame, name: str, path: str | Path, quantities: Sequence[str] | None = None) -> None:
    """Write a summary of table `name` as one HTML page, as `write_markdown` does.

    Raises:
        OnebasinError: the file cannot be written, or a quantity is unknown.
    """
    parts = [
        f"<h3>{html.escape(title)}</h3>\n<p>{_CAPTION}</p>\n{cells.to_html(index=False, border=0)}"
        for title, cells in _sections(summary, name, quantities)
    ]
    write_text(path, _PAGE.format(body="\n".join(parts) or "<p>No data.</p>"))


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><style>
body {{ font: 14px sans-serif; margin: 1.5em }}
th, td {{ padding: 0.25em 0.7em; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd }}
th:first-child, td:first-child {{ text-align: left }}
</style></head><body>
{body}
</body></html>
"""
_NUMBER = re.compile(r"-?[\d.]+( ± [\d.]+)?")
_CAPTION = "Mean ± sample standard deviation over n trials."


def _sections(summary: pd.DataFrame, name: str, quantities: Sequence[str] | None) -> Iterator[tuple[str, pd.DataFrame]]:
    chosen = list(quantities or QUANTITIES[name])
    unknown = [quantity for quantity in chosen if quantity not in QUANTITIES[name]]
    if unknown:
        known = ", ".join(QUANTITIES[name])
        raise OnebasinError(f"table {name} has no quantity {', '.join(unknown)} to show; choose from {known}")
    apart = ["experiment", *(column for column in _APART[name] if column in ("split", "estimator"))]
    for values, section in summary.groupby(apart, sort=False):
        place = {column: str(value) for column, value in zip(apart, values, strict=True)}
        title = f"{place['experiment']}: {name.replace('_', ' ')}"
        title += f", {place['split']} split" if "split" in place else ""
        title += f", {place['estimator'].replace('_', ' ')}" if "estimator" in place else ""
        yield title, _cells(section, name, chosen)


def _cells(section: pd.DataFrame, name: str, quantities: list[str]) -> pd.DataFrame:
    side_by_side = next((column for column in _APART[name] if column in ("role", "warm_start")), None)
    labels = section[side_by_side].unique() if side_by_side else [None]
    rows = pd.MultiIndex.from_frame(section[["method", "count"]].drop_duplicates())
    columns = {}
    for quantity in quantities:
        for label in labels:
            part = section[section[side_by_side] == label] if side_by_side else section
            numbers = zip(part[f"{quantity}_mean"], part[f"{quantity}_sd"], strict=True)
            index = pd.MultiIndex.from_frame(part[["method", "count"]])
            cells = pd.Series([_cell(mean, deviation, quantity) for mean, deviation in numbers], index)
            columns[_heading(quantity, label)] = cells.reindex(rows, fill_value="")
    low, high = section["trials"].min(), section["trials"].max()
    trials = f"n = {low}" if low == high else f"n = {low} to {high}"
    frame = pd.DataFrame(columns, index=rows).reset_index().rename(columns={"method": f"method ({trials})"})
    return frame.astype(str)


def _heading(quantity: str, label: Any) -> str:
    heading = _UNITS.get(quantity, quantity.replace("_", " ") + (" (%)" if quantity in _PER_CENT else ""))
    if label is None:
        return heading
    label = {True: "warm start", False: "cold start"}.get(label, label)
    return str(label) if quantity == "value" else f"{heading}, {label}"


def _cell(mean: float, deviation: float, quantity: str) -> str:
    scale = 100 if quantity in _PER_CENT else 1
    decimals = 2 if quantity in _PER_CENT else _DECIMALS.get(quantity, _three_digits(mean))
    cell = f"{scale * mean:.{decimals}f}"
    return cell if math.isnan(deviation) else f"{cell} ± {scale * deviation:.{decimals}f}"


def _three_digits(number: float) -> int:
    """The decimals that show three significant digits of `number`, at most twelve."""
    if not math.isfinite(number) or number == 0:
        return 2
    return min(12, max(0, 2 - math.floor(math.log10(abs(number)))))


def _latex_cell(cell: str) -> str:
    return f"${cell.replace('±', chr(92) + 'pm')}$" if _NUMBER.fullmatch(cell) else _latex_text(cell)


def _latex_text(text: str) -> str:
    marks = {ord(mark): f"\\{mark}" for mark in "&%$#_{}"}
    marks |= {ord("±"): r"$\pm$", ord("\\"): r"\textbackslash{}"}
    marks |= {ord("~"): r"\textasciitilde{}", ord("^"): r"\textasciicircum{}"}
    return text.translate(marks)
