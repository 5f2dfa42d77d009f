"""Merged models against the number of models: does averaging keep the loss of the originals?"""

from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from onebasin.figures import style

ENSEMBLE: dict[str, Any] = {"color": "black", "linestyle": (0, (1, 1.5)), "linewidth": 1.2, "marker": "+"}


@style.paper_style
def merged(tables: style.Tables) -> Figure:
    """Loss and accuracy of merged models, test and train, with their parents and the ensemble of these beside them.

    Lines are means over trials, bands one standard deviation.
    """
    table = style.needed(tables, "merged")
    panels = [(quantity, split) for quantity in style.told(table) for split in style.splits_in(table)]
    rows = len(panels) // 2
    figure, axes = style.new_figure(rows, 2, height=0.4 + 1.95 * rows)
    for panel, (quantity, split) in zip(axes, panels, strict=True):
        _draw_panel(panel, table[table["split"] == split], quantity, split)
    handles = [*style.method_handles(style.methods_in(table)), style.parents_handle(), _ensemble_handle()]
    style.legend_above(figure, handles)
    return figure


def _draw_panel(axes: Axes, table: pd.DataFrame, quantity: str, split: str) -> None:
    scale, unit = style.QUANTITIES[quantity]
    columns = [quantity, f"parents_{quantity}", f"ensemble_{quantity}"]
    table = table.assign(**{column: scale * table[column] for column in columns})
    # the same parents stand behind every method: one value a trial, so that the band is a deviation over trials
    shared = table.groupby(["count", "trial"], as_index=False)[columns[1:]].mean()
    style.parents_band(axes, shared, columns[1])
    ensemble = shared.groupby("count")[columns[2]].mean()
    axes.plot(ensemble.index.to_numpy(), ensemble.to_numpy(), zorder=2.5, **ENSEMBLE)
    style.method_lines(axes, style.side_by_side(table), "count", quantity)
    style.count_axis(axes, table["count"])
    axes.set_ylabel(f"{split} {quantity} ({unit})")
    fit_axis = style.positive_axis if quantity == "loss" else style.accuracy_axis
    fit_axis(axes, table[columns].to_numpy(float).ravel())


def _ensemble_handle() -> Artist:
    return Line2D([], [], label="ensemble", **ENSEMBLE)
