"""Responses to singular directions: do the dominant ones decide what a layer computes on its typical inputs?"""

from matplotlib.figure import Figure

from onebasin.figures import style


@style.paper_style
def responses(tables: style.Tables) -> Figure:
    """Mean |x . v| of a layer's inputs x with its right singular vectors v, against the singular value.

    A panel a layer; a point is one direction of one model of the first trial.
    """
    table, split = style.on_first_split(style.needed(tables, "responses"))
    table = table[table["trial"] == table["trial"].min()]
    layers = style.some_layers(table)
    figure, axes = style.panel_rows(len(layers), at_most=4, height=1.65, spare=0.45)
    for panel, layer in zip(axes, layers, strict=True):
        own = table[table["layer"] == layer]
        panel.scatter(
            own["singular_value"], own["response"], s=5, color="#0077bb", alpha=0.35, linewidths=0, rasterized=True
        )
        style.positive_axis(panel, own["response"])
        panel.set_title(style.layer_title(layer))
    figure.supxlabel("singular value $s_i$")
    figure.supylabel(f"mean $|x \\cdot v_i|$, {split} inputs")
    return figure
