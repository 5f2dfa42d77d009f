"""The gain of every assignment of units to units: one matrix per model and group, one batched product per axis.

For a group p, `G[i, j]` is the inner product of everything that belongs to unit i of the target with everything that
belongs to unit j of the source, whose other groups are already permuted. Then `<P, G>` is largest where the permuted
source is nearest to the target (Ainsworth et al. 2023, equation 2; Ito et al. 2025, weight matching).
`gains` computes G; `Costs` keeps -G from one visit of a group to the next and mends it where few units moved.
"""

from collections.abc import Container, Mapping, Sequence

import torch
from torch import Tensor

from onebasin.symmetry.apply import take_along
from onebasin.symmetry.spec import Axis, Group, Spec

MOST_MENDED = 0.25  # of a neighbour's units; beyond, gathering them costs about what the whole product does
KEPT_SHARE = 0.5  # of the parameters' memory may hold costs that are kept


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


class Costs:
    """The costs -G of N models while they are matched to fixed targets, mended rather than computed where that is less.

    Between two visits of a group its neighbours mostly change in a few places S. Their part of G is a product over the
    neighbour's units, so G changes by the product over S alone: |S| columns instead of all n.

    Args:
        target: stack `[N, ...]`, one target a model; must not change while this object is in use.
        source: stack `[N, ...]` of unpermuted models.
        spec: the groups.
        kept: names of the groups whose costs are remembered, n x n numbers a model and group.
    """

    def __init__(
        self, target: Mapping[str, Tensor], source: Mapping[str, Tensor], spec: Spec, kept: Container[str]
    ) -> None:
        self._target, self._source, self._spec, self._kept = target, source, spec, kept
        self._costs: dict[str, Tensor] = {}
        self._seen: dict[str, dict[str, Tensor]] = {}  # the neighbours' permutations that the costs are for

    def of(self, group: Group, indices: Mapping[str, Tensor], models: Sequence[int]) -> Tensor:
        """The costs `[k, n, n]` of `group` for k of the models, given the present permutations `[N, n]`."""
        if group.name not in self._costs:
            costs = gains(self._target, self._source, self._spec, indices, group, models).neg_()
            if group.name in self._kept and len(models) == len(indices[group.name]):
                self._costs[group.name] = costs
                self._seen[group.name] = {name: indices[name].clone() for name in self._spec.neighbours(group)}
            return costs
        for model in models:
            self._mend(group, indices, model)
        return _rows(self._costs[group.name], models)

    def _mend(self, group: Group, indices: Mapping[str, Tensor], model: int) -> None:
        seen = self._seen[group.name]
        moved = {name: torch.nonzero(indices[name][model] != old[model])[:, 0] for name, old in seen.items()}
        if any(len(places) > MOST_MENDED * len(indices[name][model]) for name, places in moved.items()):
            fresh = gains(self._target, self._source, self._spec, indices, group, [model])
            torch.neg(fresh[0], out=self._costs[group.name][model])
        else:
            for axis in group.axes:
                for other, name in self._spec.axes_of(axis.tensor).items():
                    if name != group.name and len(moved[name]):
                        self._mend_axis(group, axis, other, moved[name], indices[name][model], seen[name][model], model)
        for name, old in seen.items():
            old[model] = indices[name][model]

    def _mend_axis(
        self, group: Group, axis: Axis, other: int, places: Tensor, new: Tensor, old: Tensor, model: int
    ) -> None:
        """Add what axis `other` of a tensor contributes at the `places` where its permutation changed."""
        target, source = (stack[axis.tensor][model : model + 1] for stack in (self._target, self._source))
        ours = target.index_select(other + 1, places)
        theirs = source.index_select(other + 1, new[places]) - source.index_select(other + 1, old[places])
        self._costs[group.name][model].addmm_(_units(ours, axis)[0], _units(theirs, axis)[0].T, alpha=-1)


def kept_groups(stack: Mapping[str, Tensor], spec: Spec) -> set[str]:
    """The groups whose costs are worth remembering within `KEPT_SHARE` of the parameters' memory.

    Those first whose product takes longest for the size of its result. A tensor on which more than two groups act is
    left out: mending one of its axes would need the others' permutations of both times.
    """
    parameters = sum(tensor[0].numel() for tensor in stack.values())

    def product(group: Group) -> float:
        return sum(stack[axis.tensor][0].numel() for axis in group.axes) / group.size

    kept: set[str] = set()
    room = KEPT_SHARE * parameters
    for group in sorted(spec.groups, key=product, reverse=True):
        simple = all(len(spec.axes_of(axis.tensor)) <= 2 for axis in group.axes)
        if simple and group.size**2 <= room:
            kept.add(group.name)
            room -= group.size**2
    return kept


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
