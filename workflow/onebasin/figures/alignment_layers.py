"""Alignment by layer: which layers' singular vectors does matching align?"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from onebasin.figures import style
from onebasin.figures.alignment import BEFORE

GAMMA = 0.3  # the paper's cutoff; of those that were measured, the nearest to it is shown


@style.paper_style
def alignment_layers(tables: style.Tables) -> Figure:
    """R of each layer between two permuted models, of all singular vectors and of the dominant ones.

    At the smallest number of models. Lines are means over pairs and trials, bands one standard deviation.
    """
    table, count = style.at_smallest_count(style.needed(tables, "alignment"))
    layers = [str(layer) for layer in dict.fromkeys(table["layer"]) if layer != "total"]
    table = table[(table["layer"] != "total") & (table["model_b"].astype(str) != "merged")]
    table = table.assign(place=table["layer"].map({layer: place for place, layer in enumerate(layers)}))
    gammas = np.array(sorted(table["gamma"].unique()))
    chosen = sorted({gammas[0], gammas[np.abs(gammas - GAMMA).argmin()]})
    figure, axes = style.new_figure(1, len(chosen), height=2.5 + style.room_for(layers), sharey=True)
    for panel, gamma in zip(axes, chosen, strict=True):
        rows = table[table["gamma"] == gamma]
        style.method_lines(panel, rows, "place", "alignment")
        before = rows.groupby("place")["alignment_before"].mean()
        panel.plot(before.index.to_numpy(), before.to_numpy(), zorder=4, **BEFORE)
        panel.set(title=rf"$\gamma$ = {gamma:g}, $N$ = {count}", ylabel="")
        style.layer_axis(panel, layers)
    figure.supylabel("alignment $R$")
    handles = style.method_handles(style.methods_in(table))
    style.legend_above(figure, [*handles, Line2D([], [], label="before matching", **BEFORE)])
    return figure
