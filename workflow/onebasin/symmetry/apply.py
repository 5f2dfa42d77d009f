"""Permuting a network's tensors. A permutation `p` gives new unit i the place of old unit `p[i]`: `new = old[p]`.

Parameters are dictionaries of tensors keyed like a `state_dict`. Stacks carry a leading model axis; permutations of a
stack of N models are `[N, n]` per group, those of a single model `[n]`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from onebasin.symmetry.spec import Parts, Spec

Parameters = dict[str, Tensor]
Indices = dict[str, Tensor]


def permute(parameters: Mapping[str, Tensor], spec: Spec, indices: Mapping[str, Tensor]) -> Parameters:
    """One model's parameters with the units of every group put into the order of `indices[group]` `[n]`."""
    return {name: permute_tensor(name, tensor, spec, indices) for name, tensor in parameters.items()}


def permute_stack(stack: Mapping[str, Tensor], spec: Spec, indices: Mapping[str, Tensor]) -> Parameters:
    """The same for a stack: tensors `[N, ...]`, indices `[N, n]`."""
    models = len(next(iter(stack.values())))
    own = [{name: index[model] for name, index in indices.items()} for model in range(models)]
    return {
        name: torch.stack([permute_tensor(name, tensor[model], spec, own[model]) for model in range(models)])
        if spec.axes_of(name)
        else tensor
        for name, tensor in stack.items()
    }


def permute_tensor(
    name: str, tensor: Tensor, spec: Spec, indices: Mapping[str, Tensor], without: int | None = None
) -> Tensor:
    """One tensor of one model with its permuted axes put in order, except the axis number `without`."""
    for axis, parts in spec.axes_of(name).items():
        if axis != without:
            tensor = tensor.index_select(axis, places_of(parts, indices, tensor.shape[axis]))
    return tensor


def places_of(parts: Parts, indices: Mapping[str, Tensor], length: int) -> Tensor:
    """Where the entries of an axis come from `[length]` when the groups that act on its parts are permuted."""
    (first, group), *rest = parts
    if not rest and first.is_plain() and group.size == length:
        return indices[group.name]
    result = torch.arange(length, device=indices[group.name].device)
    for axis, group in parts:
        places = axis.places(group.size, result.device)
        result[places.flatten()] = places[:, indices[group.name]].flatten()
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
