"""Mixtures of experts: the network, what of it may change places, matching in two steps, the order among all orders."""

import itertools
import logging
import math

import numpy as np
import pandas as pd
import pytest
import torch
from networks_for_tests import coincide, few_digits, permuted_copies, random_images, stream
from torch import nn
from torch.func import functional_call

import onebasin
from onebasin.errors import OnebasinError
from onebasin.matching.activation import activation_matching
from onebasin.matching.c2m3 import c2m3
from onebasin.matching.hierarchical import hierarchical
from onebasin.matching.moe import TwoSteps, moe_matching
from onebasin.matching.weight import weight_matching
from onebasin.measures.expert_order import among_all_orders, in_order, orders, units_by_pair
from onebasin.models.stack import Models, initial
from onebasin.networks.build import new_network
from onebasin.networks.moe import Mixture
from onebasin.symmetry.apply import act, random_elements
from onebasin.symmetry.check import check
from onebasin.symmetry.trace import trace
from onebasin.tables import collect as tables
from onebasin.training.balance import imbalance, watching
from onebasin.training.run import train

SHAPE = (1, 4, 4)
GATINGS = ["dense", "top_2", "top_2_shared_1", "top_1_shared_2"]


def mixture(key=0, classes=3, **settings):
    settings = {"name": "moe", "experts": 4, "width": 5, "trunk_width": 6, **settings}
    return new_network(settings, SHAPE, classes, "mixture", key).double().eval()


def models_of(*networks, shape=SHAPE):
    states = [initial(network) for network in networks]
    stack = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    return Models(networks[0], stack, tuple(range(len(networks))), shape)


def spec_of(network, shape=SHAPE):
    return trace(network, torch.zeros(4, *shape, dtype=torch.float64))


def outputs(network, state, inputs):
    with torch.no_grad():
        return functional_call(network, state, inputs)


# The network


def test_a_dense_mixture_is_the_weighted_sum_of_its_experts():
    layer = Mixture(4, 3, experts=3, width=5)
    x = torch.randn(6, 4, generator=stream("x"))
    scores = x @ layer.gate.weight.T + layer.gate.bias
    expected = sum(scores.softmax(1)[:, k : k + 1] * expert(x) for k, expert in enumerate(layer.experts))
    torch.testing.assert_close(layer(x), expected)


def test_sparse_gating_is_a_softmax_over_the_largest_scores_and_ties_go_to_the_first():
    layer = Mixture(4, 3, experts=4, width=5, top_k=2)
    weights = layer.weights(torch.tensor([[1.0, 3.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0]]))
    top = torch.tensor([3.0, 2.0]).softmax(0)
    torch.testing.assert_close(weights, torch.tensor([[0, top[0], top[1], 0], [0.5, 0.5, 0, 0]]))


def test_shared_experts_are_added():
    layer = Mixture(4, 3, experts=2, width=5, top_k=1, shared=2)
    x = torch.randn(6, 4, generator=stream("x"))
    chosen = (layer.weights(layer.gate(x))[:, :, None] * torch.stack([e(x) for e in layer.experts], 1)).sum(1)
    torch.testing.assert_close(layer(x), chosen + layer.shared[0](x) + layer.shared[1](x))


def test_a_gating_that_there_is_not_is_refused():
    with pytest.raises(OnebasinError, match="no gating called 'top'"):
        mixture(gating="top")


def test_a_shift_of_the_gate_changes_no_point_of_the_line_between_two_models():
    one, other = (mixture(key) for key in range(2))
    shifted = {name: t + 0.7 if name.startswith("1.gate") else t for name, t in initial(other).items()}
    inputs = torch.randn(20, *SHAPE, generator=stream("x"), dtype=torch.float64)
    for alpha in (0.25, 0.5, 1.0):
        both = [
            {name: (1 - alpha) * tensor + alpha * end[name] for name, tensor in initial(one).items()}
            for end in (initial(other), shifted)
        ]
        torch.testing.assert_close(*(outputs(one, state, inputs) for state in both), rtol=1e-10, atol=1e-10)


def test_the_balance_is_least_where_all_experts_are_chosen_alike():
    scores = torch.zeros(6, 3)
    even = torch.eye(3).repeat(2, 1)
    assert float(imbalance(scores, even)) == pytest.approx(1)
    scores = torch.tensor([[5.0, 0.0, 0.0]]).repeat(6, 1)
    one = torch.tensor([[1.0, 0.0, 0.0]]).repeat(6, 1)
    assert float(imbalance(scores, one)) == pytest.approx(3 * float(scores[0].softmax(0)[0]))


