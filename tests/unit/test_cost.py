"""The gains of assigning units to units, against plain loops and against every permutation there is."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_for_tests import random_mlps, spec_of, stream

from onebasin.matching import cost
from onebasin.matching.cost import Costs, gains, kept_groups
from onebasin.symmetry.apply import act_on_stack, compose, random_elements
from onebasin.symmetry.spec import Axis, Group, Spec

CONVOLUTIONS = Spec(
    (
        Group("narrow", 3, (Axis("first", 0), Axis("first_bias", 0), Axis("second", 1))),
        Group("wide", 5, (Axis("second", 0), Axis("shortcut", 0), Axis("last", 1))),
    )
)
CONVOLUTION_SHAPES = {
    "first": (3, 2, 2, 2),
    "first_bias": (3,),
    "second": (5, 3, 2, 1),
    "shortcut": (5, 2, 1, 1),
    "last": (4, 5),
}


def one_hot(index):
    """The permutation matrix P with (P x)[i] = x[index[i]]."""
    return np.eye(len(index))[index]


def gains_by_loops(target, source, spec, indices, group):
    """G [n, n] of one model, entry by entry; other groups are permuted by their matrices."""
    total = np.zeros((group.size, group.size))
    for axis in group.axes:
        ours, theirs = target[axis.tensor].numpy(), source[axis.tensor].numpy()
        for other, ((_, neighbour),) in spec.axes_of(axis.tensor).items():
            if other != axis.axis:
                matrix = one_hot(indices[neighbour.name].numpy())
                theirs = np.moveaxis(np.tensordot(matrix, theirs, axes=(1, other)), 0, other)
        for i, j in itertools.product(range(group.size), repeat=2):
            mine, yours = np.take(ours, i, axis.axis), np.take(theirs, j, axis.axis)
            total[i, j] += sum(a * b for a, b in zip(mine.flat, yours.flat, strict=True))
    return total


def assert_gains_are_those_of_loops(target, source, spec, indices):
    for group in spec.groups:
        found = gains(target, source, spec, indices, group)
        for model in range(len(found)):
            own = [{name: tensor[model] for name, tensor in part.items()} for part in (target, source, indices)]
            expected = gains_by_loops(own[0], own[1], spec, own[2], group)
            np.testing.assert_allclose(found[model].numpy(), expected, rtol=1e-10, atol=1e-12)


def two_stacks(count, key=0, **sizes):
    """Targets, sources and the spec, in float64."""
    both = random_mlps(2 * count, key=key, dtype=torch.float64, **sizes)
    target = {name: tensor[:count] for name, tensor in both.parameters.items()}
    return target, {name: tensor[count:] for name, tensor in both.parameters.items()}, spec_of(both)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    count=st.integers(1, 3),
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
    inputs=st.integers(1, 5),
    key=st.integers(0, 10**6),
)
def test_gains_of_mlps_are_those_of_plain_loops(count, widths, inputs, key):
    target, source, spec = two_stacks(count, key, widths=widths, inputs=inputs)
    assert_gains_are_those_of_loops(target, source, spec, random_elements(spec, count, stream("present", key)))


@pytest.mark.parametrize("count", [1, 3])
def test_gains_of_tensors_with_more_axes_are_those_of_plain_loops(count):
    draws = stream("convolutions")
    target, source = (
        {name: torch.randn(count, *shape, generator=draws, dtype=torch.float64) for name, shape in shapes.items()}
        for shapes in (CONVOLUTION_SHAPES, CONVOLUTION_SHAPES)
    )
    assert_gains_are_those_of_loops(target, source, CONVOLUTIONS, random_elements(CONVOLUTIONS, count, draws))


def test_present_permutations_count_as_if_the_source_had_been_permuted():
    target, source, spec = two_stacks(2, widths=(4, 5, 3))
    before, then = (random_elements(spec, 2, stream("permutation", k)) for k in range(2))
    for group in spec.groups:
        own = torch.arange(group.size).repeat(2, 1)  # the group's own units stay, so that columns keep their meaning
        earlier = act_on_stack(source, spec, {**before, group.name: own})
        expected = gains(target, source, spec, compose(spec, before, then), group)
        torch.testing.assert_close(gains(target, earlier, spec, then, group), expected)


def test_the_present_permutation_of_the_group_itself_does_not_matter():
    target, source, spec = two_stacks(2, widths=(4, 5, 3))
    indices, other = (random_elements(spec, 2, stream("permutation", k)) for k in range(2))
    for group in spec.groups:
        expected = gains(target, source, spec, indices, group)
        assert torch.equal(gains(target, source, spec, {**indices, group.name: other[group.name]}, group), expected)


def test_permuting_the_target_permutes_the_rows_and_the_source_the_columns():
    target, source, spec = two_stacks(1, widths=(4, 5))
    indices = random_elements(spec, 1, stream("present"))
    for group in spec.groups:
        plain = gains(target, source, spec, indices, group)
        order = torch.randperm(group.size, generator=stream("order"))
        only = {g.name: torch.arange(g.size)[None] for g in spec.groups} | {group.name: order[None]}
        rows = gains(act_on_stack(target, spec, only), source, spec, indices, group)
        columns = gains(target, act_on_stack(source, spec, only), spec, indices, group)
        torch.testing.assert_close(rows, plain[:, order])
        torch.testing.assert_close(columns, plain[:, :, order])


@pytest.mark.parametrize("widths", [(2, 3), (5,), (3, 5, 4)])
def test_the_assignment_of_largest_gain_is_the_nearest_of_all_permutations(widths):
    target, source, spec = two_stacks(1, widths=widths)
    indices = random_elements(spec, 1, stream("present"))
    for group in spec.groups:
        gain = gains(target, source, spec, indices, group)[0]
        distances, totals = [], []
        for order in map(list, itertools.permutations(range(group.size))):
            permuted = act_on_stack(source, spec, {**indices, group.name: torch.tensor([order])})
            distances.append(sum(float((target[name] - permuted[name]).square().sum()) for name in target))
            totals.append(float(gain[range(group.size), order].sum()))
        assert np.argmax(totals) == np.argmin(distances)
        # |target - permuted|^2 = constant - 2 <P, G>: not only the best one agrees
        np.testing.assert_allclose(np.array(distances) + 2 * np.array(totals), distances[0] + 2 * totals[0], rtol=1e-9)


def moved(indices, places, draws):
    """The permutations with `places` units of every group and model put into another order."""
    result = {name: index.clone() for name, index in indices.items()}
    for index in result.values():
        for row in index:
            some = torch.randperm(len(row), generator=draws)[:places]
            row[some] = row[some.roll(1)]
    return result


@pytest.mark.parametrize("places", [0, 2, 3, 12])
def test_mended_costs_are_those_computed_anew(places):
    models = random_mlps(3, widths=(16, 12, 14), dtype=torch.float64)
    spec, draws = spec_of(models), stream("moved")
    target = random_mlps(3, widths=(16, 12, 14), dtype=torch.float64, key=1).parameters
    everything = {group.name for group in spec.groups}
    costs = Costs(target, models.parameters, spec, everything)
    indices = random_elements(spec, 3, draws)
    for group in spec.groups:
        costs.of(group, indices, range(3))
    for _ in range(3):
        indices = moved(indices, places, draws)
        for group in spec.groups:
            for asked in ([1], [0, 2]):
                anew = -gains(target, models.parameters, spec, indices, group)[asked]
                torch.testing.assert_close(costs.of(group, indices, asked), anew, rtol=1e-10, atol=1e-12)


def test_few_moved_units_are_mended_and_many_computed_anew(monkeypatch):
    models = random_mlps(1, widths=(16, 16, 16))
    spec, draws, computed = spec_of(models), stream("moved"), []
    monkeypatch.setattr(cost, "gains", lambda *arguments: computed.append(arguments[4].name) or gains(*arguments))
    costs = Costs(models.parameters, models.parameters, spec, {group.name for group in spec.groups})
    indices = random_elements(spec, 1, draws)
    middle = spec.groups[1]
    costs.of(middle, indices, [0])
    assert computed == [middle.name]
    costs.of(middle, moved(indices, 4, draws), [0])
    assert computed == [middle.name]
    costs.of(middle, random_elements(spec, 1, draws), [0])
    assert computed == [middle.name] * 2


def test_costs_that_are_kept_stay_within_their_share_of_the_parameters(monkeypatch):
    monkeypatch.setattr(cost, "KEPT_SHARE", 1)
    models = random_mlps(1, widths=(64, 64, 64))
    spec = spec_of(models)
    parameters = sum(tensor[0].numel() for tensor in models.parameters.values())
    kept = kept_groups(models.parameters, spec, at_once=2)
    assert spec.groups[1].name in kept  # the middle one, whose product is the longest
    assert sum(group.size**2 for group in spec.groups if group.name in kept) <= parameters / 2
    assert len(kept) < len(spec.groups)


# Groups that act on parts of an axis, in blocks, or on two axes of one tensor

PARTS = Spec(
    (
        Group("a", 12, (Axis("first", 0), Axis("joined", 1), Axis("pixels", 1, inner=3))),
        Group("b", 9, (Axis("second", 0), Axis("joined", 1, offset=12, outer=2))),
        Group("c", 8, (Axis("joined", 0), Axis("pixels", 0))),
    )
)
SHAPES = {"first": (12, 5), "second": (9, 4), "joined": (8, 12 + 18), "pixels": (8, 36), "running": (12,)}


def stack_of(shapes, count, key):
    draws = stream("stack", key)
    return {name: torch.randn(count, *shape, generator=draws, dtype=torch.float64) for name, shape in shapes.items()}


def test_the_gain_of_a_permutation_is_what_it_adds_to_the_inner_product_of_target_and_permuted_source():
    target, source = stack_of(SHAPES, 2, 0), stack_of(SHAPES, 2, 1)
    indices, other = (random_elements(PARTS, 2, stream("parts", key)) for key in range(2))
    for group in PARTS.groups:
        gain = gains(target, source, PARTS, indices, group)

        def product(index, group=group):
            permuted = act_on_stack(source, PARTS, {**indices, group.name: index})
            return sum((target[name] * permuted[name]).flatten(1).sum(dim=1) for name in SHAPES)

        def total(index, gain=gain):
            return gain.gather(2, index[:, :, None])[:, :, 0].sum(dim=1)

        one, two = indices[group.name], other[group.name]
        torch.testing.assert_close(total(two) - total(one), product(two) - product(one))


@pytest.mark.parametrize("places", [0, 2, 4, 9])
def test_costs_of_parts_and_blocks_are_mended_too(places):
    target, source, draws = stack_of(SHAPES, 2, 0), stack_of(SHAPES, 2, 1), stream("moved parts")
    costs = Costs(target, source, PARTS, {group.name for group in PARTS.groups})
    indices = random_elements(PARTS, 2, draws)
    for _ in range(3):
        for group in PARTS.groups:
            anew = -gains(target, source, PARTS, indices, group)
            torch.testing.assert_close(costs.of(group, indices, range(2)), anew, rtol=1e-10, atol=1e-12)
        indices = moved(indices, places, draws)


def test_tensors_that_the_target_lacks_do_not_count():
    target, source = stack_of(SHAPES, 1, 0), stack_of(SHAPES, 1, 1)
    spec = Spec((replace(PARTS.groups[0], axes=(Axis("first", 0), Axis("running", 0))),))
    indices = random_elements(spec, 1, stream())
    del target["running"]
    expected = torch.bmm(target["first"], source["first"].mT)
    torch.testing.assert_close(gains(target, source, spec, indices, spec.groups[0]), expected)


STREAM = Spec((Group("s", 7, (Axis("in", 0), Axis("back", 0), Axis("back", 1))),))


def test_a_group_on_both_axes_of_a_tensor_is_never_kept_and_its_gain_is_a_gradient():
    target, source = (stack_of({"in": (7, 3), "back": (7, 7)}, 1, key) for key in range(2))
    assert kept_groups(source, STREAM, at_once=1) == set()
    (group,) = STREAM.groups
    indices = random_elements(STREAM, 1, stream())
    matrix = torch.eye(7, dtype=torch.float64)[indices["s"][0]].requires_grad_()
    value = (target["in"][0] * (matrix @ source["in"][0])).sum()
    value = value + (target["back"][0] * (matrix @ source["back"][0] @ matrix.T)).sum()
    torch.testing.assert_close(cost.agreement(target, source, STREAM, indices, group)[0], value.detach())
    (gradient,) = torch.autograd.grad(value, matrix)
    torch.testing.assert_close(gains(target, source, STREAM, indices, group)[0], gradient)
