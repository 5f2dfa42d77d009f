"""Copies of modules: with values of their own, or of the structure alone."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def copied(module: nn.Module) -> nn.Module:
    """A copy with values of its own.

    torch copies no tensor that it computed, such as the weight that `weight_norm` of the old style keeps beside its two
    factors; that one becomes a plain tensor of the same value, until the next forward pass computes it again.
    """
    computed = [tensor for part in module.modules() for tensor in tensors_in(vars(part)) if not tensor.is_leaf]
    return copy.deepcopy(module, {id(tensor): tensor.detach().clone() for tensor in computed})


def copy_sharing_tensors(module: nn.Module, training: bool) -> nn.Module:
    """A copy of the module's structure in training or in evaluation mode, with the same tensors in it: what the forward
    pass does to the object does not show in the original."""
    tensors = [tensor for part in module.modules() for tensor in tensors_in(vars(part))]
    structure = copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
    for part in structure.modules():
        part.training = training  # and not `part.train()`, which may be the user's and do anything
    return structure


def attributes_of(part: nn.Module) -> list[tuple[str, Any]]:
    """What a module has beside parameters, buffers and modules, by name."""
    return [(name, value) for name, value in vars(part).items() if name not in ("_parameters", "_buffers", "_modules")]


def tensors_beside(module: nn.Module) -> dict[str, list[Tensor]]:
    """The tensors that lie in such attributes, by place: `module.attribute`."""
    found = {}
    for name, part in module.named_modules():
        for attribute, value in attributes_of(part):
            if tensors := tensors_in(value):
                found[f"{name}.{attribute}".lstrip(".")] = tensors
    return found


def tensors_in(value: Any) -> list[Tensor]:
    """A tensor, or those of dictionaries, lists and tuples, as deep as they go."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [tensor for part in parts for tensor in tensors_in(part)]
