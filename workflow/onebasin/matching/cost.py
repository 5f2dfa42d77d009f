"""The gain of every assignment of units to units: one matrix per model and group, one batched product per axis.

For a group p, `G[i, j]` is the inner product of everything that belongs to unit i of the target with everything that
belongs to unit j of the source, whose other groups are already permuted. Then `<P, G>` is largest where the permuted
source is nearest to the target (Ainsworth et al. 2023, equation 2; Ito et al. 2025, weight matching).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from onebasin.symmetry.apply import take_along
from onebasin.symmetry.spec import Axis, Group, Spec


def gains(
    target: Mapping[str, Tensor], source: Mapping[str, Tensor], spec: Spec, indices: Mapping[str, Tensor], group: Group
) -> Tensor:
    """G `[N, n, n]` of `group`: row = place in the target, column = unit of the unpermuted source.

    Args:
        target: stack `[N, ...]`, one target a model.
        source: stack `[N, ...]` of unpermuted models.
        indices: the present permutations `[N, n]` of every group; those of `group` itself do not matter.
    """
    total: Tensor | None = None
    for axis in group.axes:
        ours = _units(target[axis.tensor], axis)
        theirs = _units(_permute_others(source[axis.tensor], axis, spec, indices, group), axis)
        if total is None:
            total = torch.bmm(ours, theirs.mT)
        else:
            total.baddbmm_(ours, theirs.mT)
    assert total is not None, "a group acts on at least one axis"
    return total


def _units(stack: Tensor, axis: Axis) -> Tensor:
    """`[N, n, rest]`: everything that belongs to each unit along `axis`."""
    return stack.movedim(axis.axis + 1, 1).reshape(stack.shape[0], stack.shape[axis.axis + 1], -1)


def _permute_others(stack: Tensor, axis: Axis, spec: Spec, indices: Mapping[str, Tensor], group: Group) -> Tensor:
    for other, name in spec.axes_of(axis.tensor).items():
        if name != group.name:
            stack = take_along(stack, other + 1, indices[name])
    return stack
