"""How the models were trained: have they all learned, and do they end alike?"""

from typing import Any

import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from onebasin.figures import style

SPLITS: dict[str, tuple[str, Any]] = {"train": ("0.55", "-"), "validation": ("0.1", "--")}  # colour and line


@style.paper_style
def training(tables: style.Tables) -> Figure:
    """Loss and accuracy against the epoch, of the training data and, where there is one, of the validation split.

    Lines are means over all models, bands one standard deviation.
    """
    table = style.needed(tables, "history")
    splits = {name: look for name, look in SPLITS.items() if table[f"{name}_loss"].notna().any()}
    told = style.told(table, "train_")
    figure, axes = style.new_figure(1, len(told), height=2.6, sharex=True)
    for panel, (quantity, (scale, unit)) in zip(axes, told.items(), strict=True):
        for name, (colour, line) in splits.items():
            shown = table.assign(value=scale * table[f"{name}_{quantity}"])
            one = table["epoch"].nunique() == 1
            sns.lineplot(
                shown, x="epoch", y="value", errorbar="sd", color=colour, linestyle=line, ax=panel, legend=False,
                marker="o" if one else None, err_kws={"alpha": 0.25, "linewidth": 0},
            )  # fmt: skip
        panel.set(xlabel="epoch", ylabel=f"{quantity} ({unit})")
    columns = {q: [f"{name}_{q}" for name in splits] for q in ("loss", "accuracy")}
    style.positive_axis(axes[0], table[columns["loss"]].to_numpy().ravel())
    if "accuracy" in told:
        style.accuracy_axis(axes[1], 100 * table[columns["accuracy"]].to_numpy().ravel())
    handles = [Line2D([], [], color=colour, linestyle=line, label=name) for name, (colour, line) in splits.items()]
    style.legend_above(figure, handles)
    return figure
