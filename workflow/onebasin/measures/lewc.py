"""Layerwise exponentially weighted connectivity: are the features of averaged wide networks those of the networks, each
weighted by a power of its share?

Ito et al. (arXiv 2510.08023, 2025): models with shares lambda_i, which sum to 1, have it if for every layer l

    f_l(sum of lambda_i theta_i) = sum of lambda_i^l f_l(theta_i),

f_l being what layer l puts out before its nonlinearity, of one sample as a vector, and l its number in the order in
which layers run, from 1 on. Weights of layer l and what it takes in bring a factor lambda each, if weights of one model
let nothing of another model's features through: reciprocal orthogonality, W_b z_a = 0. That is exact without biases.
Where norms set the scale of features anew (BatchNorm) the power says nothing: there only the direction can be right.

With equal shares the exponentially weighted features point where the plain mean points (`measures.llfc`) and are
shorter; the two predictions differ in direction where shares are uneven.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from onebasin.data import Split
from onebasin.measures.llfc import BATCH, Sums, calls, cosine, features
from onebasin.measures.run import Run, by_count
from onebasin.merging.recalibration import Recalibration
from onebasin.models.stack import Models
from onebasin.parameters import Parameters, lerp


def exponential_connectivity(
    models: Models,
    merged: Parameters,
    split: Split,
    alphas: Sequence[float],
    recalibrate: Recalibration | None,
    generator: torch.Generator,
) -> pd.DataFrame:
    """How far the features of combined models are from the exponentially weighted ones and from two controls.

    Args:
        models: in the order in which they are to be looked at.
        merged: the average of all of them, as it is used.
        alphas: shares of the first model of a pair.
        recalibrate: what is done to interpolated models first.
        generator: draws the random directions.

    Returns:
        `layer, model_a, model_b, weight_b, residual, dissimilarity, plain_residual, plain_dissimilarity,
        random_residual`. A residual is |u - v| / |u| with u the combined model's features, lengths being root mean
        squares over samples: of v = sum of lambda_i^l f_l(i), of the plain v = sum of lambda_i f_l(i), and of a random
        direction as long as the exponentially weighted features, sample by sample; 1 is what v = 0 has. Dissimilarities
        are means over samples of 1 - cos(u, v). The average of all models stands in rows with `model_b` "merged".
    """
    statistics = recalibrate.statistics([*models]) if recalibrate else []
    everyone = dict.fromkeys(range(len(models)), 1 / len(models))
    combined: list[tuple[tuple[Any, ...], dict[int, float], Parameters]]
    combined = [((models.seeds[0], "merged", 1 / len(models)), everyone, merged)]
    for (a, b), alpha in itertools.product(itertools.combinations(range(len(models)), 2), alphas):
        point, shares = lerp(models[a], models[b], 1 - alpha), {a: alpha, b: 1 - alpha}
        if recalibrate:
            ends = [statistics[model] for model in shares] if statistics else []
            point = recalibrate(point, ends, [*shares.values()])
        combined.append(((models.seeds[a], models.seeds[b], 1 - alpha), shares, point))
    sums = Sums()
    for inputs in split.inputs.split(BATCH):
        own = [features(models, parameters, inputs) for parameters in models]
        for key, shares, parameters in combined:
            for depth, (layer, output) in enumerate(features(models, parameters, inputs).items(), start=1):
                parts = [own[model][layer].double() for model in shares]
                weighted, plain = (_sum(parts, [share**power for share in shares.values()]) for power in (depth, 1))
                sums.add((layer, *key), *_distances(output.double(), weighted, plain, generator))
    names = ["residual", "plain_residual", "random_residual", "length", "dissimilarity", "plain_dissimilarity"]
    table = sums.frame(["layer", "model_a", "model_b", "weight_b"], names)
    length = table.pop("length")
    for name in names[:3]:
        table[name] = (table[name] / length) ** 0.5
    return table


def _sum(parts: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    return torch.stack([weight * part for weight, part in zip(weights, parts, strict=True)]).sum(dim=0)


def _distances(output: Tensor, weighted: Tensor, plain: Tensor, generator: torch.Generator) -> list[Tensor]:
    """By sample: squared distances to the two predictions and to a random direction, the features' own squared length,
    and the angles to the two predictions as 1 - cos."""
    output, weighted, plain = output.flatten(1), weighted.flatten(1), plain.flatten(1)
    drawn = torch.randn(output.shape, generator=generator, dtype=output.dtype, device=output.device)
    random = drawn * (weighted.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True))
    squares = [(output - other).square().sum(dim=1) for other in (weighted, plain, random)]
    return [*squares, output.square().sum(dim=1), 1 - cosine(output, weighted), 1 - cosine(output, plain)]


def reciprocal_orthogonality(models: Models, split: Split) -> pd.DataFrame:
    """How much of one model's features another model's weights let through, by layer and ordered pair.

    Returns:
        `layer, model_a, model_b, orthogonality`: |W_b z_a| / |W_a z_a| with z_a what the layer takes in in the model a,
        lengths being root mean squares over samples; 0 is orthogonal, 1 as much as the model's own. The first layer,
        which takes in the same in all models, is left out.
    """
    sums = Sums()
    for inputs in split.inputs.split(BATCH):
        own = [calls(models, parameters, inputs) for parameters in models]
        for a, first in enumerate(own):
            for layer in [*first][1:]:
                straight = _squares(first[layer].with_weight(first[layer].weight))
                for b, second in enumerate(own):
                    if a != b:
                        across = _squares(first[layer].with_weight(second[layer].weight))
                        sums.add((layer, models.seeds[a], models.seeds[b]), across, straight)
    table = sums.frame(["layer", "model_a", "model_b"], ["orthogonality", "own"])
    return table.assign(orthogonality=(table["orthogonality"] / table["own"]) ** 0.5).drop(columns="own")


def _squares(tensor: Tensor) -> Tensor:
    return tensor.flatten(1).double().square().sum(dim=1)


def lewc(run: Run, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Measure `lewc`: the tables of that name and `lewc_conditions`, by method and count.

    Args:
        settings: the `split` and how many of its `images`; the `alphas` of a pair's first model.
    """
    split = run.split(settings)

    def measured(count: int) -> dict[str, pd.DataFrame]:
        models, draws = run.aligned(count), run.stream("lewc", run.trial, count)
        merged, recalibrate = run.merged(count), run.recalibration()
        return {
            "lewc": exponential_connectivity(models, merged, split, settings["alphas"], recalibrate, draws),
            "lewc_conditions": reciprocal_orthogonality(models, split),
        }

    return {name: frame.assign(split=settings["split"]) for name, frame in by_count(run, measured).items()}
