"""What the straight-through searches share: latent targets for all models but the first, which keeps its order."""

from collections.abc import Mapping

import torch
from torch import Tensor

from onebasin.symmetry.apply import Indices, Parameters, identity
from onebasin.symmetry.spec import Spec


def start_latents(first: Parameters, models: int) -> Parameters:
    """The latent targets `[models, ...]`, all equal to the first model, with gradients to be set by hand."""
    return {name: tensor.expand(models, *tensor.shape).clone() for name, tensor in first.items()}


def with_reference(spec: Spec, indices: Mapping[str, Tensor]) -> Indices:
    """The permutations with the identity of the first model before them."""
    first = identity(spec, 1, next(iter(indices.values())).device)
    return {name: torch.cat([first[name], index]) for name, index in indices.items()}
