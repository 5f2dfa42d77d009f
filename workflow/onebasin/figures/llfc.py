"""Linear features by layer: how far from linear between two models, and do the models stitch together?"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from onebasin.figures import style

ENDS: dict[str, Any] = {"color": "black", "linestyle": (0, (1, 1.5)), "linewidth": 1.2}
MIDPOINT = 0.5
SMALLEST = 1e-6  # what is nearer to a right angle's 1 - cos than that is drawn there: the first layer's is 0


@style.paper_style
def llfc(tables: style.Tables) -> Figure:
    """1 - cos between the middle's features and the mean of the ends', and accuracy of stitched models, by layer.

    At the largest number of models. Lines are means over pairs and trials, bands one standard deviation.
    """
    features, count = style.at_largest_count(style.needed(tables, "llfc"))
    stitched, _ = style.at_largest_count(style.needed(tables, "stitching"))
    layers = [str(layer) for layer in dict.fromkeys(features["layer"])]
    places = {layer: place for place, layer in enumerate(layers)}
    pairs = features[features["model_b"].astype(str) != "merged"]
    weights = np.array(sorted(pairs["weight_b"].unique()))
    middle = pairs[pairs["weight_b"] == weights[np.abs(weights - MIDPOINT).argmin()]]
    told = stitched["accuracy"].notna().any()
    figure, axes = style.new_figure(1, 2 if told else 1, height=2.6 + style.room_for(layers))
    _draw(axes[0], middle.assign(value=middle["dissimilarity"].clip(lower=SMALLEST)), places)
    between = middle.assign(place=middle["layer"].astype(str).map(places)).groupby("place")["baseline"].mean()
    axes[0].plot(between.index.to_numpy(), between.clip(lower=SMALLEST).to_numpy(), zorder=4, **ENDS)
    axes[0].set(yscale="log", ylabel=f"1 - cos of features, middle ($N$ = {count})")
    if told:
        behind = {layer: place for place, layer in enumerate(dict.fromkeys(stitched["layer"].astype(str)))}
        _draw(axes[1], stitched.assign(value=100 * stitched["accuracy"]), behind)
        axes[1].set(ylabel="stitched accuracy (%)", xlabel="layer behind which it is stitched")
    handles = style.method_handles(style.methods_in(features))
    style.legend_above(figure, [*handles, Line2D([], [], label="between the two ends", **ENDS)])
    return figure


def _draw(axes: Axes, table: pd.DataFrame, places: dict[str, int]) -> None:
    style.method_lines(axes, table.assign(place=table["layer"].astype(str).map(places)), "place", "value")
    style.layer_axis(axes, list(places))
