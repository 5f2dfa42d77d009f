"""Kinds of groups: the laws that every one keeps, and a kind that nothing was written for."""

import numpy as np
import pytest
import torch
from networks_for_tests import random_data, stream
from torch import nn

from onebasin.data import Data, Split
from onebasin.errors import OnebasinError
from onebasin.matching.c2m3 import c2m3
from onebasin.matching.search import run_search
from onebasin.matching.ste_mm import ste_mm
from onebasin.matching.weight import weight_matching
from onebasin.measures.anchored import in_order_of_first
from onebasin.merging.average import aligned_models, merge
from onebasin.models.running import forward
from onebasin.models.stack import Models, initial
from onebasin.parameters import stacked
from onebasin.symmetry.alignment import Alignment, load_alignment, save_alignment
from onebasin.symmetry.apply import act, act_on_stack, compose, identity, invert, random_elements
from onebasin.symmetry.check import check
from onebasin.symmetry.kinds import KINDS, Kind
from onebasin.symmetry.spec import Axis, Group, Spec, load_spec, save_spec

SIZE = 6


class SignSolver:
    """Each unit's sign is that of its gain."""

    def __init__(self, models, group, warm_start):
        self.solved = self.row_scans = 0

    def best(self, costs, models, old):
        gains = -costs.diagonal(dim1=1, dim2=2)
        new = torch.where(gains >= 0, 1.0, -1.0)
        self.solved += len(models)
        return new, ((new * gains).sum(1) > (old * gains).sum(1)).numpy()


def flip(tensor, axis, parts):
    for place, _, element in parts:
        assert place.is_plain()
        tensor = tensor * element.to(tensor).view([-1 if number == axis else 1 for number in range(tensor.dim())])
    return tensor


SIGNED = Kind(
    identity=lambda group, device: torch.ones(group.size, device=device),
    random=lambda group, generator: torch.randint(0, 2, (group.size,), generator=generator) * 2.0 - 1,
    telling=lambda group, generator: -torch.ones(group.size),
    act=flip,
    invert=lambda element: element,
    compose=lambda first, then: first * then,
    is_element=lambda stack, group: stack.shape[1:] == (group.size,) and bool((stack.abs() == 1).all()),
    solver=SignSolver,
)


@pytest.fixture(autouse=True)
def signed(monkeypatch):
    """The kind of sign flips: of hidden units whose nonlinearity is odd."""
    monkeypatch.setitem(KINDS, "signed", SIGNED)


def odd_network():
    return nn.Sequential(nn.Flatten(), nn.Linear(5, SIZE), nn.Tanh(), nn.Linear(SIZE, 4), nn.Tanh(), nn.Linear(4, 3))


def spec_of(kind="signed"):
    first = (Axis("1.weight", 0), Axis("1.bias", 0), Axis("3.weight", 1))
    second = (Axis("3.weight", 0), Axis("3.bias", 0), Axis("5.weight", 1))
    return Spec((Group("first", SIZE, first, kind), Group("second", 4, second, kind)))


def copies(spec, count=3):
    """Copies of one model, each after elements of its own, the first as it is; and these elements."""
    torch.manual_seed(0)
    network = odd_network()
    planted = random_elements(spec, count, stream("planted"))
    for name, element in identity(spec, 1).items():
        planted[name][0] = element[0]
    stack = act_on_stack(stacked([initial(network)] * count), spec, planted)
    return Models(network.eval(), stack, tuple(range(count)), (5,)), planted


@pytest.mark.parametrize("kind", ["permutation", "signed"])
def test_every_kind_keeps_the_laws_of_a_group(kind):
    spec = spec_of(kind)
    a, b, c = (random_elements(spec, 2, stream("laws", number)) for number in range(3))
    same = lambda one, other: all(torch.equal(one[name], other[name]) for name in one)  # noqa: E731
    assert same(compose(spec, compose(spec, a, b), c), compose(spec, a, compose(spec, b, c)))
    assert same(compose(spec, a, invert(spec, a)), identity(spec, 2))
    assert same(compose(spec, identity(spec, 2), a), a)
    tensors = initial(odd_network())
    one, other = ({name: element[0] for name, element in elements.items()} for elements in (a, b))
    assert same(act(act(tensors, spec, one), spec, other), act(tensors, spec, compose(spec, one, other)))
    assert all(KINDS[kind].is_element(a[group.name], group) for group in spec.groups)


