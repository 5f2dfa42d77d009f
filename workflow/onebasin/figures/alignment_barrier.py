"""Barrier against alignment: are models that are aligned those that connect?"""

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from onebasin.figures import style
from onebasin.figures.alignment_layers import GAMMA

RUN = ["method", "count", "trial"]


@style.paper_style
def alignment_barrier(tables: style.Tables) -> Figure:
    """Mean barrier between the permuted models against their mean R, of all singular vectors and of the dominant ones.

    A point is a method, number of models and trial; the larger it is, the more models.
    """
    barriers, split = style.on_first_split(style.needed(tables, "pairwise"))
    aligned = style.needed(tables, "alignment")
    aligned = aligned[(aligned["layer"] == "total") & (aligned["model_b"].astype(str) != "merged")]
    means = aligned.groupby([*RUN, "gamma"], as_index=False)["alignment"].mean()
    table = means.merge(barriers.groupby(RUN, as_index=False)["barrier_loss"].mean(), on=RUN)
    gammas, counts = np.array(sorted(table["gamma"].unique())), sorted(table["count"].unique())
    chosen = sorted({gammas[0], gammas[np.abs(gammas - GAMMA).argmin()]})
    sizes = dict(zip(counts, np.linspace(14, 70, len(counts)), strict=True))
    figure, axes = style.new_figure(1, len(chosen), height=2.8, sharey=True)
    for panel, gamma in zip(axes, chosen, strict=True):
        rows = table[table["gamma"] == gamma]
        for method in style.methods_in(rows):
            look, own = style.method_style(method), rows[rows["method"] == method]
            panel.scatter(
                own["alignment"], own["barrier_loss"], s=own["count"].map(sizes), marker=look.marker,
                color=look.colour, edgecolors="white", linewidths=0.5, alpha=0.9, zorder=3,
            )  # fmt: skip
        panel.set_xlabel(rf"mean alignment $R$ of two models, $\gamma$ = {gamma:g}")
        style.barrier_axis(panel, table["barrier_loss"], f"mean {split} loss barrier (nats)")
    style.share_y_label(figure, axes)
    handles = style.method_handles(style.methods_in(table), line=False)
    style.legend_above(figure, [*handles, *(_size(count, size) for count, size in sizes.items())], handlelength=1)
    return figure


def _size(count: int, area: float) -> Artist:
    return Line2D([], [], linestyle="", marker="o", color="0.75", markersize=area**0.5, label=f"$N$ = {count}")
