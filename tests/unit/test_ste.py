"""The straight-through searches: their gradients by autograd and by hand, and what the searches find."""

import numpy as np
import pytest
import torch
from networks_for_tests import (
    coincide,
    few_digits,
    like,
    permuted_copies,
    random_data,
    random_mlps,
    same,
    spec_of,
    stream,
    trained_mlps,
)
from scipy import stats
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.nn import functional as F
from torch.optim.adam import adam

from onebasin.data import Data, Split, batches
from onebasin.matching import latents
from onebasin.matching.cost import Costs
from onebasin.matching.latents import Latents, gradient_at
from onebasin.matching.naive import naive
from onebasin.matching.ste import ste
from onebasin.matching.ste_mm import convex_weights, ste_mm
from onebasin.matching.weight import Matcher
from onebasin.merging.average import merge
from onebasin.models.running import forward, measure
from onebasin.models.stack import Models
from onebasin.parameters import combine, one
from onebasin.symmetry.alignment import check_elements
from onebasin.symmetry.apply import act_on_stack, random_elements

SETTINGS = {"epochs": 2, "batch": 10, "lr": 0.001, "weights": "random", "first_sweep": "signal", "warm_start": True}
DIGITS = {**SETTINGS, "epochs": 3, "batch": 50}
SEARCHES = {"ste": ste, "ste_mm": ste_mm}


def run(method, models, data, settings=SETTINGS, key=0):
    return SEARCHES[method](models, spec_of(models), data, settings, stream("search", key))


# every step of a search


@pytest.mark.parametrize("method", SEARCHES)
def test_every_assignment_of_a_search_is_optimal_for_the_full_costs(method, monkeypatch):
    """Warm starts, kept costs and what is mended change the work alone: SciPy, from nothing, finds no better one."""
    models, best, problems = trained_mlps(count=3, width=24, depth=3, epochs=2), Matcher.best, []

    def checked(self, group, gathered, present, *others):
        _, rows, unknown = others
        new, improved = best(self, group, gathered, present, *others)
        fresh = Costs(gathered.target, gathered.source, self.spec, ()).of(group, present, rows, unknown).double()
        for cost, element, old, better in zip(fresh.numpy(), new, present[group.name][rows], improved, strict=True):
            values = [cost[np.arange(group.size), chosen.numpy()].sum() for chosen in (element, old)]
            least = cost[linear_sum_assignment(cost)].sum()
            assert values[1 - better] == pytest.approx(least, rel=1e-6)
        problems.append(rows)
        return new, improved

    monkeypatch.setattr(Matcher, "best", checked)
    run(method, models, few_digits(100), DIGITS)
    assert len(problems) > 2 * 3 * 6  # models, groups, steps: they are solved again where neighbours changed


# gradients


def straight_through_combination(models, permuted, latents, weights):
    """lambda_1 theta_1 + sum_i lambda_i s_i with s_i = stopgrad(pi_i(theta_i)) + (t_i - stopgrad(t_i)), as written."""
    combination = {}
    for name, first in models[0].items():
        pairs = zip(permuted[name], latents[name], weights[1:], strict=True)
        combination[name] = weights[0] * first + sum(w * (p.detach() + (t - t.detach())) for p, t, w in pairs)
    return combination


def gradients_of_the_expression(models, data, permuted, latents, weights, batch):
    latents = {name: tensor.clone().requires_grad_() for name, tensor in latents.items()}
    combination = straight_through_combination(models, permuted, latents, weights)
    images, labels = data.train.inputs[batch], data.train.targets[batch]
    F.cross_entropy(forward(models.network, combination, images), labels).backward()
    return {name: tensor.grad for name, tensor in latents.items()}


@pytest.fixture
def problem():
    """Four models, the last three permuted at random, targets, and data; in float64."""
    models = random_mlps(4, dtype=torch.float64)
    spec = spec_of(models)
    permuted = act_on_stack(
        {name: tensor[1:] for name, tensor in models.parameters.items()},
        spec,
        random_elements(spec, 3, stream("permutations")),
    )
    draws = stream("latents")
    latents = {n: torch.randn(t.shape, generator=draws, dtype=torch.float64) for n, t in permuted.items()}
    return models, random_data(dtype=torch.float64), permuted, latents


def test_the_gradient_of_ste_mm_is_that_of_the_straight_through_expression(problem):
    models, data, permuted, latents = problem
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    batch = torch.tensor([3, 1, 4, 15, 9])
    parts = [models[0], *(one(permuted, model) for model in range(3))]
    gradient = gradient_at(models.network, combine(zip(weights.tolist(), parts, strict=True)), taken(data.train, batch))
    expected = gradients_of_the_expression(models, data, permuted, latents, weights, batch)
    for name in latents:
        assert gradient[name].abs().max() > 0
        for model in range(3):
            share = weights[model + 1] * gradient[name]
            torch.testing.assert_close(share, expected[name][model], rtol=1e-10, atol=1e-14)


