"""The gain of every assignment of units to units: one matrix per model and group, one batched product per axis.

For a group p, `G[i, j]` is the inner product of everything that belongs to unit i of the target with everything that
belongs to unit j of the source, whose other axes are already permuted. Then `<P, G>` is largest where the permuted
source is nearest to the target (Ainsworth et al. 2023, equation 2; Ito et al. 2025, weight matching).
`gains` computes G; `Costs` keeps -G from one visit of a group to the next and mends it where few units moved.

Of a nested group, rows and columns are all units, block by block and family by family (`symmetry.spec.Group`); what
units of two families have in common is of no use, and 0 stands in its place.

A group that acts on two axes of one tensor (a residual stream, a recurrence) is permuted on the other one as it is at
present, so that G is the gradient of what is to be maximised; whether a step along it gains is for `agreement` to say.
"""

from collections.abc import Container, Mapping, Sequence

import torch
from torch import Tensor

from onebasin.errors import OnebasinError
from onebasin.machine.matmul import add_product
from onebasin.symmetry.apply import act_on_tensor
from onebasin.symmetry.kinds import kind_of
from onebasin.symmetry.spec import Axis, Group, Spec

MOST_MENDED = 0.5  # of a neighbour's units; beyond, gathering them costs about what the whole product does
KEPT_SHARE = 1.5  # times the memory of one model may hold costs that are kept


def gains(
    target: Mapping[str, Tensor],
    source: Mapping[str, Tensor],
    spec: Spec,
    elements: Mapping[str, Tensor],
    group: Group,
    unknown: Container[str] = (),
) -> Tensor:
    """G `[k, n, n]` of `group`: row = place in the target, column = unit of the unpermuted source.

    Args:
        target: stack `[k, ...]`, one target a model, as groups know them (`Spec.join`). Tensors that it lacks (running
            statistics) do not count.
        source: stack `[k, ...]` of unpermuted models.
        elements: the present permutations `[k, n]` of every group.
        unknown: groups whose permutations say nothing yet. Tensors that one of them permutes along another axis do not
            count, if there are others.

    Raises:
        OnebasinError: the group acts on complex weights.
    """
    totals: dict[int, Tensor] = {}
    for axis in known_axes(group, spec, target, unknown):
        if axis.tensor in target:
            if target[axis.tensor].is_complex():
                raise OnebasinError(
                    f"{axis.tensor} is complex, and units with complex weights are not matched by weights; choose "
                    f"the method naive, which leaves units in their places"
                )
            ours, theirs = both_units(target, source, spec, elements, group, axis)
            totals[axis.family] = add_product(totals.get(axis.family), ours, theirs)
    return of_families(totals, group)


def both_units(
    target: Mapping[str, Tensor],
    source: Mapping[str, Tensor],
    spec: Spec,
    elements: Mapping[str, Tensor],
    group: Group,
    axis: Axis,
) -> tuple[Tensor, Tensor]:
    """Everything that belongs to each unit of target and source along an axis, the source's other axes permuted."""
    ours, theirs = target[axis.tensor], _permute_others(source[axis.tensor], axis, spec, elements)
    return units_of(ours, axis, group), units_of(theirs, axis, group)


def known_axes(group: Group, spec: Spec, target: Container[str], unknown: Container[str]) -> Sequence[Axis]:
    """The axes of a group on tensors that no unknown group permutes along another one; all, if there are none."""
    known = [
        axis
        for axis in group.axes
        if axis.tensor in target
        and not any(
            other.name in unknown
            for number, parts in spec.axes_of(axis.tensor).items()
            if number != axis.axis
            for _, other in parts
        )
    ]
    return known or group.axes


def of_families(totals: Mapping[int, Tensor], group: Group) -> Tensor:
    """`[k, n, n]` of all units from the matrices of each family that there is; 0 between families."""
    assert totals, f"group {group.name} acts on no weights"
    some = next(iter(totals.values()))
    if not group.inner:
        return some
    result = some.new_zeros(len(some), group.units, group.units)
    for family, total in totals.items():
        result[:, group.span(family), group.span(family)] = total
    return result


