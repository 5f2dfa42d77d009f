"""Summaries of tables: mean and sample standard deviation over trials, set as Markdown, LaTeX and HTML.

What a trial holds several of (pairs, parents) is averaged within it first. Losses are in nats; formatted tables show
accuracies in per cent.
"""

import html
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from onebasin.errors import OnebasinError
from onebasin.storage.files import write_text
from onebasin.tables.collect import check
from onebasin.tables.record import Table, records, table


def summarise(frame: pd.DataFrame, name: str, varied: Sequence[str] = ()) -> pd.DataFrame:
    """Mean and sample standard deviation over trials of table `name`, in the units of the table.

    Returns:
        One row for each experiment, method and count, where the table has these, and for what its record keeps apart
        (split, estimator, gamma, role (such as "merged" or "parents"), warm start, what a study has `varied`); columns
        `<quantity>_mean`, `<quantity>_sd` and `trials`. Pairs and parents are averaged within a trial first. A NaN in a
        trial makes the mean NaN; the deviation of one trial is NaN.

    Raises:
        OnebasinError: the table is not one that has a summary, or not as its record has it.
    """
    record = summarised(name, varied)
    frame = check(frame, name, varied=varied)
    if "model" in frame:
        frame["role"] = frame["model"].map(lambda model: "parents" if model.isdecimal() else model)
    groups = ["experiment", *_searched(record), *_apart(record)]
    quantities = list(record.shown)
    frame[quantities] = frame[quantities].astype("float64")
    trials = (
        frame.groupby([*groups, "trial"], sort=False)[quantities].agg(_mean).reset_index().groupby(groups, sort=False)
    )
    columns = {f"{quantity}_mean": trials[quantity].agg(_mean) for quantity in quantities}
    columns |= {f"{quantity}_sd": trials[quantity].agg(_deviation) for quantity in quantities}
    ordered = [f"{quantity}_{statistic}" for quantity in quantities for statistic in ("mean", "sd")]
    return pd.DataFrame(columns)[ordered].assign(trials=trials.size()).reset_index()


def summarised(name: str, varied: Sequence[str] = ()) -> Table:
    """The record of a table that has a summary.

    Raises:
        OnebasinError: there is no such table, or it has none.
    """
    record = table(name, varied)
    if not record.words:
        known = ", ".join(other for other, found in records().items() if found.get("words"))
        raise OnebasinError(f"table '{name}' has no summary; these have: {known}")
    return record


def _searched(record: Table) -> list[str]:
    """The keys of what a method found, if the table is about that."""
    return [key for key in ("method", "count") if key in record.keys]


def _apart(record: Table) -> list[str]:
    """What a summary keeps apart, beside experiment, method and count."""
    return [*record.sections, *record.rows, *([record.beside] if record.beside else [])]


# pandas would leave a NaN out, and a diverged trial must not vanish from a mean
def _mean(values: pd.Series) -> float:
    return float(values.mean(skipna=False))


def _deviation(values: pd.Series) -> float:
    return float(values.std(ddof=1, skipna=False))


def write_markdown(
    summary: pd.DataFrame,
    name: str,
    path: str | Path,
    quantities: Sequence[str] | None = None,
    varied: Sequence[str] = (),
) -> None:
    """Write a summary of table `name` as Markdown: a section for each experiment, split and estimator.

    Each section has one row a method, count and, where the table has it, gamma, and cells `mean ± sample standard
    deviation`, or the value alone where there is one trial; accuracies in per cent. The header says the number n of
    trials. `quantities` chooses the columns (all that the table's record shows); `varied` are those of a study.

    Raises:
        OnebasinError: the file cannot be written, or a quantity is unknown.
    """
    parts = [
        f"## {title}\n\n{_CAPTION}\n\n{cells.to_markdown(index=False, disable_numparse=True)}\n"
        for title, cells in _sections(summary, summarised(name, varied), quantities)
    ]
    write_text(path, "\n".join(parts) or "No data.\n")


