"""Sharpness of merged models: does the loss surface flatten as more models are averaged?"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onebasin.figures import style

ESTIMATORS = {"trace": "trace of the Hessian", "scaled_trace": "scale-invariant trace"}


@style.paper_style
def sharpness(tables: style.Tables) -> Figure:
    """Hessian trace, its scale-invariant form and the largest eigenvalue at merged models against their number.

    Lines are means over trials, bands one standard deviation. A single trial has bars of the estimator's own standard
    error instead. The parents are a grey band: mean and standard deviation over models and trials.
    """
    traces = style.needed(tables, "sharpness")
    panels = {label: traces[traces["estimator"] == name] for name, label in ESTIMATORS.items()}
    panels["largest Hessian eigenvalue"] = style.needed(tables, "top_eigenvalue")
    panels = {label: table for label, table in panels.items() if not table.empty}
    figure, axes = style.new_figure(1, len(panels), height=2.5)
    for panel, (label, table) in zip(axes, panels.items(), strict=True):
        _draw_panel(panel, *style.on_first_split(table), label)
    methods = style.methods_in(pd.concat(panels.values()))
    style.legend_above(figure, [*style.method_handles(methods), style.parents_handle()])
    return figure


def _draw_panel(axes: Axes, table: pd.DataFrame, split: str, label: str) -> None:
    at_merged = table["model"].astype(str) == "merged"
    merged, parents = style.side_by_side(table[at_merged]), table[~at_merged]
    if not parents.empty:
        style.parents_band(axes, parents, "value")
    if not merged.empty:
        style.method_lines(axes, merged, "count", "value")
        _draw_standard_errors(axes, merged)
    style.count_axis(axes, table["count"])
    style.positive_axis(axes, table["value"], log_beyond=3)
    axes.set_ylabel(f"{label}\nof the {split} loss (nats)")


def _draw_standard_errors(axes: Axes, merged: pd.DataFrame) -> None:
    if "standard_error" not in merged or len(merged["trial"].unique()) > 1:
        return  # a deviation over trials holds the estimator's error already
    for method in style.methods_in(merged):
        rows = merged[merged["method"] == method]
        errors = rows["standard_error"].to_numpy(float)
        x, y = rows["count"].to_numpy(float), rows["value"].to_numpy(float)
        colour = style.method_style(method).colour
        axes.errorbar(x, y, np.nan_to_num(errors), fmt="none", ecolor=colour, elinewidth=0.9, capsize=2)
