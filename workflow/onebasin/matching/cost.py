"""The gain of every assignment of units to units: one matrix per model and group, one batched product per axis.

For a group p, `G[i, j]` is the inner product of everything that belongs to unit i of the target with everything that
belongs to unit j of the source, whose other groups are already permuted. Then `<P, G>` is largest where the permuted
source is nearest to the target (Ainsworth et al. 2023, equation 2; Ito et al. 2025, weight matching).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from onebasin.symmetry.apply import take_along
from onebasin.symmetry.spec import Axis, Group, Spec


def gains(
    target: Mapping[str, Tensor],
    source: Mapping[str, Tensor],
    spec: Spec,
    indices: Mapping[str, Tensor],
    group: Group,
    models: Sequence[int] | None = None,
) -> Tensor:
    """G `[k, n, n]` of `group`: row = place in the target, column = unit of the unpermuted source.

    Args:
        target: stack `[N, ...]`, one target a model.
        source: stack `[N, ...]` of unpermuted models.
        indices: the present permutations `[N, n]` of every group; those of `group` itself do not matter.
        models: which k of the N models are asked for, in ascending order; all if not given.
    """
    chosen = range(len(next(iter(indices.values())))) if models is None else models
    total: Tensor | None = None
    for axis in group.axes:
        ours = _units(_rows(target[axis.tensor], chosen), axis)
        theirs = _units(_permute_others(source[axis.tensor], axis, spec, indices, group, chosen), axis)
        if total is None:
            total = torch.bmm(ours, theirs.mT)
        else:
            total.baddbmm_(ours, theirs.mT)
    assert total is not None, "a group acts on at least one axis"
    return total


def _units(stack: Tensor, axis: Axis) -> Tensor:
    """`[k, n, rest]`: everything that belongs to each unit along `axis`."""
    return stack.movedim(axis.axis + 1, 1).reshape(stack.shape[0], stack.shape[axis.axis + 1], -1)


def _permute_others(
    stack: Tensor, axis: Axis, spec: Spec, indices: Mapping[str, Tensor], group: Group, models: Sequence[int]
) -> Tensor:
    others = [(other, name) for other, name in spec.axes_of(axis.tensor).items() if name != group.name]
    if not others:
        return _rows(stack, models)
    (other, name), *rest = others
    stack = take_along(stack, other + 1, indices[name], models)
    for other, name in rest:
        stack = take_along(stack, other + 1, indices[name][list(models)])
    return stack


def _rows(stack: Tensor, models: Sequence[int]) -> Tensor:
    """The rows of the chosen models; the stack itself, not a copy, where it is all of them."""
    return stack if len(models) == len(stack) else stack[list(models)]