def write_latex(
    summary: pd.DataFrame,
    name: str,
    path: str | Path,
    quantities: Sequence[str] | None = None,
    varied: Sequence[str] = (),
) -> None:
    r"""Write a summary of table `name` as LaTeX tables (needs `\usepackage{booktabs}`), as `write_markdown` does.

    Raises:
        OnebasinError: the file cannot be written, or a quantity is unknown.
    """
    parts = []
    for title, cells in _sections(summary, summarised(name, varied), quantities):
        typeset = cells.map(_latex_cell).set_axis([_latex_text(heading) for heading in cells.columns], axis=1)
        caption = f"{_latex_text(title)}. {_latex_text(_CAPTION)}"
        form = "lr" + "r" * (len(cells.columns) - 2)
        parts.append(typeset.to_latex(index=False, escape=False, caption=caption, column_format=form))
    write_text(path, "\n".join(parts) or "% no data\n")


def write_html(
    summary: pd.DataFrame,
    name: str,
    path: str | Path,
    quantities: Sequence[str] | None = None,
    varied: Sequence[str] = (),
) -> None:
    """Write a summary of table `name` as one HTML page, as `write_markdown` does.

    Raises:
        OnebasinError: the file cannot be written, or a quantity is unknown.
    """
    parts = [
        f"<h3>{html.escape(title)}</h3>\n<p>{_CAPTION}</p>\n{cells.to_html(index=False, border=0)}"
        for title, cells in _sections(summary, summarised(name, varied), quantities)
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


def _sections(
    summary: pd.DataFrame, record: Table, quantities: Sequence[str] | None
) -> Iterator[tuple[str, pd.DataFrame]]:
    chosen = list(quantities or record.shown)
    unknown = [quantity for quantity in chosen if quantity not in record.shown]
    if unknown:
        known = ", ".join(record.shown)
        raise OnebasinError(f"table {record.name} has no quantity {', '.join(unknown)} to show; choose from {known}")
    apart = ["experiment", *record.sections]
    for values, section in summary.groupby(apart, sort=False):
        place = {column: str(value) for column, value in zip(apart, values, strict=True)}
        title = f"{place.pop('experiment')}: {record.name.replace('_', ' ')}"
        for column, value in place.items():
            title += f", {value.replace('_', ' ')}" + (" split" if column == "split" else "")
        yield title, _cells(section, record, chosen)


def _cells(section: pd.DataFrame, record: Table, quantities: list[str]) -> pd.DataFrame:
    side_by_side = record.beside
    labels = section[side_by_side].unique() if side_by_side else [None]
    keys = [*_searched(record), *record.rows]
    rows = pd.MultiIndex.from_frame(section[keys].drop_duplicates())
    columns = {}
    for quantity in quantities:
        if len(quantities) > 1 and section[f"{quantity}_mean"].isna().all():
            continue  # what the experiment's objective does not say, such as an accuracy
        for label in labels:
            part = section[section[side_by_side] == label] if side_by_side else section
            numbers = zip(part[f"{quantity}_mean"], part[f"{quantity}_sd"], strict=True)
            index = pd.MultiIndex.from_frame(part[keys])
            cells = pd.Series([_cell(mean, deviation, quantity, record) for mean, deviation in numbers], index)
            columns[_heading(quantity, label, record)] = cells.reindex(rows, fill_value="")
    low, high = section["trials"].min(), section["trials"].max()
    trials = f"n = {low}" if low == high else f"n = {low} to {high}"
    frame = pd.DataFrame(columns, index=rows).reset_index().rename(columns={keys[0]: f"{keys[0]} ({trials})"})
    return frame.astype(str)


def _heading(quantity: str, label: Any, record: Table) -> str:
    heading = record.headings.get(
        quantity, quantity.replace("_", " ") + (" (%)" if quantity in record.per_cent else "")
    )
    if label is None:
        return heading
    label = {True: "warm start", False: "cold start"}.get(label, label)
    return str(label) if quantity == "value" else f"{heading}, {label}"


def _cell(mean: float, deviation: float, quantity: str, record: Table) -> str:
    scale = 100 if quantity in record.per_cent else 1
    decimals = 2 if quantity in record.per_cent else record.decimals.get(quantity, _three_digits(mean))
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
