"""Monotonic linear interpolation: does the loss fall all the way from a model's beginning to its end?

I. Goodfellow, O. Vinyals, A. Saxe, ICLR 2015; measured of asymmetric networks by D. Lim et al., NeurIPS 2024. The line
leads from the values that a training began with, which are drawn anew from its seed, to those that it ended with.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from onebasin.errors import OnebasinError
from onebasin.measures.run import Run
from onebasin.models.running import measure
from onebasin.models.stack import initial
from onebasin.parameters import lerp
from onebasin.training.run import untrained


def monotonic(run: Run, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Tables `path`, loss and accuracy along the line of every model of the trial, and `monotonic`, what that shows.

    Args:
        settings: the `split`, how many of its `images`, and the `points` of the line, the ends included.

    Raises:
        OnebasinError: the models were not trained here, so that nobody knows where they began.
    """
    recipe, split = run.recipe, run.split(settings)
    if "training" not in recipe:
        raise OnebasinError("measure monotonic: checkpoints do not say where their training began; leave it out")
    weights = np.linspace(0, 1, settings["points"])
    models = run.as_trained
    recalibrate = run.recalibration(repair=False, network=models.network)
    paths, readings = [], []
    for seed, trained in zip(models.seeds, models, strict=True):
        network = untrained(recipe["network"], run.data, recipe["training"], seed, recipe["root"])
        begun = initial(network)
        found = [measure(network, recalibrate(lerp(begun, trained, float(weight))), split) for weight in weights]
        path = pd.DataFrame(found, columns=["loss", "accuracy"]).assign(weight=weights, model=seed)
        paths.append(path)
        readings.append({"model": seed, **read(path["loss"].to_numpy())})
    tables = {"path": pd.concat(paths), "monotonic": pd.DataFrame(readings)}
    return {name: table.assign(split=settings["split"]) for name, table in tables.items()}


def read(losses: np.ndarray) -> dict[str, float]:
    """What the losses along a line from the first to the last say.

    Returns:
        `rise`, by how many nats the loss rises over all that it was before, at most (0: it never rises); and `convex`,
        the share of inner points that lie on or below the straight line between their neighbours.
    """
    bends = losses[:-2] + losses[2:] - 2 * losses[1:-1]
    return {"rise": float((losses - np.minimum.accumulate(losses)).max()), "convex": float((bends >= 0).mean())}