def test_balance_spreads_the_choices_of_a_trained_gate():
    data = few_digits()
    settings = {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.0, "batch": 50, "epochs": 4}
    network = {"name": "moe", "experts": 4, "width": 8, "gating": "top_1"}
    loads = []
    for balance in (0, 1.0):
        models, history = train(network, data, {**settings, "balance": balance}, [0], root=0)
        assert history["train_loss"].iloc[-1] < 2  # the task's alone
        with watching(models.network) as seen, torch.no_grad():
            functional_call(models.network, models[0], data.train.inputs)
        loads.append(float(seen[0]))
    assert loads[1] < loads[0]
    assert loads[1] < 1.3
    plain, _ = train(network, data, settings, [0], root=0)
    without, _ = train(network, data, {**settings, "balance": 0}, [0], root=0)
    assert all(torch.equal(tensor, without.parameters[name]) for name, tensor in plain.parameters.items())


# What may change places


@pytest.mark.parametrize("trunk", ["none", "mlp", "conv"])
@pytest.mark.parametrize("gating", GATINGS)
def test_experts_and_their_units_are_found_and_change_nothing(gating, trunk):
    network = mixture(gating=gating, trunk=trunk)
    spec = spec_of(network)
    nested = {group.name.split(".")[1]: (group.size, group.inner) for group in spec.groups if group.inner}
    shared = {"shared": (2, (5,))} if gating.endswith("2") and "shared" in gating else {}
    assert nested == {"experts": (4, (5,)), **shared}
    assert sum(not group.inner for group in spec.groups) == {"none": 0, "mlp": 1, "conv": 2}[trunk] + (
        gating.endswith("shared_1")  # the units of the one shared expert
    )
    inputs = torch.randn(200, *SHAPE, generator=stream("x"), dtype=torch.float64)
    state = initial(network)
    for key in range(3):
        element = {name: own[0] for name, own in random_elements(spec, 1, stream("element", key)).items()}
        moved = act(state, spec, element)
        torch.testing.assert_close(
            outputs(network, moved, inputs), outputs(network, state, inputs), rtol=1e-10, atol=1e-10
        )


class Routed(nn.Module):
    """Experts as users write them: the same function in several ways. They say nothing of what may change places."""

    def __init__(self, written="dense"):
        super().__init__()
        self.written = written
        self.into, self.gate = nn.Linear(5, 6), nn.Linear(6, 4)
        if written.startswith("stacked"):
            draws = stream("stacked")
            self.up, self.bias, self.down = (
                nn.Parameter(torch.randn(shape, generator=draws)) for shape in ((4, 7, 6), (4, 7), (4, 3, 7))
            )
        else:
            self.experts = nn.ModuleList(nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3)) for _ in range(4))

    def forward(self, x):
        x = self.into(x).relu()
        return getattr(self, self.written)(x, self.gate(x))

    def dense(self, x, scores):
        weights = scores.softmax(-1)
        experts = self.experts.values() if isinstance(self.experts, nn.ModuleDict) else self.experts
        return sum(weights[:, k : k + 1] * expert(x) for k, expert in enumerate(experts))

    def loop(self, x, scores):
        """Each expert with the samples that are sent to it."""
        weights, chosen = scores.topk(2, dim=-1)
        weights, result = weights.softmax(-1), x.new_zeros(len(x), 3)
        for k, expert in enumerate(self.experts):
            sample, slot = torch.where(chosen == k)
            if sample.numel() > 0:
                result.index_add_(0, sample, weights[sample, slot, None] * expert(x[sample]))
        return result

    def masks(self, x, scores):
        """The same with boolean masks."""
        weights, chosen = scores.topk(2, dim=-1)
        weights, result = weights.softmax(-1), x.new_zeros(len(x), 3)
        for k, expert in enumerate(self.experts):
            mine = (chosen == k).any(dim=-1)
            if mine.any():
                result[mine] += (weights * (chosen == k)).sum(-1, keepdim=True)[mine] * expert(x[mine])
        return result

    def stacked(self, x, scores):
        hidden = (torch.einsum("bd,nhd->bnh", x, self.up) + self.bias).relu()
        return torch.einsum("bn,bnh,noh->bo", scores.softmax(-1), hidden, self.down)

    def stacked_top(self, x, scores):
        """The weights of the chosen experts are looked up."""
        weights, chosen = scores.topk(2, dim=-1)
        hidden = (torch.einsum("bd,bkhd->bkh", x, self.up[chosen]) + self.bias[chosen]).relu()
        return torch.einsum("bk,bkh,bkoh->bo", weights.softmax(-1), hidden, self.down[chosen])

    def numbered(self, x, scores):
        """No mixture: every expert has a factor by its number."""
        weights = scores.softmax(-1)
        return sum((k + 1) * weights[:, k : k + 1] * expert(x) for k, expert in enumerate(self.experts))


