"""Singular values of every layer in all models: are they a matter of the architecture, not of the seed?"""

from matplotlib.figure import Figure

from onebasin.figures import style


@style.paper_style
def singular_values(tables: style.Tables) -> Figure:
    """Singular values against their rank, a panel a layer and a line a model."""
    table = style.needed(tables, "singular_values")
    layers = style.some_layers(table)
    columns = min(len(layers), 4)
    rows = -(-len(layers) // columns)
    figure, axes = style.new_figure(rows, columns, height=0.45 + 1.65 * rows)
    for unused in axes[len(layers) :]:
        unused.set_visible(False)
    for panel, layer in zip(axes, layers, strict=False):
        own = table[table["layer"] == layer]
        for place, (_, model) in enumerate(own.groupby("model", sort=False)):
            # shades tell lines apart where they part; where they do not, one is seen
            panel.plot(model["rank"] + 1, model["value"], color=f"C{place % 10}", linewidth=0.6, alpha=0.7)
        style.positive_axis(panel, own["value"], log_beyond=100)
        panel.set_title(f"layer {layer}")
    figure.supxlabel(f"rank of the singular value ({table['model'].nunique()} models, one line each)")
    figure.supylabel("singular value")
    return figure
