"""Which pairs of permuted models are apart: the matrix of barriers, one panel a method."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from onebasin.figures import style

FLOOR = 1e-4  # nats: a smaller barrier, exactly zero included, is noise and takes the lightest colour
ANNOTATED = 10  # models: numbers in the cells of a larger matrix would touch


@style.paper_style
def pairwise_matrix(tables: style.Tables) -> Figure:
    """Loss barrier of each pair of permuted models at the largest number of models, as a mean over trials.

    Models are numbered 1 to N by their seed within each trial. Cells are annotated in thousandths of a nat.
    """
    table, split = style.on_first_split(style.needed(tables, "pairwise"))
    table, count = style.at_largest_count(table)
    matrices = {name: barrier_matrix(table[table["method"] == name]) for name in style.methods_in(table)}
    figure, axes = style.panel_grid(len(matrices), at_most=4 if count <= 6 else 2, spare=0.2, sharex=True, sharey=True)
    norm = _norm(matrices)
    for panel, (method, matrix) in zip(axes, matrices.items(), strict=True):
        _draw_matrix(panel, matrix, norm, method)
    figure.supxlabel(f"model, of $N$ = {count}" + ("; cells in 0.001 nats" if count <= ANNOTATED else ""))
    figure.supylabel("model")
    colours = ScalarMappable(norm, style.SEQUENTIAL)
    below = any((matrix < norm.vmin).any(axis=None) for matrix in matrices.values())
    label = f"{split} loss barrier (nats)"
    style.colour_bar(figure, axes, colours, label, extend="min" if below else "neither")
    return figure


def barrier_matrix(table: pd.DataFrame) -> pd.DataFrame:
    """The symmetric matrix of mean loss barriers of one method and count; its diagonal is not a number."""
    models = pd.concat([table[["trial", side]].set_axis(["trial", "model"], axis=1) for side in ("model_a", "model_b")])
    ranks = {
        (trial, model): rank
        for trial, of_trial in models.groupby("trial")
        for rank, model in enumerate(sorted(of_trial["model"].unique(), key=style.seed_order), start=1)
    }
    pairs = pd.DataFrame({"barrier": table["barrier_loss"].to_numpy(float)})
    for side in ("a", "b"):
        pairs[side] = [ranks[key] for key in zip(table["trial"], table[f"model_{side}"], strict=True)]
    both = pd.concat([pairs, pairs.rename(columns={"a": "b", "b": "a"})])
    return both.pivot_table(index="a", columns="b", values="barrier", aggfunc="mean")


def _norm(matrices: dict[str, pd.DataFrame]) -> LogNorm:
    values = np.concatenate([matrix.to_numpy().ravel() for matrix in matrices.values()])
    values = values[np.isfinite(values) & (values >= FLOOR)]
    if not values.size:
        return LogNorm(FLOOR, 10 * FLOOR)
    low, high = values.min(), values.max()
    return LogNorm(low, max(high, 2 * low))


def _draw_matrix(axes: Axes, matrix: pd.DataFrame, norm: LogNorm, method: str) -> None:
    annotated = len(matrix) <= ANNOTATED
    sns.heatmap(
        matrix.clip(lower=norm.vmin),
        norm=norm,
        cmap=style.SEQUENTIAL,
        cbar=False,
        square=True,
        linewidths=0.5,
        annot=matrix.map(_thousandths) if annotated else False,
        fmt="",
        annot_kws={"fontsize": 7},
        ax=axes,
    )
    axes.set(title=style.method_label(method), xlabel="", ylabel="")
    axes.grid(False)
    axes.tick_params(length=0, rotation=0)


def _thousandths(barrier: float) -> str:
    """`barrier` in 0.001 nats, in at most four characters."""
    value = 1000 * barrier
    if value >= 9999.5:
        return f"{barrier:.0f}k"
    if value >= 9.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 0.05 else "0"
