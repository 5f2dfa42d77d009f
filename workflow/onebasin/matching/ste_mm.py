"""STE-MM: a straight-through estimator over all models at once (Ito, Yamada, Kumagai, ICML 2025).

The first model stays. Every other model i has a latent target t_i, at first equal to the first model. A step matches
the models to their targets, measures the loss at a random convex combination of the permuted models, and passes its
gradient to the targets as if permuting were the identity. So the permutations are pushed towards a region in which
all the models' convex combinations are good.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from onebasin.data import Data
from onebasin.matching.latents import (
    Latents,
    gradient_at,
    own_dropout,
    permuted,
    training_batches,
    with_reference,
)
from onebasin.matching.weight import Matcher
from onebasin.models.stack import Models
from onebasin.parameters import combine, one, some
from onebasin.progress import track
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.spec import Spec


def ste_mm(
    models: Models, spec: Spec, data: Data, settings: Mapping[str, Any], generator: torch.Generator
) -> Alignment:
    """Alignment of all models, those of the last step; the first model keeps its order.

    Args:
        settings: `epochs`, `batch`, `lr` of Adam over the latent targets, `weights`: `random` (N uniform draws divided
            by their sum, anew each step) or `equal` (all 1/N), `augmentation`, `first_sweep` and `warm_start`
            (`Matcher`).
    """
    count, device = len(models), data.train.targets.device
    first = one(models.weights, 0)
    source = some(models.weights, slice(1, None))
    latents = Latents(first, count - 1, settings["lr"])
    matcher = Matcher(spec, count - 1, generator, settings["first_sweep"], settings["warm_start"], device)
    steps = 0
    with own_dropout(generator):
        for _ in track(range(settings["epochs"]), f"STE-MM of {count} models, epochs", settings["epochs"]):
            for batch in training_batches(data, settings, generator):
                matcher.match(latents.stack, source, range(count - 1))
                weights = convex_weights(count, settings["weights"], generator).tolist()
                everyone = itertools.chain([first], permuted(source, spec, matcher.elements))
                gradient = gradient_at(models.network, combine((own, next(everyone)) for own in weights), batch)
                latents.step(gradient, weights[1:])
                del gradient  # room for the costs of the next matching
                steps += 1
    return Alignment(with_reference(spec, matcher.elements), matcher.work(steps))


def convex_weights(count: int, kind: str, generator: torch.Generator) -> Tensor:
    """The weights `[N]` of a convex combination: all equal, or uniform draws divided by their sum."""
    if kind == "equal":
        return torch.full((count,), 1 / count, device=generator.device)
    draws = torch.rand(count, generator=generator, device=generator.device)
    return draws / draws.sum()