def agreement(
    target: Mapping[str, Tensor], source: Mapping[str, Tensor], spec: Spec, elements: Mapping[str, Tensor], group: Group
) -> Tensor:
    """`<target, permuted source>` `[k]` over the tensors on which `group` acts, summed in float64.

    Arguments are those of `gains`.
    """
    models = len(elements[group.name])
    total = torch.zeros(models, dtype=torch.float64, device=elements[group.name].device)
    for name in sorted({axis.tensor for axis in group.axes} & target.keys()):
        for model in range(models):
            own = {other: element[model] for other, element in elements.items()}
            theirs = act_on_tensor(name, source[name][model], spec, own)
            total[model] += torch.dot(target[name][model].flatten().double(), theirs.flatten().double())
    return total


class Costs:
    """The costs -G of k models while they are matched to fixed targets, mended rather than computed where that is less.

    Between two visits of a group its neighbours mostly change in a few places S. Their part of G is a product over the
    neighbour's units, so G changes by the product over S alone: |S| columns instead of all n.

    Args:
        target: stack `[k, ...]`, one target a model; must not change while this object is in use.
        source: stack `[k, ...]` of unpermuted models.
        spec: the groups.
        kept: names of the groups whose costs are remembered, n x n numbers a model and group.
    """

    def __init__(
        self, target: Mapping[str, Tensor], source: Mapping[str, Tensor], spec: Spec, kept: Container[str]
    ) -> None:
        self.target, self.source, self._spec, self._kept = target, source, spec, kept
        self._costs: dict[str, Tensor] = {}
        self._seen: dict[str, dict[str, Tensor]] = {}  # the neighbours' permutations that the costs are for

    def of(
        self, group: Group, elements: Mapping[str, Tensor], models: Sequence[int], unknown: Container[str] = ()
    ) -> Tensor:
        """The costs `[m, n, n]` of `group` for m of the k models, given the present permutations `[k, n]`.

        Args:
            unknown: groups whose permutations say nothing yet (`gains`); then nothing is remembered.
        """
        if unknown:
            return self._fresh(group, elements, models, unknown)
        if group.name not in self._costs:
            costs = self._fresh(group, elements, models)
            if group.name in self._kept and len(models) == len(elements[group.name]):
                self._costs[group.name] = costs
                self._seen[group.name] = {name: elements[name].clone() for name in self._spec.neighbours(group)}
            return costs
        for model in models:
            self._mend(group, elements, model)
        return rows_of(self._costs[group.name], models)

    def agreement(self, group: Group, elements: Mapping[str, Tensor], models: Sequence[int]) -> Tensor:
        """`agreement` `[m]` of m of the k models, given the present permutations `[k, n]`."""
        return agreement(*self._part(elements, models), group)

    def units(
        self, group: Group, axis: Axis, elements: Mapping[str, Tensor], models: Sequence[int]
    ) -> tuple[Tensor, Tensor] | None:
        """`both_units` `[m, n, rest]` of m of the k models; None where the axis is of no weights."""
        if axis.tensor not in self.target:
            return None
        return both_units(*self._part(elements, models), group, axis)

    def known(self, group: Group, unknown: Container[str]) -> Sequence[Axis]:
        """`known_axes` of the weights that there are."""
        return known_axes(group, self._spec, self.target, unknown)

    def _fresh(
        self, group: Group, elements: Mapping[str, Tensor], models: Sequence[int], unknown: Container[str] = ()
    ) -> Tensor:
        return gains(*self._part(elements, models), group, unknown).neg_()

    def _part(
        self, elements: Mapping[str, Tensor], models: Sequence[int]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Spec, dict[str, Tensor]]:
        target, source, own = (
            {name: rows_of(tensor, models) for name, tensor in stack.items()}
            for stack in (self.target, self.source, elements)
        )
        return target, source, self._spec, own

    def _mend(self, group: Group, elements: Mapping[str, Tensor], model: int) -> None:
        seen = self._seen[group.name]
        moved = {name: elements[name][model] != old[model] for name, old in seen.items()}
        counts = {name: int(units.sum()) for name, units in moved.items()}
        if any(count > MOST_MENDED * len(moved[name]) for name, count in counts.items()):
            self._costs[group.name][model] = self._fresh(group, elements, [model])[0]
        else:
            for axis in group.axes:
                for other, parts in self._spec.axes_of(axis.tensor).items():
                    if other != axis.axis and axis.tensor in self.target:
                        for part, neighbour in parts:
                            if counts[neighbour.name]:
                                self._mend_axis(group, axis, part, neighbour, elements, model)
        for name, old in seen.items():
            old[model] = elements[name][model]

    def _mend_axis(
        self,
        group: Group,
        axis: Axis,
        part: Axis,
        neighbour: Group,
        elements: Mapping[str, Tensor],
        model: int,
    ) -> None:
        """Add what `part`, another axis of the tensor, contributes where its permutation changed."""
        target, source = (stack[axis.tensor][model] for stack in (self.target, self.source))
        span = neighbour.span(part.family)
        present, seen = (
            known[neighbour.name][model][span] - span.start for known in (elements, self._seen[group.name])
        )
        units = (present != seen).nonzero()[:, 0]
        places = part.places(neighbour, units.device)
        new, old = present[units], seen[units]
        ours = target.index_select(part.axis, places[:, units].flatten())
        # the old minus the new, as the costs are -G
        theirs = source.index_select(part.axis, places[:, old].flatten())
        theirs -= source.index_select(part.axis, places[:, new].flatten())
        own = group.span(axis.family)
        costs = self._costs[group.name][model : model + 1, own, own]
        costs.baddbmm_(units_of(ours[None], axis, group), units_of(theirs[None], axis, group).mT)


