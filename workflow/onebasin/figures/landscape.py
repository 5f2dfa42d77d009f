"""The loss on the plane through three models: separate basins before permutation, one basin after it."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from onebasin.figures import style

LEVELS = 17
MODEL: dict[str, Any] = {
    "marker": "o",
    "markersize": 8,
    "markerfacecolor": "white",
    "markeredgecolor": "black",
    "linestyle": "",
}
MEAN: dict[str, Any] = {
    "marker": "*",
    "markersize": 10,
    "markerfacecolor": "#ffb000",
    "markeredgecolor": "black",
    "linestyle": "",
}


@style.paper_style
def landscape(tables: style.Tables) -> Figure:
    """Loss on the plane through three models, one panel a method, with the models and their mean marked.

    It shows the first trial at the largest number of models that the table holds. `naive` is the plane before
    permutation. Axes are distances between parameters; the models are numbered by their seed.
    """
    table, split = style.on_first_split(style.needed(tables, "landscape"))
    table, _ = style.at_largest_count(table)
    table = table[table["trial"] == table["trial"].min()]
    table = table.assign(point=table["point"].astype(str))
    methods = style.methods_in(table)
    norm, levels = _scale(table.loc[table["point"] == "grid", "loss"].to_numpy(float))
    figure, axes = style.panel_grid(len(methods), at_most=4, spare=0.45)
    for panel, method in zip(axes, methods, strict=True):
        rows = table[table["method"] == method]
        _draw_plane(panel, rows[rows["point"] == "grid"], norm, levels)
        _draw_models(panel, rows[rows["point"] != "grid"])
        panel.set_title("naive (not permuted)" if method == "naive" else style.method_label(method))
    figure.supxlabel("distance in parameter space ($L_2$ norm)")
    figure.supylabel("distance ($L_2$ norm)")
    style.colour_bar(figure, axes, ScalarMappable(norm, style.SEQUENTIAL), f"{split} loss (nats)")
    style.legend_above(figure, _handles(), handlelength=1)
    return figure


def _scale(losses: np.ndarray) -> tuple[LogNorm, np.ndarray]:
    """The colours and contour levels that all panels share; a loss of zero takes the lowest."""
    losses = losses[np.isfinite(losses) & (losses > 0)]
    low, high = (losses.min(), losses.max()) if losses.size else (1.0, 1.0)
    levels = np.geomspace(low, max(high, 1.5 * low), LEVELS)
    return LogNorm(levels[0], levels[-1]), levels


def _draw_plane(axes: Axes, grid: pd.DataFrame, norm: LogNorm, levels: np.ndarray) -> None:
    # coordinates that went through text or arithmetic must still fall together
    plane = grid.assign(x=grid["x"].round(6), y=grid["y"].round(6)).pivot_table(index="y", columns="x", values="loss")
    x, y = plane.columns.to_numpy(float), plane.index.to_numpy(float)
    losses = np.ma.masked_invalid(plane.to_numpy(float)).clip(levels[0], levels[-1])
    filled = axes.contourf(x, y, losses, levels=levels, norm=norm, cmap=style.SEQUENTIAL)
    filled.set(edgecolor="face", linewidth=0.3)  # or PDF viewers show hairlines between the levels
    axes.contour(x, y, losses, levels=levels[::2], colors="white", linewidths=0.3, alpha=0.7)
    axes.set_aspect("equal")
    axes.grid(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


def _draw_models(axes: Axes, points: pd.DataFrame) -> None:
    models = points[points["point"] != "merged"]
    models = models.sort_values("point", key=lambda seeds: seeds.map(style.seed_order))
    for rank, (x, y) in enumerate(zip(models["x"], models["y"], strict=True), start=1):
        axes.plot(x, y, **MODEL)
        axes.annotate(str(rank), (x, y), ha="center", va="center_baseline", fontsize=7, color="black")
    mean = points[points["point"] == "merged"]
    axes.plot(mean["x"].to_numpy(), mean["y"].to_numpy(), **MEAN)


def _handles() -> list[Artist]:
    return [Line2D([], [], label="the three models", **MODEL), Line2D([], [], label="their mean", **MEAN)]
