"""STE-MM: a straight-through estimator over all models at once (Ito, Yamada, Kumagai, ICML 2025).

The first model stays. Every other model i has a latent target t_i, at first equal to the first model. A step matches
the models to their targets, measures the loss at a random convex combination of the permuted models, and passes its
gradient to the targets as if permuting were the identity. So the permutations are pushed towards a region in which
all the models' convex combinations are good.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onebasin.data import Data, Split, batches
from onebasin.matching.latents import start_latents, with_reference
from onebasin.matching.weight import Matcher
from onebasin.models import Models, forward
from onebasin.progress import track
from onebasin.symmetry.apply import Parameters, permute_stack
from onebasin.symmetry.permutations import Permutations
from onebasin.symmetry.spec import Spec


def ste_mm(
    models: Models, spec: Spec, data: Data, settings: Mapping[str, Any], generator: torch.Generator
) -> Permutations:
    """Permutations of all models, those of the last step; the first model keeps its order.

    Args:
        settings: `epochs`, `batch`, `lr` of Adam over the latent targets, `weights`: `random` (N uniform draws divided
            by their sum, anew each step) or `equal` (all 1/N), `first_sweep` and `warm_start` (`Matcher`).
    """
    count, device = len(models), data.train.labels.device
    first = models[0]
    source = {name: tensor[1:] for name, tensor in models.parameters.items()}
    latents = start_latents(first, count - 1)
    optimizer = torch.optim.Adam(list(latents.values()), lr=settings["lr"])
    matcher = Matcher(spec, count - 1, generator, settings["first_sweep"], settings["warm_start"], device)
    network = models.network.train()
    steps = 0
    for _ in track(range(settings["epochs"]), f"STE-MM of {count} models, epochs", settings["epochs"]):
        for batch in batches(len(data.train), settings["batch"], generator):
            matcher.match(latents, source, range(count - 1))
            permuted = permute_stack(source, spec, matcher.indices)
            weights = convex_weights(count, settings["weights"], generator)
            gradient = gradient_at_combination(network, first, permuted, weights, data.train, batch)
            straight_through(latents, gradient, weights[1:])
            optimizer.step()
            steps += 1
    network.eval()
    return Permutations(with_reference(spec, matcher.indices), matcher.work(steps))


def convex_weights(count: int, kind: str, generator: torch.Generator) -> Tensor:
    """The weights `[N]` of a convex combination: all equal, or uniform draws divided by their sum."""
    if kind == "equal":
        return torch.full((count,), 1 / count, device=generator.device)
    draws = torch.rand(count, generator=generator, device=generator.device)
    return draws / draws.sum()


def gradient_at_combination(
    network: torch.nn.Module, first: Parameters, permuted: Parameters, weights: Tensor, split: Split, batch: Tensor
) -> Parameters:
    """The gradient of the batch's mean cross-entropy at `weights[0] first + sum_i weights[i] permuted_i`."""
    combination = {
        name: (weights[0] * tensor + torch.tensordot(weights[1:], permuted[name], dims=1)).requires_grad_()
        for name, tensor in first.items()
    }
    loss = F.cross_entropy(forward(network, combination, split.images[batch]), split.labels[batch])
    return dict(zip(combination, torch.autograd.grad(loss, list(combination.values())), strict=True))


def straight_through(latents: Parameters, gradient: Parameters, weights: Tensor) -> None:
    """Set the gradients of the latent targets.

    The combination holds `weights[i] (stopgrad(pi_i(theta_i)) + t_i - stopgrad(t_i))`, whose derivative by t_i is
    `weights[i]`: each target gets its weight's share of the one gradient at the combination.
    """
    for name, latent in latents.items():
        shares = weights.view(-1, *[1] * gradient[name].dim())
        latent.grad = shares * gradient[name]
