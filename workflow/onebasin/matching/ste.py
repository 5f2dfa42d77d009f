"""STE for two models (Ainsworth et al. 2023), pairwise for many: each of models 2..N is searched against the first.

A step matches model i to its latent target t_i, measures the loss at the midpoint of the first and the permuted model,
and passes the gradient straight through to t_i. The pairs share nothing but the order of the data; they run as a stack.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional as F

from onebasin.data import Data, Split, batches
from onebasin.matching.latents import start_latents, with_reference
from onebasin.matching.weight import Matcher
from onebasin.models import Models, forward_stack
from onebasin.progress import track
from onebasin.symmetry.apply import Parameters, permute_stack
from onebasin.symmetry.permutations import Permutations
from onebasin.symmetry.spec import Spec


def ste(
    models: Models, spec: Spec, data: Data, settings: Mapping[str, Any], generator: torch.Generator
) -> Permutations:
    """Permutations of models 2..N against the first, which keeps its order; those of the last step.

    Args:
        settings: `epochs`, `batch`, `lr` of Adam over the latent targets, `first_sweep` and `warm_start` (`Matcher`).
    """
    pairs, device = len(models) - 1, data.train.labels.device
    source = {name: tensor[1:] for name, tensor in models.parameters.items()}
    latents = start_latents(models[0], pairs)
    optimizer = torch.optim.Adam(list(latents.values()), lr=settings["lr"])
    matcher = Matcher(spec, pairs, generator, settings["first_sweep"], settings["warm_start"], device)
    network = models.network.train()
    steps = 0
    for _ in track(range(settings["epochs"]), f"STE of {pairs} pairs, epochs", settings["epochs"]):
        for batch in batches(len(data.train), settings["batch"], generator):
            matcher.match(latents, source, range(pairs))
            permuted = permute_stack(source, spec, matcher.indices)
            for name, gradient in gradients_at_midpoints(network, models[0], permuted, data.train, batch).items():
                latents[name].grad = gradient / 2  # the target's share of the midpoint
            optimizer.step()
            steps += 1
    network.eval()
    return Permutations(with_reference(spec, matcher.indices), matcher.work(steps))


def gradients_at_midpoints(
    network: torch.nn.Module, first: Parameters, permuted: Parameters, split: Split, batch: torch.Tensor
) -> Parameters:
    """The gradients `[pairs, ...]` of the batch's mean cross-entropy, midway between `first` and each `permuted`."""
    midpoints = {name: ((tensor + permuted[name]) / 2).requires_grad_() for name, tensor in first.items()}
    pairs = len(next(iter(permuted.values())))
    images = split.images[batch].expand(pairs, -1, *[-1] * (split.images.dim() - 1))
    logits = forward_stack(network, midpoints, images)
    losses = F.cross_entropy(logits.flatten(0, 1), split.labels[batch].repeat(pairs), reduction="none")
    total = losses.view(pairs, -1).mean(dim=1).sum()
    return dict(zip(midpoints, torch.autograd.grad(total, list(midpoints.values())), strict=True))
