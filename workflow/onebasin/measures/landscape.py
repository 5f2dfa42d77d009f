"""The loss on the plane through three models (Garipov et al. 2018): one basin or three.

The plane's origin is the first model, its x axis runs through the second; distances are L2 norms in parameter space.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from onebasin.data import Split
from onebasin.errors import OnebasinError
from onebasin.measures.run import Run, by_count
from onebasin.merging.recalibration import Recalibration
from onebasin.models.running import measure
from onebasin.models.stack import Models
from onebasin.parameters import Parameters, mean, one
from onebasin.progress import track

MARGIN = 0.25  # of the triangle's extent, on every side


def landscape(
    permuted: Models, split: Split, resolution: int, recalibrate: Recalibration | None = None
) -> pd.DataFrame:
    """Loss and accuracy on a `resolution` x `resolution` grid around the first three models, and at the models.

    Args:
        recalibrate: what is done to every point but the models before it is measured; it must not repair, as points
            outside the triangle are no averages.

    Returns:
        `point, x, y, loss, accuracy`, point being `grid`, a model's seed, or `merged` (the mean of the three).

    Raises:
        OnebasinError: fewer than three models, or three on one line.
    """
    if len(permuted) < 3:
        raise OnebasinError(f"landscape: a plane needs three models, given {len(permuted)}; use a count of 3 or more")
    three = [permuted[model] for model in range(3)]
    weights = [one(permuted.weights, model) for model in range(3)]
    origin, axes, corners = _plane(weights)
    low, high = corners.amin(dim=0), corners.amax(dim=0)
    margin = MARGIN * (high - low).max()
    xs, ys = (torch.linspace(float(low[k] - margin), float(high[k] + margin), resolution).tolist() for k in (0, 1))
    places = [("grid", x, y) for y in ys for x in xs]
    rows = []
    for point, x, y in track(places, "loss on the plane", len(places)):
        here = {**three[0], **_at(origin, axes, x, y)}
        rows.append((point, x, y, *measure(permuted.network, recalibrate(here) if recalibrate else here, split)))
    merged = mean(permuted.first(3).parameters)
    merged = recalibrate(merged) if recalibrate else merged
    named = list(zip([*map(str, permuted.seeds[:3]), "merged"], [*three, merged], strict=True))
    spots = [*corners.tolist(), corners.mean(dim=0).tolist()]
    rows += [
        (point, x, y, *measure(permuted.network, parameters, split))
        for (point, parameters), (x, y) in zip(named, spots, strict=True)
    ]
    return pd.DataFrame(rows, columns=["point", "x", "y", "loss", "accuracy"])


def _plane(three: list[Parameters]) -> tuple[Parameters, list[Parameters], Tensor]:
    """Origin, two orthonormal directions, and the coordinates `[3, 2]` of the models, in float64."""
    a, b, c = (parameters_to_vector(model.values()).double() for model in three)
    ab, ac = b - a, c - a
    along = ab / ab.norm()
    height = ac - (ac @ along) * along
    if not (ab.norm() > 0 and height.norm() > 1e-6 * ac.norm()):
        raise OnebasinError("landscape: the three models lie on one line; choose another trial or count")
    across = height / height.norm()
    places = [[0.0, 0.0], [float(ab.norm()), 0.0], [float(ac @ along), float(height.norm())]]
    return three[0], [_unflatten(v, three[0]) for v in (along, across)], torch.tensor(places, dtype=torch.float64)


def _unflatten(vector: Tensor, like: Parameters) -> Parameters:
    pieces = vector.split([tensor.numel() for tensor in like.values()])
    return {name: piece.view_as(like[name]).to(like[name].dtype) for (name, piece) in zip(like, pieces, strict=True)}


def _at(origin: Parameters, axes: list[Parameters], x: float, y: float) -> Parameters:
    along, across = axes
    return {name: tensor + x * along[name] + y * across[name] for name, tensor in origin.items()}


def measure_landscape(run: Run, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Measure `landscape`: the table of that name, of the first three permuted models.

    Args:
        settings: the `split` whose loss is meant, and the `resolution` of the grid.
    """

    def measured(count: int) -> dict[str, pd.DataFrame]:
        split, recalibrate = run.data.split(settings["split"]), run.recalibration(repair=False)
        surface = landscape(run.aligned(count), split, settings["resolution"], recalibrate)
        return {"landscape": surface.assign(split=settings["split"])}

    return by_count(run, measured)
