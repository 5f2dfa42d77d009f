"""Arithmetic of parameters, by hand and in float64."""

import math
import weakref

import torch
from networks_for_tests import stream

from onebasin.parameters import combine, distance, dot, lerp, mean, one, some, squared_distance, stacked

STACK = {
    "weight": torch.randn(3, 4, 5, generator=stream("weight")),
    "bias": torch.randn(3, 4, generator=stream("bias")),
    "count": torch.tensor([3, 4, 9]),
}
VALUES = {name: STACK[name] for name in ("weight", "bias")}


def flat(parameters):
    return torch.cat([tensor.flatten().double() for tensor in parameters.values()])


def test_some_models_are_those_of_a_slice_or_a_list():
    for chosen in (slice(1, None), [1, 2]):
        assert all(torch.equal(tensor, STACK[name][1:]) for name, tensor in some(STACK, chosen).items())


def test_a_combination_is_the_weighted_sum_and_leaves_its_parts_alone():
    before = {name: tensor.clone() for name, tensor in VALUES.items()}
    found = combine((weight, one(VALUES, model)) for model, weight in enumerate([0.5, 0.25, -2]))
    expected = 0.5 * flat(one(VALUES, 0)) + 0.25 * flat(one(VALUES, 1)) - 2 * flat(one(VALUES, 2))
    torch.testing.assert_close(flat(found), expected, rtol=1e-6, atol=1e-6)
    assert all(torch.equal(tensor, before[name]) for name, tensor in VALUES.items())


def test_a_combination_holds_one_part_at_a_time():
    made = []

    def part(number):
        if made:
            assert made[-1]() is None
        parameters = {name: number * tensor for name, tensor in one(VALUES, 0).items()}
        made.append(weakref.ref(parameters["weight"]))
        return parameters

    combine((1.0, part(number)) for number in range(4))
    assert len(made) == 4


def test_products_are_over_the_tensors_of_the_first_in_float64_unless_told_otherwise():
    a, b = one(VALUES, 0), one(STACK, 1)
    expected = float(flat(a) @ flat({name: b[name] for name in a}))
    assert math.isclose(dot(a, b), expected, rel_tol=1e-13)
    own = sum(float(torch.dot(a[name].flatten(), b[name].flatten())) for name in a)
    assert dot(a, b, dtype=None) == own


def test_distances_are_euclidean_and_a_stacks_square_is_the_sum_over_its_models():
    centre = one(STACK, 0)
    each = [distance(one(STACK, model), centre) for model in range(3)]
    assert each[0] == 0
    assert math.isclose(each[1], float((flat(one(STACK, 1)) - flat(centre)).norm()), rel_tol=1e-13)
    assert math.isclose(squared_distance(STACK, centre), sum(value**2 for value in each), rel_tol=1e-13)


def test_complex_numbers_are_averaged_and_measured_by_both_of_their_parts():
    a, b = {"w": torch.tensor([1 + 2j, 3j])}, {"w": torch.tensor([3 + 0j, 1 + 1j])}
    assert torch.equal(mean(stacked([a, b]))["w"], torch.tensor([2 + 1j, 0.5 + 2j]))
    assert torch.equal(lerp(a, b, 0.25)["w"], torch.tensor([1.5 + 1.5j, 0.25 + 2.5j]))
    assert torch.equal(lerp(a, b, 1.0)["w"], b["w"])
    assert squared_distance(a, b) == 4 + 4 + 1 + 4
    assert dot(a, b) == dot(a, b, None) == 3 + 3
