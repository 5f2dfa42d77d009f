"""Inverse temperatures: is an average of wide networks good but for the scale of its logits?

Ito et al. (arXiv 2510.08023, 2025) average wide networks without permuting them. Where their features are
exponentially weighted (`measures.lewc`), the average of N networks of L layers has the mean of their logits times
N^-(L-1): it decides as their ensemble does and is far less sure. One number mends that, an inverse temperature
beta > 0 by which logits are multiplied. It is fitted on held-out data, never on training or test data, and so is that
of every parent, so that the calibrated barrier holds like against like.

Beside it stands a control: the same average with random directions in the place of all models but the first.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from onebasin.data import Data
from onebasin.errors import OnebasinError
from onebasin.measures.llfc import cosine
from onebasin.measures.run import Run, by_count
from onebasin.models.objective import objective_named
from onebasin.models.running import outputs
from onebasin.models.stack import Models
from onebasin.parameters import Parameters, mean
from onebasin.registry import CROSS_ENTROPY

FURTHEST = 1e6  # beta is looked for so many times above and below one over the logits' standard deviation
EXACT = 1e-12  # the error of log beta


class Judged(NamedTuple):
    """One model on the test split: its logits `[n, classes, ...]` in float64, the inverse temperature that suits the
    validation split, loss and accuracy (which has no temperature), and the loss at that inverse temperature."""

    logits: Tensor
    beta: float
    loss: float
    accuracy: float
    calibrated_loss: float


def inverse_temperature(logits: Tensor, targets: Tensor) -> float:
    """The beta > 0 at which the mean cross-entropy of `beta * logits` is smallest.

    That loss is convex in beta. Its slope is the mean over samples of E_p[z] - z_y, with p = softmax(beta z): beta is
    where it changes its sign, looked for in log beta and float64.

    Args:
        logits: `[n, classes, ...]`.
        targets: `[n, ...]`.

    Returns:
        The smallest beta that is looked for, where logits are worse than none; 1, where they tell nothing; NaN, where
        every sample is told right, as no finite beta is best then, and where logits are not finite.
    """
    from scipy.optimize import brentq

    rows = logits.double().movedim(1, -1).flatten(0, -2)
    own = rows.gather(1, targets.flatten()[:, None])[:, 0]
    spread = float(rows.std())
    if not math.isfinite(spread):
        return math.nan
    if spread == 0:
        return 1.0

    def slope(log_beta: float) -> float:
        expected = (rows * torch.softmax(math.exp(log_beta) * rows, dim=1)).sum(dim=1)
        return float((expected - own).mean())

    smallest, largest = (math.log(end / spread) for end in (1 / FURTHEST, FURTHEST))
    if slope(smallest) >= 0:
        return math.exp(smallest)
    if slope(largest) <= 0:
        return math.nan
    return math.exp(brentq(slope, smallest, largest, xtol=EXACT))


def judged(models: Models, parameters: Parameters, data: Data) -> Judged:
    """What one model is worth on the test split before and after its inverse temperature was fitted.

    Raises:
        OnebasinError: the data have no validation split, or another objective than the cross-entropy.
    """
    objective = objective_named(data.objective)
    if data.objective != CROSS_ENTROPY:
        raise OnebasinError(
            f"calibration: an inverse temperature is of logits that a cross-entropy judges, not {data.objective}; "
            f"leave this measure out"
        )

    def logits_of(name: str) -> tuple[Tensor, Tensor]:
        split = data.split(name)
        found = outputs(models.network, parameters, split)
        objective.predictions(found)  # refuses what are no logits
        return found.double(), split.targets

    beta = inverse_temperature(*logits_of("validation"))
    logits, targets = logits_of("test")
    loss, accuracy = objective.score(objective.predictions(logits), targets)
    calibrated_loss, _ = objective.score(objective.predictions(beta * logits), targets)
    return Judged(logits, beta, loss, accuracy, calibrated_loss)


def compared(merged: Judged, parents: Sequence[Judged], control: Judged) -> dict[str, float]:
    """A row of the table: barriers of the merged model, and its agreement with the parents' ensemble of logits.

    Barriers are those of `measures.merged`: the merged model's loss less its parents' mean loss, and the accuracy that
    it lost; `barrier_calibrated` takes every loss at the model's own inverse temperature. `agreement` is the share of
    samples for which the merged logits and the mean of the parents' are largest at the same class, `cosine` the mean
    over samples of the cosine between the two, `parents_beta` the geometric mean.
    """
    ensemble = torch.stack([parent.logits for parent in parents]).mean(dim=0)
    agreement = merged.logits.argmax(dim=1) == ensemble.argmax(dim=1)
    losses, accuracies, calibrated = (
        sum(getattr(parent, name) for parent in parents) / len(parents)
        for name in ("loss", "accuracy", "calibrated_loss")
    )
    return {
        "beta": merged.beta,
        "loss": merged.loss,
        "accuracy": merged.accuracy,
        "calibrated_loss": merged.calibrated_loss,
        "parents_beta": math.exp(sum(math.log(parent.beta) for parent in parents) / len(parents)),
        "parents_loss": losses,
        "parents_accuracy": accuracies,
        "parents_calibrated_loss": calibrated,
        "barrier_loss": merged.loss - losses,
        "barrier_accuracy": accuracies - merged.accuracy,
        "barrier_calibrated": merged.calibrated_loss - calibrated,
        "agreement": float(agreement.double().mean()),
        "cosine": float(cosine(merged.logits, ensemble).mean()),
        "random_accuracy": control.accuracy,
        "random_calibrated_loss": control.calibrated_loss,
    }


def with_random_others(models: Models, generator: torch.Generator) -> Parameters:
    """The average of the first model and of random directions in the place of the others.

    The weights of another model's layers, tensors of two axes or more, give way to Gaussian ones of the same L2 norm,
    tensor by tensor. Vectors (biases, gains of norms) stay its own, as those of all models may be much alike.
    """
    stack = dict(models.parameters)
    for name, tensor in models.weights.items():
        if tensor.dim() > 2:  # beside the axis of the models
            others, axes = tensor[1:], tuple(range(1, tensor.dim()))
            noise = torch.randn(others.shape, generator=generator, dtype=tensor.dtype, device=tensor.device)
            length, own = (torch.linalg.vector_norm(part, dim=axes, keepdim=True) for part in (others, noise))
            stack[name] = torch.cat([tensor[:1], noise * (length / own)])
    return mean(stack)


def calibration(run: Run, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Measure `calibration`: the table of that name, by method and count, on the test split."""

    def control(count: int) -> Judged:
        draws = run.stream("calibration", run.trial, count)
        # no method has to do with it, and no permuted model whose statistics REPAIR could take for it
        recalibrate = run.recalibration(repair=False)
        return judged(run.models, recalibrate(with_random_others(run.parents(count), draws)), run.data)

    def measured(count: int) -> dict[str, pd.DataFrame]:
        merged = judged(run.models, run.merged(count), run.data)
        # neither parents nor control depend on the method: measured once a job
        parents = [
            run.once(("calibration", seed), partial(judged, run.models, parent, run.data))
            for seed, parent in zip(run.parents(count).seeds, run.parents(count), strict=True)
        ]
        beside = run.once(("calibration", "control", count), partial(control, count))
        return {"calibration": pd.DataFrame([{"split": "test", **compared(merged, parents, beside)}])}

    return by_count(run, measured)
