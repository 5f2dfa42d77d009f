"""Measure `variational`: how well does a network's posterior train? (D. Lim et al., NeurIPS 2024, section on Bayesian
neural networks: without symmetries a posterior has one mode where it had a factorial number of them.)"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from onebasin.errors import OnebasinError
from onebasin.measures.run import Run
from onebasin.networks.build import new_network
from onebasin.registry import CROSS_ENTROPY
from onebasin.training.variational import train_posterior


def variational(run: Run, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Tables `variational`, the curves of one posterior a trial from an initialisation of its own on, and `posterior`,
    where they end.

    Args:
        settings: those of `training.variational.train_posterior`.

    Raises:
        OnebasinError: the data are judged by another objective than the cross-entropy.
    """
    if run.data.objective != CROSS_ENTROPY:
        raise OnebasinError(
            f"measure variational: a posterior is judged by the cross-entropy, these data by {run.data.objective}; "
            f"leave it out"
        )
    key = ("variational", run.trial)
    network = new_network(run.recipe["network"], run.data.input_shape, run.data.classes, run.root, *key)
    streams = (run.stream(*key, name) for name in ("order", "draws"))
    curves = train_posterior(network.to(run.device), run.data, settings, *streams)
    last = curves[curves["epoch"] == settings["epochs"]].drop(columns="epoch")
    return {"variational": curves, "posterior": last}
