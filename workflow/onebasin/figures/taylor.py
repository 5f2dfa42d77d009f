"""The Taylor estimate beside the measured barrier: do the two ends know what lies between them?"""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from onebasin.figures import style

ESTIMATE: dict[str, Any] = {"color": "black", "linestyle": (0, (4, 1.5))}
RECOMPUTED: dict[str, Any] = {"color": "0.5", "linestyle": (0, (1, 1.2))}


@style.paper_style
def taylor(tables: style.Tables) -> Figure:
    """Excess of the loss along the line between two models, measured and estimated, by method.

    At the smallest number of models. Lines are means over pairs and trials, bands one standard deviation.
    """
    table, split = style.on_first_split(style.needed(tables, "taylor"))
    table, count = style.at_smallest_count(table)
    methods = style.methods_in(table)
    figure, axes = style.panel_rows(len(methods), at_most=4, height=1.8, spare=0.7, sharex=True)
    differs = not np.allclose(table["recomputed"], table["measured"], equal_nan=True)
    for panel, method in zip(axes, methods, strict=True):
        own = _with_ends(table[table["method"] == method])
        measured = {"color": style.method_style(method).colour}
        shown: dict[str, dict[str, Any]] = {"measured": measured, "estimate": ESTIMATE}
        shown |= {"recomputed": RECOMPUTED} if differs else {}
        for column, look in shown.items():
            sns.lineplot(
                own, x="weight_b", y=column, errorbar="sd", ax=panel, legend=False,
                err_kws={"alpha": 0.2, "linewidth": 0}, **look,
            )  # fmt: skip
        panel.axhline(0, color="0.7", linewidth=0.6, zorder=1)
        panel.set(title=style.method_label(method), xlabel="", ylabel="", xlim=(0, 1), xticks=[0, 0.5, 1])
    figure.supxlabel(f"weight of the second model ($N$ = {count})")
    figure.supylabel(f"excess of the {split} loss (nats)")
    handles = [Line2D([], [], color="0.3", label="measured (in the method's colour)")]
    handles += [Line2D([], [], label="Taylor estimate from the two ends", **ESTIMATE)]
    handles += [Line2D([], [], label="measured with recomputed BatchNorm", **RECOMPUTED)] if differs else []
    style.legend_above(figure, handles)
    return figure


def _with_ends(table: pd.DataFrame) -> pd.DataFrame:
    """The rows, and the ends of every line, where there is no excess by definition."""
    pairs = table[["trial", "model_a", "model_b"]].drop_duplicates()
    ends = [pairs.assign(weight_b=end, measured=0.0, estimate=0.0, recomputed=0.0) for end in (0.0, 1.0)]
    return pd.concat([table, *ends], ignore_index=True)