@pytest.mark.parametrize("written", ["dense", "loop", "masks", "stacked", "stacked_top"])
def test_experts_of_a_network_that_says_nothing_are_proposed_and_proven(written, caplog):
    caplog.set_level(logging.INFO)
    torch.manual_seed(0)
    network = Routed(written).double().eval()
    spec = spec_of(network, (5,))
    assert [(group.size, group.inner) for group in spec.groups] == [(6, ()), (4, (7,))]
    assert "may change places, as is proven by trial" in caplog.text
    assert check(network, spec, torch.zeros(8, 5, dtype=torch.float64), stream("check")) < 1e-12


def test_what_only_looks_like_experts_is_left_as_it_is(caplog):
    caplog.set_level(logging.INFO)
    torch.manual_seed(0)
    network = Routed("numbered").double().eval()
    spec = spec_of(network, (5,))
    assert [(group.size, group.inner) for group in spec.groups] == [(6, ())] + [(7, ())] * 4
    assert "may not change places" in caplog.text


def test_a_wrong_declaration_is_refused_by_name():
    torch.manual_seed(0)
    network = Routed("numbered").double().eval()
    network.interchangeable = ("experts", "gate")
    with pytest.raises(OnebasinError, match=r"permuting changes the function.*experts\.\*\.0"):
        onebasin.symmetries(models_of(network, shape=(5,)))


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (("experts", "router"), "no module or parameter router"),
        (("experts", "into"), "as many: there are 4 of experts, 6 of into.weight, 6 of into.bias"),
        (("one",), "two or more"),
        (("uneven",), r"uneven\.1 has other tensors or shapes than uneven\.0"),
    ],
)
def test_declarations_that_cannot_be_are_refused(names, fault):
    network = Routed("dense").double()
    network.one = nn.ModuleList([nn.Linear(2, 2)])
    network.uneven = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 3)])
    network.interchangeable = names
    with pytest.raises(OnebasinError, match=fault):
        spec_of(network, (5,))


def test_experts_may_be_in_a_dictionary_and_in_two_sets():
    torch.manual_seed(0)
    network = Routed("dense")
    network.interchangeable = [("experts", "gate")]
    network.experts = nn.ModuleDict(dict(zip("abcd", network.experts, strict=True)))
    spec = spec_of(network.double().eval(), (5,))
    assert [(group.name, group.size) for group in spec.groups if group.inner] == [("experts.*.0", 4)]
    assert spec.joined[0].tensors == tuple(f"experts.{name}.0.weight" for name in "abcd")


# Methods

SEARCHES = {
    "weight_matching": (weight_matching, {}),
    "hierarchical": (hierarchical, {}),
    "c2m3": (c2m3, {}),
    "activation_matching": (activation_matching, {}),
    **{f"moe_matching, {cost}": (moe_matching, {"cost": cost}) for cost in ("gate", "expert", "both")},
}


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("settings", [{}, {"gating": "top_2_shared_2", "trunk": "mlp"}], ids=["dense", "sparse"])
def test_planted_orders_and_units_are_found(search, settings):
    network = mixture(**settings)
    spec = spec_of(network)
    parameters, planted = permuted_copies(initial(network), spec, 3)
    copies = Models(network, parameters, (0, 1, 2), SHAPE)
    method, own = SEARCHES[search]
    given = {"max_rounds": 20, "first_sweep": "signal", "max_steps": 60, "images": None, "batch": 40, **own}
    found = method(copies, spec, random_images(SHAPE, train=120), given, stream("search"))
    assert coincide(planted, found.elements)


@pytest.mark.parametrize("key", range(5))
def test_the_joint_search_is_never_below_the_two_steps(key):
    """Two unrelated models: the exact best of order and units agrees at least as much as any order found first."""
    models = models_of(mixture(key), mixture(key + 100))
    spec = spec_of(models.network)

    def distance(found):
        aligned = onebasin.permute(models, spec, found)
        return sum(float((t[0] - t[1]).square().sum()) for t in aligned.parameters.values())

    joint = distance(onebasin.match(models, spec, "weight_matching"))
    for cost in ("gate", "expert", "both"):
        assert joint <= distance(onebasin.match(models, spec, "moe_matching", cost=cost)) + 1e-9