def test_the_gradient_of_ste_is_that_of_every_pair_alone_at_its_midpoint(problem):
    models, data, permuted, latents = problem
    batch = torch.tensor([3, 1, 4, 15, 9])
    for pair in range(3):
        midpoint = combine([(0.5, models[0]), (0.5, one(permuted, pair))])
        found = gradient_at(models.network, midpoint, taken(data.train, batch))
        own, targets = ({n: t[pair : pair + 1] for n, t in stack.items()} for stack in (permuted, latents))
        expected = gradients_of_the_expression(models, data, own, targets, [0.5, 0.5], batch)
        for name, gradient in found.items():
            torch.testing.assert_close(gradient / 2, expected[name][0], rtol=1e-10, atol=1e-14)


def softmax(values):
    return np.exp(values) / np.exp(values).sum()


ONE_IMAGE = Data(*[Split(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([1]))] * 2, classes=2)


def taken(split, chosen):
    return Split(split.inputs[chosen], split.targets[chosen])


def linear_softmax():
    """Two linear models of one image x = (1, 2) with label 1, without biases."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    stack = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 0.5], [-1.0, 0.0]]])
    return Models(network, {"1.weight": stack}, (0, 1), (1, 1, 2))


def test_the_gradient_of_a_linear_softmax_is_the_one_worked_out_by_hand():
    models = linear_softmax()
    combination = combine([(0.25, models[0]), (0.75, models[1])])
    found = gradient_at(models.network, combination, ONE_IMAGE.train)
    # W = W1 / 4 + 3 W2 / 4 = [[1/4, 3/8], [-3/4, 1/4]], W x = (1, -1/4), dL/dW = (softmax(W x) - y) x^T
    # softmax = (1, e^(-5/4)) / (1 + e^(-5/4)), y = (0, 1)
    p = 1 / (1 + np.exp(-1.25))
    expected = [[p, 2 * p], [-p, -2 * p]]
    np.testing.assert_allclose(found["1.weight"].numpy(), expected, rtol=1e-6)


def test_a_targets_step_is_adams_by_its_share_of_the_gradient():
    first, gradient = (
        torch.tensor([[1.0, -2.0, 0.5], [4.0, 0.0, 3.0]]),
        torch.tensor([[0.5, -1.0], [2.0, 0.0], [0.1, 3.0]]),
    )
    latents = Latents({"weight": first}, models=2, lr=0.1)
    alone = first.clone().requires_grad_()
    optimizer = torch.optim.Adam([alone], lr=0.1)
    for weight in (0.75, 0.25, 0.5):
        latents.step_one(1, {"weight": gradient.T}, weight)  # a gradient that is laid out the other way
        alone.grad = weight * gradient.T
        optimizer.step()
    torch.testing.assert_close(latents.stack["weight"][1], alone.detach())
    assert torch.equal(latents.stack["weight"][0], first)


def test_the_midpoint_gradient_of_a_linear_softmax_is_the_one_worked_out_by_hand():
    models = linear_softmax()
    midpoint = combine([(0.5, models[0]), (0.5, models[1])])
    found = gradient_at(models.network, midpoint, ONE_IMAGE.train)
    # W = [[1/2, 1/4], [-1/2, 1/2]], W x = (1, 1/2)
    p = 1 / (1 + np.exp(-0.5))
    np.testing.assert_allclose(found["1.weight"].numpy(), [[p, 2 * p], [-p, -2 * p]], rtol=1e-6)


@pytest.fixture
def first_step(monkeypatch):
    """The targets and gradients of the first step that Adam takes."""
    first = {}

    def recording(targets, gradients, *state, **options):
        if not first:
            first.update(targets=targets, gradients=[gradient.clone() for gradient in gradients])
        adam(targets, gradients, *state, **options)

    monkeypatch.setattr(latents, "adam", recording)
    return first


def hidden_pair():
    """Two networks of two ReLU units on x = (1, 2); the second holds the first's units in the other order, changed."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))
    inner = torch.tensor([[[1.0, 1.0], [-3.0, 1.0]], [[-3.0, 1.5], [1.0, 0.5]]])
    outer = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[0.5, 1.0], [2.0, -0.5]]])
    return Models(network, {"1.weight": inner, "3.weight": outer}, (0, 1), (1, 1, 2))