@pytest.mark.parametrize("kind", ["permutation", "signed"])
def test_the_best_element_is_better_than_any_other_drawn(kind):
    gains, group = torch.randn(2, SIZE, SIZE, generator=stream("gains")), Group("g", SIZE, (), kind)
    old = torch.stack([KINDS[kind].identity(group, "cpu")] * 2)
    best, improved = KINDS[kind].solver(2, group, True).best(-gains, np.arange(2), old)

    def gain(model, element):  # <element, gains>: how well a source of the identity would fit
        matrix = KINDS[kind].act(torch.eye(SIZE), 0, [(Axis("", 0), group, element)])
        return float((matrix * gains[model]).sum())

    for model in (0, 1):
        reached = gain(model, best[model])
        others = [KINDS[kind].random(group, stream("other", number)) for number in range(200)]
        assert all(gain(model, other) <= reached + 1e-6 for other in others)
        assert improved[model] == (reached > gain(model, old[model]))


def test_a_kind_is_proven_like_any_other():
    network, spec = odd_network(), spec_of()
    assert check(network, spec, torch.zeros(2, 5), stream("check")) < 1e-9
    network[2] = nn.ReLU()  # which is not odd
    with pytest.raises(OnebasinError, match="first"):
        check(network, spec, torch.zeros(2, 5), stream("check"))


@pytest.mark.parametrize("method", ["weight_matching", "ste_mm"])
def test_searches_find_planted_elements_of_a_kind_that_they_know_nothing_of(method):
    spec = spec_of()
    models, planted = copies(spec)
    inputs = torch.randn(40, 5, generator=stream("inputs"))
    data = Data(*[Split(inputs, torch.arange(40) % 3)] * 2, classes=3)
    search, settings = {
        "weight_matching": (weight_matching, {"max_rounds": 20, "first_sweep": "signal"}),
        "ste_mm": (
            ste_mm,
            {"epochs": 2, "batch": 20, "lr": 1e-4, "weights": "equal", "first_sweep": "signal", "warm_start": True},
        ),
    }[method]
    found = run_search(search, method, models, spec, data, settings, 0, 0)
    permuted = aligned_models(models, spec, found).parameters
    for name, tensor in permuted.items():
        assert torch.allclose(tensor, tensor[:1].expand_as(tensor)), name
    average = merge(models, spec, found)
    torch.testing.assert_close(forward(models.network, average, inputs), forward(models.network, models[0], inputs))
    assert not all(torch.equal(planted[name], identity(spec, 3)[name]) for name in planted)


def test_alignments_and_symmetries_of_a_kind_are_stored_and_checked(tmp_path):
    spec = spec_of()
    save_spec(tmp_path / "spec.json", spec)
    assert load_spec(tmp_path / "spec.json") == spec
    found = Alignment(random_elements(spec, 2, stream("stored")), {"steps": 3})
    save_alignment(tmp_path / "found.safetensors", found, models=(0, 1))
    again = load_alignment(tmp_path / "found.safetensors", spec, (0, 1))
    assert all(torch.equal(again.elements[name], element) for name, element in found.elements.items())
    found.elements["first"][0, 0] = 0.5
    save_alignment(tmp_path / "wrong.safetensors", found, models=(0, 1))
    with pytest.raises(OnebasinError, match="group first holds no signeds"):
        load_alignment(tmp_path / "wrong.safetensors", spec, (0, 1))


def test_a_pair_is_brought_into_the_order_of_its_first_model():
    spec = spec_of()
    models, planted = copies(spec, 2)
    both = Alignment({name: torch.stack([element[1], element[0]]) for name, element in planted.items()})
    there = act(models[1], spec, in_order_of_first(spec, both))
    assert all(torch.equal(tensor, models[0][name]) for name, tensor in there.items())


def test_a_search_for_permutations_alone_says_so():
    spec = spec_of()
    with pytest.raises(OnebasinError, match="c2m3: group first is signed"):
        c2m3(copies(spec)[0], spec, random_data(), {"max_steps": 3}, stream("c2m3"))


def test_an_unknown_kind_is_named():
    with pytest.raises(OnebasinError, match="no kind called 'twisted'; known: permutation, nested, orthogonal, signed"):
        identity(spec_of("twisted"))
