"""Barrier against the reduction of the distance: do models connect because matching brings them closer?"""

from matplotlib.figure import Figure

from onebasin.figures import style

PAIR = ["method", "count", "trial", "model_a", "model_b"]


@style.paper_style
def distance(tables: style.Tables) -> Figure:
    """Loss barrier of each pair against the part of its L2 distance that matching removed.

    At the smallest and the largest number of models; a point is one pair of one trial.
    """
    barriers, split = style.on_first_split(style.needed(tables, "pairwise"))
    names = {"model_a": str, "model_b": str}
    table = style.needed(tables, "distance").astype(names).merge(barriers.astype(names), on=PAIR)
    counts = sorted({table["count"].min(), table["count"].max()})
    figure, axes = style.new_figure(1, len(counts), height=2.7, sharey=True, sharex=True)
    for panel, count in zip(axes, counts, strict=True):
        rows = table[table["count"] == count]
        for method in style.methods_in(rows):
            look, own = style.method_style(method), rows[rows["method"] == method]
            panel.scatter(
                100 * own["reduction"], own["barrier_loss"], s=22, marker=look.marker, color=look.colour,
                edgecolors="white", linewidths=0.4, zorder=3,
            )  # fmt: skip
        panel.set(title=f"$N$ = {count}", xlabel="reduction of the L2 distance (%)")
        style.barrier_axis(panel, table["barrier_loss"], f"{split} loss barrier of a pair (nats)")
    style.share_y_label(figure, axes)
    style.legend_above(figure, style.method_handles(style.methods_in(table), line=False), handlelength=1)
    return figure
