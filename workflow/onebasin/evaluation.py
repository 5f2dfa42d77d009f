"""Evaluation: loss and accuracy of models, their ensemble, and of the lines between them.

Losses are mean cross-entropies in nats, accuracies fractions of one. A merged model's barrier is its loss minus the
mean loss of its parents; that of a pair is the largest excess of the loss over the straight line between the two ends
(Frankle et al. 2020; Ito et al. 2025). Barriers of accuracy are the other way round: a loss of accuracy is positive.
"""

import itertools
import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onebasin.data import Data, Split
from onebasin.models import Models, forward
from onebasin.normalization import Settle
from onebasin.progress import track
from onebasin.symmetry.apply import Parameters

SPLITS = ("train", "test")
# Input values a forward pass: 170 images of CIFAR-10's shape, whose activations caches hold. ResNet20 x0.5 took 1.8
# times as long for all images at once. No result depends on it beyond rounding.
VALUES = 2**19


@torch.no_grad()
def logits(network: nn.Module, parameters: Parameters, split: Split) -> Tensor:
    """Logits `[n, classes]` of one model on a whole split."""
    network.eval()
    size = max(1, VALUES // math.prod(split.images.shape[1:]))
    return torch.cat([forward(network, parameters, images) for images in split.images.split(size)])


def measure(network: nn.Module, parameters: Parameters, split: Split) -> tuple[float, float]:
    """Loss and accuracy of one model on a split."""
    return score(F.log_softmax(logits(network, parameters, split), dim=1), split.labels)


def score(log_probabilities: Tensor, labels: Tensor) -> tuple[float, float]:
    """Loss (mean negative log-likelihood, summed in float64) and accuracy of predictions `[n, classes]`."""
    loss = F.nll_loss(log_probabilities.double(), labels)
    accuracy = (log_probabilities.argmax(dim=1) == labels).double().mean()
    return float(loss), float(accuracy)


def measure_many(network: nn.Module, many: Iterable[Parameters], split: Split) -> list[tuple[float, float]]:
    """Loss and accuracy of several models on one split.

    One after the other: every product is large enough to fill the machine, and a batched product over a stack took
    2.5 times as long for eleven MLPs of width 512 on a CPU.
    """
    return [measure(network, parameters, split) for parameters in many]


def predict(models: Models, data: Data) -> dict[str, Tensor]:
    """Log-probabilities `[N, n, classes]` of every model, by split."""
    return {
        name: torch.stack([F.log_softmax(logits(models.network, p, data.split(name)), dim=1) for p in _each(models)])
        for name in SPLITS
    }


def evaluate_merged(
    parents: Models, merged: Parameters, data: Data, predictions: Mapping[str, Tensor] | None = None
) -> pd.DataFrame:
    """Per split: loss and accuracy of the merged model, of its parents (mean), of their ensemble, and the barriers.

    The ensemble averages the parents' probabilities.

    Args:
        predictions: what `predict` says of the parents, or of models of which they are the first, if it is known.
    """
    known = predict(parents, data) if predictions is None else predictions
    rows = []
    for name in SPLITS:
        split = data.split(name)
        loss, accuracy = measure(parents.network, merged, split)
        members = known[name][: len(parents)]
        scores = [score(member, split.labels) for member in members]
        parents_loss, parents_accuracy = (sum(values) / len(parents) for values in zip(*scores, strict=True))
        ensemble_loss, ensemble_accuracy = score(members.double().exp().mean(dim=0).log(), split.labels)
        rows.append(
            {
                "split": name,
                "loss": loss,
                "accuracy": accuracy,
                "parents_loss": parents_loss,
                "parents_accuracy": parents_accuracy,
                "barrier_loss": loss - parents_loss,
                "barrier_accuracy": parents_accuracy - accuracy,
                "ensemble_loss": ensemble_loss,
                "ensemble_accuracy": ensemble_accuracy,
            }
        )
    return pd.DataFrame(rows)


def interpolate(a: Parameters, b: Parameters, weight_b: float) -> Parameters:
    """The point `(1 - weight_b) a + weight_b b` of the line between two models; exact at both ends.

    What is counted, not measured, is a's."""
    return {n: torch.lerp(t, b[n], weight_b) if t.is_floating_point() else t for n, t in a.items()}


def interpolation_curves(permuted: Models, data: Data, points: int, settle: Settle | None = None) -> pd.DataFrame:
    """Loss and accuracy along the line between every two models, per split.

    Args:
        permuted: the models after permutation.
        points: evenly spaced points, the ends included.
        settle: what is done to the points between the ends before they are measured.

    Returns:
        `split, model_a, model_b, weight_b, loss, accuracy`; a model is named by its seed.
    """
    weights = torch.linspace(0, 1, points, dtype=torch.float64).tolist()
    pairs = list(itertools.combinations(range(len(permuted)), 2))
    # the ends are the same for all pairs of a model: measured once
    ends = {name: measure_many(permuted.network, _each(permuted), data.split(name)) for name in SPLITS}
    statistics = settle.statistics([*_each(permuted)]) if settle else []
    rows = []
    for a, b in track(pairs, f"interpolating pairs of {len(permuted)} models", len(pairs)):
        between = [interpolate(permuted[a], permuted[b], weight) for weight in weights[1:-1]]
        if settle:
            ends_of_line = [statistics[a], statistics[b]] if statistics else []
            shares = [[1 - weight, weight] for weight in weights[1:-1]]
            between = [settle(point, ends_of_line, share) for point, share in zip(between, shares, strict=True)]
        for name in SPLITS:
            inner = measure_many(permuted.network, between, data.split(name))
            curve = [ends[name][a], *inner, ends[name][b]]
            rows += [
                (name, permuted.seeds[a], permuted.seeds[b], weight, *values)
                for weight, values in zip(weights, curve, strict=True)
            ]
    return pd.DataFrame(rows, columns=["split", "model_a", "model_b", "weight_b", "loss", "accuracy"])


def pairwise_barriers(curves: pd.DataFrame) -> pd.DataFrame:
    """The barrier of every pair from its curves: `split, model_a, model_b, barrier_loss, barrier_accuracy`.

    The largest excess over the straight line between the ends, at the points measured; never below 0, which it is at
    the ends themselves.
    """
    rows = []
    for (split, a, b), curve in curves.groupby(["split", "model_a", "model_b"], sort=False):
        weight = curve["weight_b"].to_numpy()
        line = {x: (1 - weight) * curve[x].iloc[0] + weight * curve[x].iloc[-1] for x in ("loss", "accuracy")}
        rows.append(
            (split, a, b, _barrier(curve["loss"] - line["loss"]), _barrier(line["accuracy"] - curve["accuracy"]))
        )
    return pd.DataFrame(rows, columns=["split", "model_a", "model_b", "barrier_loss", "barrier_accuracy"])


def _barrier(excess: pd.Series) -> float:
    """The largest excess between the ends, 0 if there is none; NaN if a point is not a number."""
    return float(np.maximum(0.0, excess.to_numpy()[1:-1]).max(initial=0.0))


def _each(models: Models) -> Iterable[Parameters]:
    return (models[model] for model in range(len(models)))