@pytest.mark.parametrize("method", SEARCHES)
def test_the_first_step_of_a_search_of_two_hidden_units_is_the_one_worked_out_by_hand(first_step, method):
    found = run(method, hidden_pair(), ONE_IMAGE, {**SETTINGS, "epochs": 1, "weights": "equal", "lr": 0.25})
    # (1, 1/2) is nearest to (1, 1) and (-3, 3/2) to (-3, 1): the second's units change places
    assert found.elements["1"].tolist() == [[0, 1], [1, 0]]
    # with W2 = [[1, 1/2], [-3, 3/2]] and V2 = [[1, 1/2], [-1/2, 2]] the midpoint is
    # W = [[1, 3/4], [-3, 5/4]], W x = (5/2, -1/2), h = relu(W x) = (5/2, 0)
    # V = [[1, 1/4], [-1/4, 2]], V h = (5/2, -5/8)
    error = softmax(np.array([5 / 2, -5 / 8])) - [0, 1]
    outer = np.outer(error, [5 / 2, 0])
    inner = np.outer([error @ [1, -1 / 4], 0], [1, 2])  # the second unit is off
    gradients = [gradient.numpy() for gradient in first_step["gradients"]]
    np.testing.assert_allclose(gradients[0], inner / 2, rtol=1e-6)
    np.testing.assert_allclose(gradients[1], outer / 2, rtol=1e-6)
    # Adam's first step is the rate against the gradient's sign
    target = [[1.0, 1.0], [-3.0, 1.0]] - 0.25 * np.sign(inner)
    np.testing.assert_allclose(first_step["targets"][0].numpy(), target, rtol=1e-5)


def reference_ste_mm(models, spec, data, settings, generator):
    """STE-MM as published, with autograd through the written expression: one latent network after the other."""
    count = len(models)
    source = {name: tensor[1:] for name, tensor in models.parameters.items()}
    targets = [{n: t.clone().requires_grad_() for n, t in models[0].items()} for _ in range(count - 1)]
    optimizer = torch.optim.Adam([t for target in targets for t in target.values()], lr=settings["lr"])
    matcher = Matcher(spec, count - 1, generator)
    for _ in range(settings["epochs"]):
        for batch in batches(len(data.train), settings["batch"], generator):
            latents = {name: torch.stack([target[name] for target in targets]) for name in source}
            matcher.match({name: tensor.detach() for name, tensor in latents.items()}, source, range(count - 1))
            permuted = act_on_stack(source, spec, matcher.elements)
            weights = convex_weights(count, settings["weights"], generator)
            combination = straight_through_combination(models, permuted, latents, weights)
            optimizer.zero_grad()
            logits = forward(models.network, combination, data.train.inputs[batch])
            F.cross_entropy(logits, data.train.targets[batch]).backward()
            optimizer.step()
    return matcher.elements


@pytest.mark.parametrize("weights", ["random", "equal"])
def test_ste_mm_is_the_published_algorithm_run_with_autograd(weights):
    models, data = random_mlps(4, widths=(12, 10)), random_data()
    settings = {**SETTINGS, "epochs": 10, "lr": 0.02, "weights": weights}
    found = run("ste_mm", models, data, settings)
    expected = reference_ste_mm(models, spec_of(models), data, settings, stream("search", 0))
    one_step = run("ste_mm", models, data, {**settings, "epochs": 1, "batch": 24})
    assert same({name: index[1:] for name, index in found.elements.items()}, expected)
    assert not same(found.elements, one_step.elements)  # the targets moved far enough to matter


def test_ste_of_two_models_is_ste_mm_at_the_midpoint():
    models, data = random_mlps(2, widths=(12, 10)), random_data()
    settings = {**SETTINGS, "epochs": 10, "lr": 0.02, "weights": "equal"}
    found = run("ste", models, data, settings)
    assert same(found.elements, run("ste_mm", models, data, settings).elements)
    assert not same(found.elements, run("ste", models, data, {**settings, "epochs": 1, "batch": 24}).elements)


# weights


@pytest.mark.parametrize("kind", ["random", "equal"])
@pytest.mark.parametrize("count", [2, 3, 10])
def test_convex_weights_are_positive_and_sum_to_one(kind, count):
    draws = stream("weights")
    for _ in range(50):
        weights = convex_weights(count, kind, draws)
        assert weights.shape == (count,)
        assert float(weights.min()) > 0
        assert float(weights.sum()) == pytest.approx(1, abs=1e-6)


def test_equal_weights_are_one_over_the_number_of_models():
    assert convex_weights(5, "equal", stream("weights")).tolist() == pytest.approx([0.2] * 5)


