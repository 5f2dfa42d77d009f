"""Layerwise linear feature connectivity: are the features of an interpolated model interpolated features?

Z. Zhou, Y. Yang, X. Yang, J. Yan, W. Hu, "Going Beyond Linear Mode Connectivity: The Layerwise Linear Feature
Connectivity", NeurIPS 2023. Two models A and B have it if for every layer l and alpha there is c > 0 with

    c f_l(alpha A + (1 - alpha) B) = alpha f_l(A) + (1 - alpha) f_l(B),

f_l being what the layer's linear map or convolution puts out, of one sample as a vector. Beside it the paper's two
conditions that imply it: weak additivity of ReLU, and commutativity, W_A H_A + W_B H_B = W_A H_B + W_B H_A with H the
layer's inputs; and stitching, which it predicts: a layer's output of B may be replaced by A's.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from onebasin.data import Split
from onebasin.inputs import Inputs
from onebasin.measures.run import Run, by_count
from onebasin.measures.singular import layer_of
from onebasin.merging.recalibration import Recalibration
from onebasin.models.features import CONVOLUTIONS, Call, watch
from onebasin.models.objective import objective_named
from onebasin.models.running import joined
from onebasin.models.stack import Models
from onebasin.parameters import Parameters, lerp, mean

LAYERS = (F.linear, *CONVOLUTIONS)
BATCH = 500  # samples whose features of all models are held at once

Seen = TypeVar("Seen")
Features = dict[str, Tensor]
"""What the layers put out, `[n, ...]`, by the names of their weights, in the order in which they run."""


def calls(models: Models, parameters: Parameters, inputs: Inputs) -> dict[str, Call]:
    """The runs of a model's linear layers and convolutions on a batch, with copies of their inputs and outputs.

    A layer that runs more than once has no one output, and is left out.
    """
    return _of_layers(models, parameters, inputs, Call.kept)


def features(models: Models, parameters: Parameters, inputs: Inputs) -> Features:
    """What these layers put out, copied."""
    return _of_layers(models, parameters, inputs, lambda call: call.output.clone())


@torch.no_grad()
def _of_layers(models: Models, parameters: Parameters, inputs: Inputs, of: Callable[[Call], Seen]) -> dict[str, Seen]:
    found: dict[str, list[Seen]] = {}

    def keep(call: Call) -> None:
        if call.function in LAYERS:
            found.setdefault(call.name, []).append(of(call))

    watch(models.network, parameters, inputs, keep)
    return {name: runs[0] for name, runs in found.items() if len(runs) == 1}


def cosine(one: Tensor, other: Tensor) -> Tensor:
    """The cosine of the angle between the vectors of every sample, in float64; `[n]`. Of a vector of zeros, 0."""
    left, right = one.flatten(1).double(), other.flatten(1).double()
    norms = left.norm(dim=1) * right.norm(dim=1)
    return torch.where(norms == 0, 0.0, (left * right).sum(dim=1) / norms)


class Sums:
    """Means over the samples of a split, summed batch by batch; a row of a table each."""

    def __init__(self) -> None:
        self._sums: dict[tuple[Any, ...], Tensor] = {}
        self._counts: dict[tuple[Any, ...], int] = {}

    def add(self, key: tuple[Any, ...], *values: Tensor) -> None:
        """Add the values `[n]` of a batch, a column each."""
        total = torch.stack([value.sum() for value in values])
        self._sums[key] = self._sums[key] + total if key in self._sums else total
        self._counts[key] = self._counts.get(key, 0) + len(values[0])

    def frame(self, keys: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
        """The means, a row a key."""
        rows = [
            (layer_of(name), *key, *(total / self._counts[name, *key]).tolist())
            for (name, *key), total in self._sums.items()
        ]
        return pd.DataFrame(rows, columns=[*keys, *columns])


def linear_connectivity(
    models: Models, split: Split, alphas: Sequence[float], recalibrate: Recalibration | None
) -> pd.DataFrame:
    """How far the features of interpolated models are from interpolated features, by layer, pair and alpha.

    Args:
        models: in the order in which they are to be looked at.
        alphas: weights of the first model of a pair.
        recalibrate: what is done to interpolated models first.

    Returns:
        `layer, model_a, model_b, weight_b, dissimilarity, baseline, coefficient`: means over the samples of 1 - cos
        between the two sides, of 1 - cos between the features of the two ends, and <u, v> / |v|^2 with u the
        interpolated model's features and v the interpolated ones. The average of all models stands in rows with
        `model_b` "merged": v is the mean of all features, and the baseline the mean over all pairs.
    """
    sums = Sums()
    pairs = list(itertools.combinations(range(len(models)), 2))
    statistics = recalibrate.statistics([*models]) if recalibrate else []
    points = {
        (a, b, alpha): _prepared(
            lerp(models[a], models[b], 1 - alpha), recalibrate, statistics, {a: alpha, b: 1 - alpha}
        )
        for a, b in pairs
        for alpha in alphas
    }
    everyone = dict.fromkeys(range(len(models)), 1 / len(models))
    average = _prepared(mean(models.parameters), recalibrate, statistics, everyone)
    for inputs in split.inputs.split(BATCH):
        own = [features(models, parameters, inputs) for parameters in models]
        for (a, b, alpha), point in points.items():
            for layer, output in features(models, point, inputs).items():
                between = alpha * own[a][layer] + (1 - alpha) * own[b][layer]
                apart = 1 - cosine(own[a][layer], own[b][layer])
                key: tuple[Any, ...] = (layer, models.seeds[a], models.seeds[b], 1 - alpha)
                sums.add(key, 1 - cosine(output, between), apart, _coefficient(output, between))
        for layer, output in features(models, average, inputs).items():
            between = torch.stack([one[layer] for one in own]).mean(dim=0)
            apart = torch.stack([1 - cosine(own[a][layer], own[b][layer]) for a, b in pairs]).mean(dim=0)
            key = (layer, models.seeds[0], "merged", 1 / len(models))
            sums.add(key, 1 - cosine(output, between), apart, _coefficient(output, between))
    keys = ["layer", "model_a", "model_b", "weight_b"]
    return sums.frame(keys, ["dissimilarity", "baseline", "coefficient"])


def conditions(models: Models, split: Split) -> pd.DataFrame:
    """The two conditions that imply LLFC, by layer and pair.

    Returns:
        `layer, model_a, model_b, commutativity, additivity`: means over the samples of |u - v|^2 / (|u| |v|) with
        u = W_A H_A + W_B H_B and v = W_A H_B + W_B H_A, and of 1 - cos between relu(z_A) + relu(z_B) and
        relu(z_A + z_B) with z the layer's output.
    """
    sums = Sums()
    for inputs in split.inputs.split(BATCH):
        own = [calls(models, parameters, inputs) for parameters in models]
        for a, b in itertools.combinations(range(len(models)), 2):
            for layer, first in own[a].items():
                second = own[b][layer]
                straight = first.with_weight(first.weight) + second.with_weight(second.weight)
                mixed = first.with_weight(second.weight) + second.with_weight(first.weight)
                left, right = (part.flatten(1).double() for part in (straight, mixed))
                size = (left.norm(dim=1) * right.norm(dim=1)).clamp_min(1e-300)
                distance = (left - right).square().sum(dim=1) / size
                summed = F.relu(first.output) + F.relu(second.output)
                additivity = 1 - cosine(summed, F.relu(first.output + second.output))
                sums.add((layer, models.seeds[a], models.seeds[b]), distance, additivity)
    return sums.frame(["layer", "model_a", "model_b"], ["commutativity", "additivity"])


@torch.no_grad()
def stitching(models: Models, split: Split) -> pd.DataFrame:
    """Loss and accuracy of models stitched together: up to a layer model A, behind it model B, no adapter between.

    The layer's output in B is replaced by A's; what bypasses the layer in a residual network is B's own.

    Returns:
        `layer, model_a, model_b, loss, accuracy`, for every ordered pair and every layer but the last.
    """
    objective = objective_named(split.objective)
    given: dict[tuple[str, int, int], list[Any]] = {}
    for inputs in split.inputs.split(BATCH):
        own = [features(models, parameters, inputs) for parameters in models]
        for a, b in itertools.permutations(range(len(models)), 2):
            for layer in [*own[a]][:-1]:
                outputs = watch(models.network, models[b], inputs, _replacing(layer, own[a][layer]))
                given.setdefault((layer, a, b), []).append(outputs)
    rows = []
    for (layer, a, b), batches in given.items():
        score = objective.score(objective.predictions(joined(batches)), split.targets)
        rows.append((layer_of(layer), models.seeds[a], models.seeds[b], *score))
    return pd.DataFrame(rows, columns=["layer", "model_a", "model_b", "loss", "accuracy"])


def _replacing(layer: str, output: Tensor) -> Any:
    def see(call: Call) -> Tensor | None:
        return output if call.name == layer and call.function in LAYERS else None

    return see


def _coefficient(one: Tensor, other: Tensor) -> Tensor:
    left, right = one.flatten(1).double(), other.flatten(1).double()
    return (left * right).sum(dim=1) / right.square().sum(dim=1).clamp_min(1e-300)


def _prepared(
    parameters: Parameters, recalibrate: Recalibration | None, statistics: Sequence[Any], shares: Mapping[int, float]
) -> Parameters:
    """A combination of models, recalibrated if that is given."""
    if recalibrate is None:
        return parameters
    parents = [statistics[model] for model in shares] if statistics else []
    return recalibrate(parameters, parents, [*shares.values()])


def llfc(run: Run, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Measure `llfc`: the tables of that name, `llfc_conditions` and `stitching`, by method and count.

    Args:
        settings: the `split` and how many of its `images`; the `alphas` of a pair's first model.
    """
    split = run.split(settings)

    def measured(count: int) -> dict[str, pd.DataFrame]:
        models = run.aligned(count)
        return {
            "llfc": linear_connectivity(models, split, settings["alphas"], run.recalibration()),
            "llfc_conditions": conditions(models, split),
            "stitching": stitching(models, split),
        }

    return {name: frame.assign(split=settings["split"]) for name, frame in by_count(run, measured).items()}
