"""Merging in stages: of two models it is weight matching, of others what pairs of averages give by hand."""

import pytest
import torch
from networks_for_tests import stream
from torch import nn

import onebasin
from onebasin import seeding
from onebasin.matching.hierarchical import hierarchical
from onebasin.matching.weight import weight_matching
from onebasin.parameters import lerp, stacked
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.apply import random_elements

SETTINGS = {"max_rounds": 100, "first_sweep": "signal"}


def models(count):
    def network(number):
        with seeding.global_rng("hierarchical", number):
            return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 3)).double()

    return onebasin.stack_models([network(number) for number in range(count)], (6,))


def pair(one, other):
    both = models(2)
    both.parameters.update(stacked([one, other]))
    return both


def merged(both, spec, draws, weight=0.5):
    found = weight_matching(both, spec, None, SETTINGS, draws)
    permuted = onebasin.permute(both, spec, found)
    return lerp(permuted[0], permuted[1], weight)


def test_of_two_models_it_is_weight_matching():
    two = models(2)
    spec = onebasin.symmetries(two)
    found, expected = (search(two, spec, None, SETTINGS, stream("two")) for search in (hierarchical, weight_matching))
    assert all(torch.equal(found.elements[name], expected.elements[name]) for name in expected.elements)
    assert found.work == expected.work


def test_the_average_of_four_is_that_of_two_averages_of_pairs():
    four = models(4)
    spec = onebasin.symmetries(four)
    found = onebasin.merge(four, spec, hierarchical(four, spec, None, SETTINGS, stream("four")), None, None)
    draws = stream("four")
    left, right = (merged(pair(four[a], four[b]), spec, draws) for a, b in ((0, 1), (2, 3)))
    expected = merged(pair(left, right), spec, draws)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("count", "tree"), [(3, ((0, 1), 2)), (5, (((0, 1), (2, 3)), 4))])
def test_an_unbalanced_tree_is_averages_by_hand(count, tree):
    several = models(count)
    spec = onebasin.symmetries(several)
    found = onebasin.merge(several, spec, hierarchical(several, spec, None, SETTINGS, stream("tree")), None, None)
    draws = stream("tree")

    def of(node):
        if isinstance(node, int):
            return several[node], 1
        (left, some), (right, others) = of(node[0]), of(node[1])
        return merged(pair(left, right), spec, draws, others / (some + others)), some + others

    expected, leaves = of(tree)
    assert leaves == count
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-12, atol=1e-12)


def test_permuted_copies_merge_to_themselves():
    copies = models(6)
    spec = onebasin.symmetries(copies)
    for name in copies.parameters:
        copies.parameters[name][:] = copies.parameters[name][0].clone()
    permuted = onebasin.permute(copies, spec, Alignment(random_elements(spec, 6, stream("copies"))))
    average = onebasin.merge(permuted, spec, onebasin.match(permuted, spec, "hierarchical"), None, None)
    inputs = torch.randn(5, 6, dtype=torch.float64)
    before, after = (torch.func.functional_call(copies.network, own, (inputs,)) for own in (copies[0], average))
    torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-12)


def test_the_norm_of_an_average_is_what_the_inner_product_says():
    """|(A + pi B) / 2|^2 = (|A|^2 + |B|^2) / 4 + <A, pi B> / 2: why norms fall from stage to stage."""
    two = models(2)
    spec = onebasin.symmetries(two)
    permuted = onebasin.permute(two, spec, hierarchical(two, spec, None, SETTINGS, stream("norm")))
    one, other = (torch.cat([tensor.flatten() for tensor in permuted[k].values()]) for k in (0, 1))
    average = ((one + other) / 2).square().sum()
    assert float(average) == pytest.approx(float((one.square().sum() + other.square().sum()) / 4 + one @ other / 2))
