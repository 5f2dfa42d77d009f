"""Proof by trial that a spec is right: random permutations must leave the function unchanged."""

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call

from onebasin.errors import OnebasinError
from onebasin.symmetry.apply import permute
from onebasin.symmetry.spec import Axis, Group, Spec

TOLERANCE = 1e-9  # relative, in float64: rounding stays orders of magnitude below, a wrong axis far above


def check(module: nn.Module, spec: Spec, example_input: Tensor, generator: torch.Generator) -> float:
    """The largest relative change of the output, in float64, when all groups are permuted at random.

    Raises:
        OnebasinError: an axis of the spec does not exist or has another size, or the function changes; the message
            names the group and the tensors it moves.
    """
    _check_axes(module, spec)
    module = _with_random_parameters(module, generator)
    inputs = torch.randn(example_input.shape, generator=generator, dtype=torch.float64)
    difference = _change(module, spec, inputs, generator)
    if not difference <= TOLERANCE:
        culprits = [g for g in spec.groups if not _change(module, Spec((g,)), inputs, generator) <= TOLERANCE]
        raise OnebasinError(
            f"permuting changes the function (by {difference:.1e} of its size): "
            + "; ".join(f"group {group.name} ({_tensors(group)})" for group in culprits or spec.groups)
        )
    return difference


def _check_axes(module: nn.Module, spec: Spec) -> None:
    tensors = module.state_dict()
    for group in spec.groups:
        for axis in group.axes:
            if axis.tensor not in tensors:
                raise OnebasinError(f"group {group.name}: the network has no tensor {axis.tensor}")
            shape = tuple(tensors[axis.tensor].shape)
            if not _fits(axis, group, spec, shape):
                raise OnebasinError(
                    f"group {group.name}: axis {axis.axis} of {axis.tensor} {shape} is not {group.size}"
                )


def _fits(axis: Axis, group: Group, spec: Spec, shape: tuple[int, ...]) -> bool:
    """Whether the places exist, and are all there are where a group has an axis to itself."""
    if not 0 <= axis.axis < len(shape):
        return False
    end = axis.offset + axis.length(group.size)
    alone = axis.is_plain() and len(spec.axes_of(axis.tensor)[axis.axis]) == 1
    return axis.offset >= 0 and (end == shape[axis.axis] if alone else end <= shape[axis.axis])


def _with_random_parameters(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """A float64 copy with noise on every parameter: permuting a tensor of zeros would prove nothing."""
    module = copy.deepcopy(module).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            scale = parameter.std() if parameter.numel() > 1 else parameter.abs().sum()
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_((scale + 0.01) * noise)
    return module


def _change(module: nn.Module, spec: Spec, inputs: Tensor, generator: torch.Generator) -> float:
    indices = {group.name: _random_cycle(group.size, generator) for group in spec.groups}
    with torch.no_grad():
        before = module(inputs)
        after = functional_call(module, permute(module.state_dict(), spec, indices), (inputs,))
    return float((after - before).abs().max() / before.abs().max().clamp_min(torch.finfo(before.dtype).tiny))


def _random_cycle(size: int, generator: torch.Generator) -> Tensor:
    """A random permutation that moves every unit: the identity, one draw in two for two units, would prove nothing."""
    order = torch.randperm(size, generator=generator)
    return torch.empty_like(order).scatter_(0, order, order.roll(1))


def _tensors(group: Group) -> str:
    return ", ".join(f"axis {axis.axis} of {axis.tensor}" for axis in group.axes)
