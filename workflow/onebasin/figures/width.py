"""Averages of networks against their width: what they lose before and after calibration, and their features."""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from onebasin.figures import style

NAMED = 0.22  # of a narrow panel's axis: what the name of a width takes
# columns of the table `calibration`, their names, and the factor that they are shown with
SHOWN = {
    "barrier_accuracy": ("accuracy barrier (%)", 100),
    "barrier_loss": ("loss barrier (nats)", 1),
    "barrier_calibrated": ("calibrated loss\nbarrier (nats)", 1),
    "agreement": ("agreement with\nthe ensemble (%)", 100),
}
CONTROLS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain_residual": ("plain mean", {"color": "black", "linestyle": (0, (1, 1.5)), "linewidth": 1.2}),
    "random_residual": ("random direction", {"color": "black", "linestyle": (0, (4, 2)), "linewidth": 0.8}),
}


@style.paper_style
def width(tables: style.Tables) -> Figure:
    """Barriers of accuracy, loss and calibrated loss, and the agreement with the ensemble, against width.

    A row of panels for every number of models and combination of what else the study varies. Lines are means over
    trials, bands one standard deviation.
    """
    table, _ = style.on_first_split(style.needed(tables, "calibration"))
    places = list(_places(table))
    figure, axes = style.new_figure(len(places), len(SHOWN), height=0.4 + 1.5 * len(places), sharex="col")
    for number, (title, rows) in enumerate(places):
        row = axes[number * len(SHOWN) : (number + 1) * len(SHOWN)]
        row[0].set_title(title, loc="left")
        for panel, (column, (name, factor)) in zip(row, SHOWN.items(), strict=True):
            values = factor * rows[column]
            style.method_lines(panel, rows.assign(value=values), "width", "value")
            panel.set(ylabel=name, xlabel="")
            _width_axis(panel, table["width"])
    figure.supxlabel("width")
    style.legend_above(figure, style.method_handles(style.methods_in(table)))
    return figure


@style.paper_style
def width_features(tables: style.Tables) -> Figure:
    """The residual of exponentially weighted features in the average's worst layer against width, beside two controls.

    A panel for every number of models and combination of what else the study varies. Lines are means over trials, bands
    one standard deviation.
    """
    table, _ = style.on_first_split(style.needed(tables, "lewc"))
    average = table[table["model_b"].astype(str) == "merged"]
    places = list(_places(average))
    figure, axes = style.panel_rows(len(places), 3, 2.0, spare=0.4, sharey=True)
    for panel, (title, rows) in zip(axes, places, strict=True):
        worst = rows.groupby(["method", "width", "trial"], as_index=False)[["residual", *CONTROLS]].max()
        style.method_lines(panel, worst, "width", "residual")
        for column, (_, look) in CONTROLS.items():
            line = worst.groupby("width")[column].mean()
            panel.plot(line.index.to_numpy(), line.to_numpy(), zorder=2, **look)
        panel.set(title=title, xlabel="width", ylabel="distance (of features' norm)", yscale="log")
        style.log_ticks(panel.yaxis, *panel.get_ylim())
        _width_axis(panel, table["width"])
    controls = [Line2D([], [], label=name, **look) for name, look in CONTROLS.values()]
    style.legend_above(figure, [*style.method_handles(style.methods_in(table)), *controls])
    return figure


def _places(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of every number of models and combination of what else the study varies, with their title."""
    columns = list(table.columns)
    others = [column for column in columns[: columns.index("method")] if column not in ("experiment", "width")]
    keys = [*others, "count"]
    for values in itertools.product(*(sorted(table[key].unique()) for key in keys)):
        rows = table[(table[keys] == list(values)).all(axis=1)]
        if len(rows):
            said = [f"{key.replace('_', ' ')} {_said(value)}" for key, value in zip(others, values, strict=False)]
            yield ", ".join([*said, f"$N$ = {values[-1]}"]), rows


def _said(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _width_axis(axes: Axes, widths: Iterable[float]) -> None:
    """A logarithmic axis with a tick at every width that was measured; from the widest on, those are named that fit."""
    ticks = sorted(set(widths))
    named = ticks[-1:]
    for tick in reversed(ticks[:-1]):
        if math.log(named[-1] / tick) >= NAMED * math.log(ticks[-1] / ticks[0]):
            named.append(tick)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{tick:g}" if tick in named else "" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