def kept_groups(stack: Mapping[str, Tensor], spec: Spec, at_once: int) -> set[str]:
    """The groups whose costs are worth remembering, for `at_once` models, within `KEPT_SHARE`; `stack` is `[N, ...]`.

    Those first whose product takes longest for the size of its result. A tensor on which groups act along more than
    two axes, or one group along both, is left out: mending an axis would need the others' permutations of both times.
    A group with a neighbour that does not move units one by one is left out, too.
    """
    room = KEPT_SHARE * sum(tensor[0].numel() for tensor in stack.values()) / at_once

    def product(group: Group) -> float:
        return sum(stack[axis.tensor][0].numel() for axis in group.axes if axis.tensor in stack) / group.units

    kept: set[str] = set()
    for group in sorted(spec.groups, key=product, reverse=True):
        simple = all(len(spec.axes_of(axis.tensor)) <= 2 for axis in group.axes)
        simple &= all(kind_of(other).moves_units for other in spec.groups if other.name in spec.neighbours(group))
        if simple and group.name not in spec.neighbours(group) and group.units**2 <= room:
            kept.add(group.name)
            room -= group.units**2
    return kept


def units_of(stack: Tensor, axis: Axis, group: Group) -> Tensor:
    """`[k, n, rest]`: everything that belongs to each unit, of the axis's family, along `axis`."""
    number = axis.axis + 1
    if not (axis.is_plain() and stack.shape[number] == group.units):
        stack = axis.by_unit(stack, number, group)
        number += 1
    span = group.span(axis.family)
    return stack.movedim(number, 1).reshape(stack.shape[0], span.stop - span.start, -1)


def _permute_others(stack: Tensor, axis: Axis, spec: Spec, elements: Mapping[str, Tensor]) -> Tensor:
    """The tensor of every model with all its axes but this one in their present order."""
    if spec.axes_of(axis.tensor).keys() == {axis.axis}:
        return stack
    permuted = [
        act_on_tensor(axis.tensor, own, spec, {name: element[model] for name, element in elements.items()}, axis.axis)
        for model, own in enumerate(stack)
    ]
    return permuted[0][None] if len(permuted) == 1 else torch.stack(permuted)


def rows_of(stack: Tensor, models: Sequence[int]) -> Tensor:
    """The rows of the chosen models; a view, not a copy, where they follow one another."""
    if len(models) == len(stack):
        return stack
    first, count = models[0], len(models)
    if all(model == first + number for number, model in enumerate(models)):
        return stack.narrow(0, first, count)
    return stack[list(models)]
