"""Barriers in the experiments of a study: which of them connect, and by which method?"""

from typing import Any

import seaborn as sns
from matplotlib.figure import Figure

from onebasin.figures import style

DOTS: Any = {"alpha": 0.45, "size": 2.5, "linewidth": 0}


@style.paper_style
def study(tables: style.Tables) -> Figure:
    """Loss barriers between pairs, by experiment and method, at the largest number of models.

    A dot is a pair of a trial, a marker the mean over all.
    """
    table, split = style.on_first_split(style.needed(tables, "pairwise"))
    table, count = style.at_largest_count(table)
    table = table.assign(variant=style.variants_of(table, "pairwise"))
    names = list(dict.fromkeys(table["variant"]))
    methods = style.methods_in(table)
    figure, [axes] = style.new_figure(1, 1, height=2.6 + style.room_for(names))
    palette = {name: style.method_style(name).colour for name in methods}
    shared: Any = {"x": "variant", "y": "barrier_loss", "hue": "method", "order": names, "hue_order": methods}
    shared |= {"palette": palette, "dodge": True, "legend": False, "ax": axes}
    sns.stripplot(table, jitter=False, zorder=2, **DOTS, **shared)
    width = 0.8 / len(methods)
    for rank, method in enumerate(methods):
        means = table[table["method"] == method].groupby("variant")["barrier_loss"].mean()
        places = [names.index(name) + width * (rank - (len(methods) - 1) / 2) for name in means.index]
        look = style.method_style(method)
        axes.scatter(
            places, means, color=look.colour, marker=look.marker, s=26, edgecolor="white", linewidth=0.6, zorder=4
        )
    style.barrier_axis(axes, table["barrier_loss"], f"{split} loss barrier (nats), $N$ = {count}")
    style.variant_axis(axes, names, style.varied_in(table.drop(columns="variant"), "pairwise"))
    style.legend_above(figure, style.method_handles(methods, line=False))
    return figure