def test_random_weights_are_uniform_draws_divided_by_their_sum():
    draws = stream("weights")
    found = torch.stack([convex_weights(3, "random", draws) for _ in range(2000)]).numpy()
    uniform = np.random.default_rng(0).random((2000, 3))
    expected = uniform / uniform.sum(axis=1, keepdims=True)
    flat = np.random.default_rng(0).dirichlet([1, 1, 1], 2000)  # another law of the same mean, for the test's power
    for model in range(3):
        assert stats.ks_2samp(found[:, model], expected[:, model]).pvalue > 0.01
        assert stats.ks_2samp(found[:, model], flat[:, model]).pvalue < 1e-6
    # the ratio of two uniform draws is below x with probability x / 2, for x up to 1
    ratio = found[:, 0] / found[:, 1]
    for x in (0.1, 0.5, 1.0):
        assert np.mean(ratio < x) == pytest.approx(x / 2, abs=0.03)


# what the searches find


@pytest.mark.parametrize("method", SEARCHES)
def test_the_first_model_stays_and_the_others_get_valid_permutations(method):
    models = random_mlps(4)
    found = run(method, models, random_data())
    check_elements(found.elements, spec_of(models), 4, method)
    for index in found.elements.values():
        identity = torch.arange(index.shape[1])
        assert torch.equal(index[0], identity)
        assert not any(torch.equal(row, identity) for row in index[1:])


@pytest.mark.parametrize("method", SEARCHES)
def test_a_search_depends_on_its_generator_and_on_nothing_else(method):
    models, data = random_mlps(3, widths=(12, 10)), random_data()
    settings = {**SETTINGS, "epochs": 10, "lr": 0.02}
    torch.manual_seed(1)
    found = run(method, models, data, settings)
    torch.manual_seed(2)
    again = run(method, models, data, settings)
    assert same(found.elements, again.elements)
    assert found.work == again.work
    assert not all(same(found.elements, run(method, models, data, settings, key).elements) for key in range(1, 4))


@pytest.mark.parametrize("method", SEARCHES)
def test_a_search_leaves_the_models_as_they_were(method):
    models = random_mlps(3)
    before = {name: tensor.clone() for name, tensor in models.parameters.items()}
    run(method, models, random_data())
    assert same(models.parameters, before)
    assert not models.network.training


@pytest.mark.parametrize("method", SEARCHES)
def test_the_steps_recorded_are_the_batches_of_all_epochs(method):
    work = run(method, random_mlps(3), random_data(train=24)).work  # batches of 10, 10 and 4
    assert work["steps"] == 2 * 3
    assert work["assignments"] >= 2 * 2 * 6  # two models, two groups, every step
    assert work["row_scans"] > work["assignments"]


def test_ste_of_fewer_models_is_the_beginning_of_ste_of_more():
    models, data = trained_mlps(count=4, width=16, depth=2, epochs=3), few_digits()
    found = run("ste", models, data, DIGITS)
    for count in (2, 3):
        assert same(run("ste", models.first(count), data, DIGITS).elements, found.first(count).elements)


@pytest.mark.parametrize("method", SEARCHES)
@pytest.mark.parametrize("count", [2, 4])
def test_permuted_copies_of_one_model_are_brought_back_and_merge_to_it(method, count):
    models, data = trained_mlps(), few_digits()
    spec = spec_of(models)
    stack, planted = permuted_copies(models[0], spec, count)
    copies = like(models, stack)
    found = run(method, copies, data, DIGITS)
    assert coincide(planted, found.elements)
    for split in (data.train, data.test):
        merged = measure(models.network, merge(copies, spec, found), split)
        assert merged == pytest.approx(measure(models.network, models[0], split), rel=1e-5)


def merged_loss(models, data, found):
    return measure(models.network, merge(models, spec_of(models), found), data.train)[0]


def test_a_few_epochs_bring_trained_models_far_nearer_to_one_basin_than_no_search():
    models, data = trained_mlps(), few_digits()
    alone = merged_loss(models, data, naive(models, spec_of(models), data, {}, stream("search")))
    parents = np.mean([measure(models.network, models[model], data.train)[0] for model in range(len(models))])
    for method in SEARCHES:
        assert merged_loss(models, data, run(method, models, data, DIGITS)) - parents < (alone - parents) / 2


def test_ste_mm_merges_several_models_better_the_longer_it_searches():
    models, data = trained_mlps(), few_digits()
    losses = [
        merged_loss(models, data, run("ste_mm", models, data, {**DIGITS, "epochs": epochs})) for epochs in (1, 12)
    ]
    assert losses[1] < losses[0]


def test_naive_leaves_every_model_as_it_is():
    models = random_mlps(3)
    found = naive(models, spec_of(models), random_data(), {}, stream("search"))
    assert same(act_on_stack(models.parameters, spec_of(models), found.elements), models.parameters)
    assert found.work == {"steps": 0, "assignments": 0, "row_scans": 0}
