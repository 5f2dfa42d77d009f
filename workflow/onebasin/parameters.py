"""Arithmetic of parameters: dictionaries of tensors keyed like a `state_dict`, and stacks of them.

A stack carries a leading model axis on every tensor.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

Parameters = dict[str, Tensor]


def _is_measured(tensor: Tensor) -> bool:
    """Whether a tensor's numbers can be averaged: real or complex ones, not counters."""
    return tensor.is_floating_point() or tensor.is_complex()


def is_finite(tensor: Tensor) -> bool:
    """Whether no number is NaN or infinite; also of types that torch itself does not ask, quantised and 8-bit ones."""
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    elif tensor.is_floating_point() and tensor.itemsize == 1:
        tensor = tensor.float()
    return bool(torch.isfinite(tensor).all())


def _real(tensor: Tensor) -> Tensor:
    """The tensor; of complex numbers, their real and imaginary parts along a last axis."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def one(stack: Mapping[str, Tensor], model: int) -> Parameters:
    """The parameters of model number `model` of a stack (views)."""
    return {name: tensor[model] for name, tensor in stack.items()}


def some(stack: Mapping[str, Tensor], models: slice | Sequence[int]) -> Parameters:
    """The stack of some of a stack's models (views, if they are a slice)."""
    return {name: tensor[models] for name, tensor in stack.items()}


def stacked(models: Sequence[Mapping[str, Tensor]]) -> Parameters:
    """A stack `[N, ...]` of the given models' parameters."""
    return {name: torch.stack([model[name] for model in models]) for name in models[0]}


def mean(stack: Mapping[str, Tensor]) -> Parameters:
    """The plain average over the models of a stack; of what is counted, not measured, the first model's."""
    return {name: tensor.mean(dim=0) if _is_measured(tensor) else tensor[0] for name, tensor in stack.items()}


def lerp(a: Parameters, b: Parameters, weight_b: float) -> Parameters:
    """The point `(1 - weight_b) a + weight_b b` of the line between two models; exact at both ends.

    What is counted, not measured, is a's."""
    return {n: torch.lerp(t, b[n], weight_b) if _is_measured(t) else t for n, t in a.items()}


def combine(parts: Iterable[tuple[float, Mapping[str, Tensor]]]) -> Parameters:
    """The sum of `weight * parameters` over the parts, in their order; they are asked for one at a time."""
    total: Parameters = {}
    for weight, parameters in parts:
        for name, tensor in parameters.items():
            if name in total:
                total[name].add_(tensor, alpha=weight)
            else:
                total[name] = weight * tensor
        del parameters  # before the next ones are made
    return total


def dot(a: Mapping[str, Tensor], b: Mapping[str, Tensor], dtype: torch.dtype | None = torch.float64) -> float:
    """The inner product over the tensors of a: each one's in `dtype`, or in its own if that is None."""
    total = 0.0
    for name, tensor in a.items():
        left, right = (_real(part).flatten().to(dtype or _real(tensor).dtype) for part in (tensor, b[name]))
        total += float(torch.dot(left, right))
    return total


def squared_distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """The square of the L2 norm of the difference, summed in float64; of a stack a it is the sum over its models."""
    return sum(float((_real(tensor).double() - _real(b[name]).double()).square().sum()) for name, tensor in a.items())


def distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """The L2 norm of the difference over all tensors, summed in float64."""
    return math.sqrt(squared_distance(a, b))
