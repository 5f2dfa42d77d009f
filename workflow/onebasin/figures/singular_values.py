"""Singular values of every layer in all models: are they a matter of the architecture, not of the seed?"""

import itertools

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from onebasin.figures import style

SHADES = ("#332288", "#0077bb", "#44aa99", "#d55e00", "0.3")  # where lines part, neighbours are told apart


@style.paper_style
def singular_values(tables: style.Tables) -> Figure:
    """Singular values against their rank, a panel a layer and a line a model."""
    table = style.needed(tables, "singular_values")
    layers = style.some_layers(table)
    figure, axes = style.panel_rows(len(layers), at_most=4, height=1.65, spare=0.45)
    for panel, layer in zip(axes, layers, strict=True):
        own = table[table["layer"] == layer]
        for shade, (_, model) in zip(itertools.cycle(SHADES), own.groupby("model", sort=False), strict=False):
            panel.plot(model["rank"] + 1, model["value"], color=shade, linewidth=0.7)
        panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        panel.set(title=style.layer_title(layer), ylim=(0, None))
    figure.supxlabel(f"rank of the singular value ({table['model'].nunique()} models, one line each)")
    figure.supylabel("singular value")
    return figure