def by_hand(one, other, cost):
    """The order that the paper's costs prefer, with loops."""
    values = np.zeros((4, 4))
    for i, j in itertools.product(range(4), repeat=2):
        if cost == "gate":
            gates = [torch.cat([net[1].gate.weight, net[1].gate.bias[:, None]], 1) for net in (one, other)]
            rows = [gate - gate.mean(0) for gate in gates]
            values[i, j] = float((rows[0][i] - rows[1][j]).norm())
        else:
            squares = 0.0
            first, second = one[1].experts[i], other[1].experts[j]
            for layer, transposed in ((0, False), (2, True)):
                grams = []
                for expert in (first, second):
                    whole = torch.cat([expert[layer].weight, expert[layer].bias[:, None]], 1)
                    grams.append(whole @ whole.T if transposed else whole.T @ whole)
                squares += float((grams[0] - grams[1]).square().sum())
            values[i, j] = math.sqrt(squares)
    return min(itertools.permutations(range(4)), key=lambda order: sum(values[i, order[i]] for i in range(4)))


@pytest.mark.parametrize("cost", ["gate", "expert"])
@pytest.mark.parametrize("key", range(4))
@torch.no_grad()
def test_the_order_is_that_of_the_papers_cost(cost, key):
    one, other = mixture(key), mixture(key + 50)
    spec = spec_of(one)
    [group] = spec.groups
    matcher = TwoSteps(spec, 1, stream("search"))
    matcher.costs = (cost,)
    target, source = ({name: tensor[None] for name, tensor in initial(net).items()} for net in (one, other))
    assert matcher.match(target, source, [0])
    assert tuple(matcher.elements[group.name][0, :4].tolist()) == by_hand(one, other, cost)


def test_activation_matching_refuses_experts_that_see_inputs_of_their_own():
    torch.manual_seed(0)
    network = Routed("loop").eval()
    network.interchangeable = ("experts", "gate")
    models = models_of(network, Routed("loop").eval(), shape=(5,))
    spec = trace(network, torch.zeros(4, 5))
    settings = {"images": None, "batch": 40, "max_rounds": 20}
    with pytest.raises(OnebasinError, match="not run on the same inputs"):
        activation_matching(
            models, spec, random_images((5,), train=80, dtype=torch.float32), settings, stream("search")
        )


# The order among all orders


def test_all_orders_are_tried_where_there_are_few_and_some_of_many():
    few = list(orders(3, 24, stream("orders")))
    assert sorted([(0, 1, 2), *few]) == list(itertools.permutations(range(3)))
    many = list(orders(8, 50, stream("orders")))
    assert len(set(many)) == len(many) == 49
    assert tuple(range(8)) not in many


def test_orders_are_tried_with_the_units_that_fit():
    network = mixture()
    spec = spec_of(network)
    [group] = spec.groups
    parameters, planted = permuted_copies(initial(network), spec, 2)
    models = Models(network, parameters, (0, 1), SHAPE)
    units = units_by_pair(models, spec, group)
    order = torch.argsort(planted[group.name][1, :4])[planted[group.name][0, :4]]
    found = in_order(models[1], spec, group, tuple(order.tolist()), units)
    assert all(torch.equal(tensor, models[0][name]) for name, tensor in found.items())


def test_the_planted_order_is_the_best_of_all():
    network = mixture()
    spec = spec_of(network)
    [group] = spec.groups
    parameters, _ = permuted_copies(initial(network), spec, 2)
    models = Models(network, parameters, (0, 1), SHAPE)
    found = onebasin.permute(models, spec, onebasin.match(models, spec))
    inputs = torch.randn(40, *SHAPE, generator=stream("x"), dtype=torch.float64)
    target = outputs(network, initial(network), inputs)

    def barrier(one, other):
        middle = {name: (tensor + other[name]) / 2 for name, tensor in one.items()}
        return float((outputs(network, middle, inputs) - target).square().mean())

    told = among_all_orders(found, models, spec, group, barrier, orders(4, 24, stream("orders")))
    assert (told["orders"], told["rank"]) == (24, 1)
    assert told["barrier_loss"] < 1e-20 < told["least"] + 1e-9 < told["median"]
    assert told["remaining"] < 1e-15
    worst = among_all_orders(models, models, spec, group, barrier, orders(4, 24, stream("orders")))
    assert worst["rank"] > 1
    assert worst["remaining"] == 1


def test_what_is_measured_is_a_table_of_its_record():
    settings = {"optimizer": "adam", "lr": 0.003, "weight_decay": 0.0, "batch": 50, "epochs": 1}
    network = {"name": "moe", "experts": 2, "width": 4}
    models, _ = train(network, few_digits(), settings, range(2), root=0)
    spec = trace(models.network, models.example_input)
    [group] = [group for group in spec.groups if group.inner]
    told = among_all_orders(models, models, spec, group, lambda one, other: 0.5, orders(2, 120, stream("orders")))
    row = {"experiment": "e", "method": "naive", "count": 2, "trial": 0, "split": "test", "group": group.name}
    found = tables.check(pd.DataFrame([{**row, **told, "output_change": 0.0}]), "expert_order")
    assert (found["group"][0], found["orders"][0], found["rank"][0]) == (group.name, 2, 1)
