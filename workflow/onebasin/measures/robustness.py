"""Are merged models more robust? Accuracy under attack and noise, and the norms that are said to be the reason.

P. Franke et al. (arXiv 2510.09174, 2025) report that models merged in stages resist perturbations better the more were
merged, and that their norms fall. A large strength saturates the softmax of a model with large logits, whose gradients
vanish: FGSM then flatters it. So a single model that was scaled to the merged one's norm stands beside as a control.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from onebasin.data import Data, Split
from onebasin.measures.attacks import ATTACKS, Range
from onebasin.measures.run import Run, by_count
from onebasin.models.features import Call, watch
from onebasin.models.objective import objective_named
from onebasin.models.running import joined, outputs
from onebasin.models.stack import Models
from onebasin.parameters import Parameters, dot

BATCH = 500  # inputs a step of an attack


def under_attack(
    models: Models,
    parameters: Parameters,
    split: Split,
    data: Data,
    strengths: Mapping[str, list[float]],
    generator: torch.Generator,
) -> pd.DataFrame:
    """Loss and accuracy of one model, clean and under every attack: `attack, strength, loss, accuracy`.

    Args:
        strengths: of every attack, in input units; `noise` in standard deviations.
        generator: draws starts and noise, the same for every model.
    """
    objective, allowed, state = objective_named(split.objective), Range.of(data), generator.get_state()
    cases = [("clean", 0.0), *((name, strength) for name, every in strengths.items() for strength in every)]
    rows = []
    for name, strength in cases:
        generator.set_state(state)
        given = []
        for start in range(0, len(split), BATCH):
            batch = split.some(slice(start, start + BATCH))
            if name == "clean":
                inputs = batch.only_input("an attack")
            else:
                inputs = ATTACKS[name](models.network, parameters, batch, strength, allowed, generator)
            moved = Split(inputs, batch.targets, batch.objective)
            given.append(outputs(models.network, parameters, moved))
        predicted = objective.predictions(joined(given))
        rows.append((name, strength, *objective.score(predicted, split.targets)))
    return pd.DataFrame(rows, columns=["attack", "strength", "loss", "accuracy"])


def norms(models: Models, parameters: Parameters, split: Split) -> dict[str, float]:
    """The norms of one model.

    Returns:
        `frobenius`, the L2 norm of all its weights; `spectral_product`, the product of the spectral norms of its
        layers' weights (convolutions: as matrices of filters), a bound of its Lipschitz constant in plain networks; and
        `mean_logit`, the mean of the outputs' magnitudes.
    """
    weights = {name: parameters[name] for name in models.weights}
    layers: dict[str, Tensor] = {}

    def see(call: Call) -> None:
        if call.weight.dim() > 1:
            layers[call.name] = call.weight

    with torch.no_grad():
        watch(models.network, parameters, split.first(1).inputs, see)
        singular = [torch.linalg.matrix_norm(weight.flatten(1).double(), 2).log() for weight in layers.values()]
        logits = outputs(models.network, parameters, split)
    return {
        "frobenius": math.sqrt(dot(weights, weights)),
        "spectral_product": float(torch.stack(singular).sum().exp()),
        "mean_logit": float(logits.abs().double().mean()) if isinstance(logits, Tensor) else float("nan"),
    }


def rescaled(models: Models, parameters: Parameters, frobenius: float) -> Parameters:
    """The model with all its weights scaled by one number, so that their norm is the given one."""
    weights = {name: parameters[name] for name in models.weights}
    factor = frobenius / math.sqrt(dot(weights, weights))
    return {**parameters, **{name: factor * tensor for name, tensor in weights.items()}}


def robustness(run: Run, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Measure `robustness`: the tables of that name and `norms`, of merged models, of their parents, and of the first
    parent scaled to the merged model's norm (`model`: merged, a seed, rescaled).

    Args:
        settings: the `split` and how many of its `images`; strengths of `fgsm`, `pgd` and `noise`, in input units.
    """
    split = run.split(settings)
    strengths = {name: settings[name] for name in ATTACKS}

    def of(parameters: Parameters) -> tuple[pd.DataFrame, pd.DataFrame]:
        draws = run.stream("robustness", run.trial)
        attacked = under_attack(run.models, parameters, split, run.data, strengths, draws)
        return attacked, pd.DataFrame([norms(run.models, parameters, split)])

    def measured(count: int) -> dict[str, pd.DataFrame]:
        merged = run.merged(count)
        found = {"merged": of(merged)}
        # the parents are the same for every method: measured once a job
        for seed, parent in zip(run.parents(count).seeds, run.parents(count), strict=True):
            found[str(seed)] = run.once(("robustness", seed), partial(of, parent))
        frobenius = float(found["merged"][1]["frobenius"].iloc[0])
        recalibrate = run.recalibration(repair=False)  # statistics of a model's norms are those of its own scale
        found["rescaled"] = of(recalibrate(rescaled(run.models, run.models[0], frobenius)))
        return {
            table: pd.concat([parts[place].assign(model=name) for name, parts in found.items()])
            for place, table in enumerate(("robustness", "norms"))
        }

    return {name: frame.assign(split=settings["split"]) for name, frame in by_count(run, measured).items()}
