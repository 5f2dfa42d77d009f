"""Matching by the dominant singular directions alone: is it enough to align these?"""

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onebasin.figures import style


@style.paper_style
def truncation(tables: style.Tables) -> Figure:
    """Barrier between two whole models against the cutoff below which singular directions were hidden from the search.

    A point is one pair of one trial, the line their mean; beside it the mean barrier of the same pairs without
    matching. Above, the part of all directions that the search saw.
    """
    table, split = style.on_first_split(style.needed(tables, "truncation"))
    figure, (axes,) = style.new_figure(1, 1, height=2.9)
    for method in style.methods_in(table):
        look, own = style.method_style(method), table[table["method"] == method]
        mean = own.groupby("gamma")["barrier_loss"].mean()
        axes.plot(mean.index.to_numpy(), mean.to_numpy(), color=look.colour, linestyle=(0, look.dashes or (1, 0)))
        axes.scatter(
            own["gamma"], own["barrier_loss"], s=18, marker=look.marker, color=look.colour,
            edgecolors="white", linewidths=0.4, alpha=0.8, zorder=3,
        )  # fmt: skip
    barriers = style.needed(tables, "pairwise")
    unmatched = _of_the_same_pairs(barriers[(barriers["method"] == "naive") & (barriers["split"] == split)], table)
    handles: list[Artist] = style.method_handles(style.methods_in(table))
    if not unmatched.empty:
        look = style.method_style("naive")
        axes.axhline(unmatched.mean(), color=look.colour, linestyle=(0, look.dashes))
        handles += style.method_handles(["naive"])
    style.barrier_axis(axes, [*table["barrier_loss"], *unmatched], f"{split} loss barrier of a pair (nats)")
    axes.set_xlabel(r"cutoff $\gamma$: the search sees singular directions with $s_i \geq \gamma s_1$")
    _kept_axis(axes, table)
    style.legend_above(figure, handles)
    return figure


def _of_the_same_pairs(barriers: pd.DataFrame, table: pd.DataFrame) -> pd.Series:
    pair = ["trial", "model_a", "model_b"]
    wanted = table[pair].astype(str).drop_duplicates()
    found = barriers[barriers["count"] == barriers["count"].max()]
    return wanted.merge(found[[*pair, "barrier_loss"]].astype(dict.fromkeys(pair, str)), on=pair)["barrier_loss"]


def _kept_axis(axes: Axes, table: pd.DataFrame) -> None:
    """The part of directions kept, above the axes, at the gammas that were measured."""
    kept = table.groupby("gamma")["kept_share"].mean()
    axes.set_xticks(kept.index.to_numpy())
    above = axes.secondary_xaxis("top")
    above.set_xticks(kept.index.to_numpy(), [f"{_per_cent(share)} %" for share in kept])
    above.set_xlabel("directions that the search saw")


def _per_cent(share: float) -> str:
    """Two significant digits, written out."""
    return f"{100 * share:.0f}" if share >= 0.0995 else f"{100 * share:.2g}"
