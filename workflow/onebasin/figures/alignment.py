"""Alignment against the cutoff: does matching align singular vectors, and the dominant ones above all?"""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from onebasin.figures import style

BEFORE: dict[str, Any] = {"color": "black", "linestyle": (0, (1, 1.5)), "linewidth": 1.2}


@style.paper_style
def alignment(tables: style.Tables) -> Figure:
    """R over all layers against gamma: between two permuted models, and between the merged model and its parents.

    At the smallest and the largest number of models. Lines are means over pairs and trials, bands one standard
    deviation; the dotted line is R before matching.
    """
    table = style.needed(tables, "alignment")
    table = table[table["layer"] == "total"]
    merged = table["model_b"].astype(str) == "merged"
    counts = sorted({table["count"].min(), table["count"].max()})
    figure, axes = style.new_figure(len(counts), 2, height=0.5 + 1.9 * len(counts), sharex=True, sharey=True)
    panels = [(count, of_merged) for count in counts for of_merged in (False, True)]
    for panel, (count, of_merged) in zip(axes, panels, strict=True):
        rows = table[(table["count"] == count) & (merged == of_merged)]
        _draw_panel(panel, rows, "merged model and its parents" if of_merged else "two models", count)
    figure.supxlabel(r"cutoff $\gamma$: vectors with $s_i \geq \gamma s_1$")
    figure.supylabel("alignment $R$")
    handles = style.method_handles(style.methods_in(table))
    style.legend_above(figure, [*handles, Line2D([], [], label="before matching", **BEFORE)])
    return figure


def _draw_panel(axes: Axes, table: pd.DataFrame, what: str, count: int) -> None:
    style.method_lines(axes, table, "gamma", "alignment")
    before = table.groupby("gamma")["alignment_before"].mean().dropna()
    axes.plot(before.index.to_numpy(), before.to_numpy(), zorder=4, **BEFORE)
    axes.set(title=f"{what}, $N$ = {count}", xlabel="", ylabel="")
