"""Networks without symmetries: the line from a model's beginning to its end, and the training of posteriors."""

from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from onebasin.figures import style

LINES: dict[str, Any] = {"train": "-", "test": "--"}


@style.paper_style
def monotonic(tables: style.Tables) -> Figure:
    """Loss and accuracy along the line from the first values to the last, a line an experiment of the study."""
    table, split = style.on_first_split(style.needed(tables, "path"))
    table = table.assign(variant=style.variants_of(table, "path"))
    return _curves(table, "weight", "from beginning (0) to end (1)", {split: "-"}, f"{split} ")


@style.paper_style
def variational(tables: style.Tables) -> Figure:
    """Loss and accuracy of posteriors against the epoch, on training and test data, a colour an experiment."""
    table = style.needed(tables, "variational")
    table = table.assign(variant=style.variants_of(table, "variational"))
    return _curves(table, "epoch", "epoch", LINES)


def _curves(table: pd.DataFrame, x: str, label: str, lines: dict[str, Any], prefix: str = "") -> Figure:
    names = list(dict.fromkeys(table["variant"]))
    looks = style.variant_looks(names)
    told = style.told(table)
    figure, axes = style.new_figure(1, len(told), height=2.6, sharex=True)
    for panel, (quantity, (scale, unit)) in zip(axes, told.items(), strict=True):
        for name in names:
            for split, line in lines.items():
                rows = table[(table["variant"] == name) & (table["split"] == split)]
                _line(panel, rows.assign(value=scale * rows[quantity]), x, color=looks[name], linestyle=line)
        panel.set(xlabel=label, ylabel=f"{prefix}{quantity} ({unit})")
    style.positive_axis(axes[0], table["loss"])
    if "accuracy" in told:
        style.accuracy_axis(axes[1], 100 * table["accuracy"])
    handles = [Line2D([], [], color=looks[name], label=name) for name in names]
    if len(lines) > 1:
        handles += [Line2D([], [], color="0.3", linestyle=line, label=split) for split, line in lines.items()]
    style.legend_above(figure, handles)
    return figure


def _line(axes: Axes, rows: pd.DataFrame, x: str, **look: Any) -> None:
    sns.lineplot(
        rows, x=x, y="value", errorbar="sd", ax=axes, legend=False, err_kws={"alpha": 0.15, "linewidth": 0}, **look
    )
