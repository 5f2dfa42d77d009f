"""The order of experts that methods find: where it stands among all orders, and what is left of the barrier."""

from typing import Any

import seaborn as sns
from matplotlib.figure import Figure

from onebasin.figures import style

DOTS: Any = {"alpha": 0.6, "size": 3, "linewidth": 0, "zorder": 2}


@style.paper_style
def expert_order(tables: style.Tables) -> Figure:
    """Place among all orders and share of the barrier, by experiment and method; a dot a trial, a marker the mean."""
    table, split = style.on_first_split(style.needed(tables, "expert_order"))
    table = table.assign(
        variant=style.variants_of(table, "expert_order"), place=(table["rank"] - 1) / (table["orders"] - 1)
    )
    table["remaining"] *= 100
    names, methods = list(dict.fromkeys(table["variant"])), style.methods_in(table)
    varied = style.varied_in(table.drop(columns=["variant", "place"]), "expert_order")
    figure, panels = style.new_figure(2, 1, height=3.8 + 2 * style.room_for(names))
    palette = {name: style.method_style(name).colour for name in methods}
    shared: Any = {"x": "variant", "hue": "method", "order": names, "hue_order": methods, "palette": palette}
    what = {
        "place": "place among all orders\n(0: the best, 1: the worst)",
        "remaining": f"{split} loss barrier left,\nof that as trained (%)",
    }
    for axes, (column, label) in zip(panels, what.items(), strict=True):
        sns.stripplot(table, y=column, ax=axes, dodge=True, jitter=False, legend=False, **DOTS, **shared)
        width = 0.8 / len(methods)
        for rank, method in enumerate(methods):
            means = table[table["method"] == method].groupby("variant")[column].mean()
            places = [names.index(name) + width * (rank - (len(methods) - 1) / 2) for name in means.index]
            look = style.method_style(method)
            axes.scatter(places, means, color=look.colour, marker=look.marker, s=26, edgecolor="white", zorder=4)
        style.variant_axis(axes, names, varied)
        axes.set_ylabel(label)
        axes.set_ylim(bottom=min(0, table[column].min()) - 0.02)
    style.legend_above(figure, style.method_handles(methods, line=False))
    return figure
