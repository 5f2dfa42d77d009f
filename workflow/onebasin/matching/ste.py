"""STE for two models (Ainsworth et al. 2023), pairwise for many: each of models 2..N is searched against the first.

A step matches model i to its latent target t_i, measures the loss at the midpoint of the first and the permuted model,
and passes the gradient straight through to t_i. The pairs share nothing but the order of the data.
"""

from collections.abc import Mapping
from typing import Any

import torch

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

HALF = 0.5  # the weight of either model at the midpoint


def ste(models: Models, spec: Spec, data: Data, settings: Mapping[str, Any], generator: torch.Generator) -> Alignment:
    """Alignment of models 2..N against the first, which keeps its order; those of the last step.

    Args:
        settings: `epochs`, `batch`, `lr` of Adam over the latent targets, `augmentation`, `first_sweep` and
            `warm_start` (`Matcher`).
    """
    pairs, device = len(models) - 1, data.train.targets.device
    first = one(models.weights, 0)
    source = some(models.weights, slice(1, None))
    latents = Latents(first, pairs, settings["lr"])
    matcher = Matcher(spec, pairs, generator, settings["first_sweep"], settings["warm_start"], device)
    steps = 0
    with own_dropout(generator):
        for _ in track(range(settings["epochs"]), f"STE of {pairs} pairs, epochs", settings["epochs"]):
            for batch in training_batches(data, settings, generator):
                matcher.match(latents.stack, source, range(pairs))
                for pair, second in enumerate(permuted(source, spec, matcher.elements)):
                    midpoint = combine([(HALF, first), (HALF, second)])
                    latents.step_one(pair, gradient_at(models.network, midpoint, batch), HALF)
                steps += 1
    return Alignment(with_reference(spec, matcher.elements), matcher.work(steps))
