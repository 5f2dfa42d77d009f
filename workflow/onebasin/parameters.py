"""Arithmetic of parameters: dictionaries of tensors keyed like a `state_dict`, and stacks of them.

A stack carries a leading model axis on every tensor.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Parameters = dict[str, Tensor]


def one(stack: Mapping[str, Tensor], model: int) -> Parameters:
    """The parameters of model number `model` of a stack (views)."""
    return {name: tensor[model] for name, tensor in stack.items()}


def stacked(models: Sequence[Mapping[str, Tensor]]) -> Parameters:
    """A stack `[N, ...]` of the given models' parameters."""
    return {name: torch.stack([model[name] for model in models]) for name in models[0]}


def mean(stack: Mapping[str, Tensor]) -> Parameters:
    """The plain average over the models of a stack; of what is counted, not measured, the first model's."""
    return {name: tensor.mean(dim=0) if tensor.is_floating_point() else tensor[0] for name, tensor in stack.items()}


def lerp(a: Parameters, b: Parameters, weight_b: float) -> Parameters:
    """The point `(1 - weight_b) a + weight_b b` of the line between two models; exact at both ends.

    What is counted, not measured, is a's."""
    return {n: torch.lerp(t, b[n], weight_b) if t.is_floating_point() else t for n, t in a.items()}


def distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """The L2 norm of the difference over all tensors, summed in float64."""
    return math.sqrt(sum(float((tensor.double() - b[name].double()).square().sum()) for name, tensor in a.items()))
