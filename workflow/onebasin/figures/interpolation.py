"""Along the line between two permuted models: how high is the loss on the way?"""

from matplotlib.figure import Figure

from onebasin.figures import style


@style.paper_style
def interpolation(tables: style.Tables) -> Figure:
    """Loss and accuracy between two permuted models against the weight of the second, at the largest number of models.

    Lines are means over all pairs and trials, bands one standard deviation.
    """
    table, split = style.on_first_split(style.needed(tables, "interpolation"))
    table, count = style.at_largest_count(table)
    # weights that went through arithmetic or text must still fall together
    table = table.assign(weight_b=table["weight_b"].round(6), accuracy=100 * table["accuracy"])
    every = max(1, (len(table["weight_b"].unique()) - 1) // 4)
    told = style.told(table)
    figure, axes = style.new_figure(1, len(told), height=2.6, sharex=True)
    for panel, (quantity, (_, unit)) in zip(axes, told.items(), strict=True):
        style.method_lines(panel, table, "weight_b", quantity, markevery=every)
        panel.set(xlabel=f"weight of model $b$ ($N$ = {count})", ylabel=f"{split} {quantity} ({unit})")
        panel.set_xlim(-0.02, 1.02)
    style.positive_axis(axes[0], table["loss"])
    if "accuracy" in told:
        style.accuracy_axis(axes[1], table["accuracy"])
    style.legend_above(figure, style.method_handles(style.methods_in(table)))
    return figure
