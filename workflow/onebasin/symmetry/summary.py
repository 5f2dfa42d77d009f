"""A spec in a number: how much of a network its groups reach."""

import math

from torch import nn

from onebasin.symmetry.spec import Spec


def moving_share(module: nn.Module, spec: Spec) -> float:
    """The share of a network's parameters that the groups move, in [0, 1]; 0 for a network without parameters.

    Numbers are counted, not tensors: a number moves if a group acts on its place along at least one axis of its tensor.
    Those of a tied parameter are counted once, frozen ones like the others, buffers not at all.

    Args:
        module: the network that the spec is of; its names tell which tensors are parameters.
    """
    parameters = dict(module.named_parameters())
    total = sum(parameter.numel() for parameter in parameters.values())
    known = spec.join(parameters)
    staying = sum(_staying(name, parameter.shape, spec) for name, parameter in known.items())
    return (total - staying) / total if total else 0.0


def _staying(name: str, shape: tuple[int, ...], spec: Spec) -> int:
    """How many numbers of a tensor no group moves: those whose places stay along all axes. Parts do not overlap."""
    moved = {axis: sum(part.length(group) for part, group in parts) for axis, parts in spec.axes_of(name).items()}
    return math.prod(size - moved.get(axis, 0) for axis, size in enumerate(shape))
