"""Permuting a network's tensors. A permutation `p` gives new unit i the place of old unit `p[i]`: `new = old[p]`.

Parameters are dictionaries of tensors keyed like a `state_dict`. Stacks carry a leading model axis; permutations of a
stack of N models are `[N, n]` per group, those of a single model `[n]`.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from onebasin.symmetry.spec import Spec

Parameters = dict[str, Tensor]
Indices = dict[str, Tensor]


def permute(parameters: Mapping[str, Tensor], spec: Spec, indices: Mapping[str, Tensor]) -> Parameters:
    """One model's parameters with the units of every group put into the order of `indices[group]` `[n]`."""
    return {name: permute_tensor(name, tensor, spec, indices) for name, tensor in parameters.items()}


def permute_stack(stack: Mapping[str, Tensor], spec: Spec, indices: Mapping[str, Tensor]) -> Parameters:
    """The same for a stack: tensors `[N, ...]`, indices `[N, n]`."""
    result = {}
    for name, tensor in stack.items():
        for axis, group in spec.axes_of(name).items():
            tensor = take_along(tensor, axis + 1, indices[group])
        result[name] = tensor
    return result


def permute_tensor(
    name: str, tensor: Tensor, spec: Spec, indices: Mapping[str, Tensor], without: str | None = None
) -> Tensor:
    """One tensor of one model with its permuted axes put in order, except those of the group `without`."""
    for axis, group in spec.axes_of(name).items():
        if group != without:
            tensor = tensor.index_select(axis, indices[group])
    return tensor


def take_along(tensor: Tensor, axis: int, indices: Tensor, models: Sequence[int] | None = None) -> Tensor:
    """`tensor` `[N, ...]` with `axis` (the model axis counts) of each model in the order of its row of `indices`.

    Args:
        models: which of the N models to return, in this order; all if not given.
    """
    chosen = range(len(tensor)) if models is None else models
    result = tensor.new_empty(len(chosen), *tensor.shape[1:])
    for place, model in enumerate(chosen):
        torch.index_select(tensor[model], axis - 1, indices[model], out=result[place])
    return result


def identity(spec: Spec, models: int = 1, device: torch.device | str = "cpu") -> Indices:
    """The permutations `[models, n]` that change nothing."""
    return {group.name: torch.arange(group.size, device=device).repeat(models, 1) for group in spec.groups}


def invert(indices: Mapping[str, Tensor]) -> Indices:
    """The permutations that undo `indices` (`[n]` or `[N, n]` per group)."""
    return {name: index.argsort(dim=-1) for name, index in indices.items()}


def compose(first: Mapping[str, Tensor], then: Mapping[str, Tensor]) -> Indices:
    """The permutations that do what `first` and `then` do one after the other."""
    return {name: first[name].gather(-1, then[name]) for name in first}


def random_permutations(spec: Spec, models: int, generator: torch.Generator) -> Indices:
    """Independent uniformly random permutations `[models, n]` of every group."""
    return {
        group.name: torch.stack([torch.randperm(group.size, generator=generator) for _ in range(models)])
        for group in spec.groups
    }
