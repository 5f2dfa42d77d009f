"""Barriers between the permuted models: do all pairs lie in one basin, or only each with the merged model?"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onebasin.figures import style

GROUP = 0.8  # of the distance between two counts: the width that the boxes of all methods share


@style.paper_style
def pairwise(tables: style.Tables) -> Figure:
    """Loss barriers of all pairs of permuted models, by method and number of models.

    A point is one pair of one trial; boxes hold the middle half, whiskers reach the smallest and largest barrier.
    """
    table, split = style.on_first_split(style.needed(tables, "pairwise"))
    return barrier_boxes(table, f"{split} loss barrier of a pair (nats)")


def barrier_boxes(table: pd.DataFrame, label: str) -> Figure:
    """Boxes and points of the `barrier_loss` of pairs, by `method` and `count`; `label` is that of the y axis."""
    methods, counts = style.methods_in(table), sorted(table["count"].unique())
    figure, (axes,) = style.new_figure(1, 1, height=2.9)
    width = GROUP / len(methods)
    for place, count in enumerate(counts):
        for rank, method in enumerate(methods):
            rows = table[(table["count"] == count) & (table["method"] == method)]
            centre = place - GROUP / 2 + (rank + 0.5) * width
            if not rows.empty:
                _draw_pairs(axes, rows["barrier_loss"].to_numpy(float), centre, width, style.method_style(method))
        if place:
            axes.axvline(place - 0.5, color="0.85", linewidth=0.5)
    style.barrier_axis(axes, table["barrier_loss"], label)
    axes.set_xlabel("number of models $N$")
    axes.set_xticks(range(len(counts)), [str(count) for count in counts])
    axes.set_xlim(-0.5, len(counts) - 0.5)
    axes.tick_params(axis="x", length=0)
    style.legend_above(figure, style.method_handles(methods, line=False), handlelength=1)
    return figure


def _draw_pairs(axes: Axes, values: np.ndarray, centre: float, width: float, look: style.MethodStyle) -> None:
    width = min(width, 0.25)
    # golden-ratio steps spread the points evenly and, unlike random jitter, alike in every run
    offsets = 0.7 * width * ((np.arange(len(values)) * 0.618034 + 0.5) % 1 - 0.5)
    size = min(9.0, max(2.5, 300 / len(values)))
    points: dict[str, Any] = {
        "marker": look.marker,
        "color": look.colour,
        "edgecolors": "white",
        "linewidths": size / 30,
    }
    axes.scatter(centre + offsets, values, s=size, zorder=4 if len(values) <= 30 else 2, **points)
    line: dict[str, Any] = {"color": "0.15", "linewidth": 0.7}
    axes.boxplot(
        [values],
        positions=[centre],
        widths=0.8 * width,
        whis=(0, 100),
        patch_artist=True,
        manage_ticks=False,
        zorder=3,
        boxprops={"facecolor": (look.colour, 0.25), "edgecolor": "0.15", "linewidth": 0.7},
        medianprops={"color": "black", "linewidth": 1.3},
        whiskerprops=line,
        capprops=line,
    )
