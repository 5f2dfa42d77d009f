"""C2M3: the steps of Frank-Wolfe against dense matrices and autograd, planted permutations, cycles of models."""

import itertools

import numpy as np
import pytest
import torch
from networks_for_tests import coincide, like, permuted_copies, random_mlps, same, spec_of, stream, trained_mlps
from numpy.polynomial import Polynomial
from scipy.optimize import linear_sum_assignment
from torch import nn

from onebasin import seeding
from onebasin.matching.c2m3 import FrankWolfe, best_step, c2m3
from onebasin.models.stack import Models, initial
from onebasin.parameters import stacked
from onebasin.symmetry.alignment import check_elements
from onebasin.symmetry.apply import act, act_on_stack, compose, invert
from onebasin.symmetry.spec import Axis, Group, Spec

SETTINGS = {"max_steps": 400}

# Groups that act on parts of an axis and in blocks, on one axis only, and on both axes of a tensor.
PARTS = Spec(
    (
        Group("a", 6, (Axis("first", 0), Axis("joined", 1), Axis("pixels", 1, inner=3))),
        Group("b", 5, (Axis("second", 0), Axis("joined", 1, offset=6, outer=2))),
        Group(
            "c", 4, (Axis("joined", 0), Axis("pixels", 0), Axis("back", 0), Axis("back", 1), Axis("gates", 0, outer=3))
        ),
    )
)
SHAPES = {"first": (6, 5), "second": (5, 4), "joined": (4, 16), "pixels": (4, 18), "back": (4, 4), "gates": (12, 2)}


def stack_of(count, key=0):
    draws = stream("stack", key)
    return {name: torch.randn(count, *shape, generator=draws, dtype=torch.float64) for name, shape in SHAPES.items()}


def apply_dense(name, tensor, matrices, spec):
    """The tensor of one model after a product with the matrix [n, n] of every group that acts on it."""
    for number, parts in spec.axes_of(name).items():
        whole = torch.eye(tensor.shape[number], dtype=tensor.dtype)
        for axis, group in parts:
            for block in axis.places(group).permute(0, 2, 1).flatten(0, 1):
                whole[block[:, None], block] = matrices[group.name]
        tensor = torch.tensordot(whole, tensor, dims=([1], [number])).movedim(0, number)
    return tensor


def objective(stack, matrices, spec):
    """The sum over pairs of models of the inner products of their tensors, from dense matrices `[N, n, n]`."""
    total = 0
    for name, tensors in stack.items():
        soft = [
            apply_dense(name, tensor, {g: matrix[model] for g, matrix in matrices.items()}, spec)
            for model, tensor in enumerate(tensors)
        ]
        total = total + sum((one * other).sum() for one, other in itertools.combinations(soft, 2))
    return total


@pytest.fixture(params=[2, 3])
def search(request):
    """The weights of some models and a search that took two steps, after which its matrices are soft."""
    stack = stack_of(request.param, key=5)
    search = FrankWolfe(stack, PARTS)
    for _ in range(2):
        search.step()
    assert all(0.5 < float(matrix[-1].amax(dim=1).mean()) < 0.9 for matrix in search.matrices.values())
    return stack, search


def test_the_gradient_is_that_of_the_objective(search):
    stack, search = search
    matrices = {name: matrix.clone().requires_grad_() for name, matrix in search.matrices.items()}
    expected = torch.autograd.grad(objective(stack, matrices, PARTS), list(matrices.values()))
    for group, gradient in zip(PARTS.groups, expected, strict=True):
        found = search.gradient(group)
        torch.testing.assert_close(found, gradient[-len(found) :])
        assert len(found) == (1 if len(gradient) == 2 else len(gradient))


def test_a_step_goes_to_the_best_point_of_its_line_and_says_what_that_gains(search):
    stack, search = search
    before = {name: matrix.clone() for name, matrix in search.matrices.items()}
    gradients = {group.name: search.gradient(group) for group in PARTS.groups}
    gain = search.step()
    vertices = {}
    for name, gradient in gradients.items():
        vertices[name] = before[name].clone()  # of a model that does not move
        for matrix, own in zip(vertices[name][-len(gradient) :], gradient, strict=True):
            matrix[:] = torch.eye(len(own))[linear_sum_assignment(own, maximize=True)[1]]
    line = [
        float(objective(stack, {name: (1 - t) * before[name] + t * vertices[name] for name in before}, PARTS))
        for t in np.linspace(0, 1, 101)
    ]
    reached = float(objective(stack, search.matrices, PARTS))
    assert reached >= max(line) - 1e-9
    assert reached == pytest.approx(max(line), rel=1e-3)
    assert gain == pytest.approx(reached - line[0])
    for name, matrix in search.matrices.items():
        moved = (matrix - before[name]).flatten() @ (vertices[name] - before[name]).flatten()
        length = float(moved / (vertices[name] - before[name]).square().sum())
        torch.testing.assert_close(matrix, (1 - length) * before[name] + length * vertices[name])


def test_no_step_lowers_the_objective_and_the_matrices_stay_doubly_stochastic():
    models = trained_mlps()
    search = FrankWolfe(models.weights, spec_of(models))
    gains = [search.step() for _ in range(30)]
    assert min(gains) >= 0
    assert sum(gains) > 0.05 * search.largest
    for matrix in search.matrices.values():
        assert float(matrix.min()) >= 0
        for axis in (1, 2):
            torch.testing.assert_close(matrix.sum(dim=axis), torch.ones(matrix.shape[:2]))
    double = {name: tensor.double() for name, tensor in models.weights.items()}
    start, end = (
        float(objective(double, {n: m.double() for n, m in matrices.items()}, spec_of(models)))
        for matrices in (FrankWolfe(models.weights, spec_of(models)).matrices, search.matrices)
    )
    assert end - start == pytest.approx(sum(gains), rel=1e-4)  # 30 steps in float32 do not drift
    assert end < search.largest


@pytest.mark.parametrize(
    ("coefficients", "best"),
    [
        ([0, 1], 1.0),
        ([0, -1], 0.0),
        ([2], 0.0),
        ([0, 1, -1], 0.5),
        ([0, -1, 1.5], 1.0),
        ([0, 0, 0, 0, -1], 0.0),
        ([0, 3, -7.5, 7, -2], 0.0),
    ],
)
def test_the_best_step_is_a_stationary_point_or_an_end(coefficients, best):
    line = Polynomial(np.array(coefficients, dtype=float))
    grid = np.linspace(0, 1, 1001)
    found = best_step(line)
    assert line(found) >= line(grid).max() - 1e-12
    if best or len(coefficients) < 5:
        assert found == pytest.approx(best)


# what it finds


def test_of_two_models_with_one_hidden_layer_it_finds_the_best_of_all_permutations():
    for key in range(5):
        models = random_mlps(2, widths=(5,), key=key, dtype=torch.float64)
        found = c2m3(models, spec_of(models), None, SETTINGS, None).elements["1"]
        first, second = models[0], models[1]
        agreements = {
            order: sum(float((first[n] * t).sum()) for n, t in act(second, spec_of(models), {"1": order}).items())
            for order in map(torch.tensor, itertools.permutations(range(5)))
        }
        assert torch.equal(found[0], torch.arange(5))
        assert torch.equal(found[1], max(agreements, key=agreements.__getitem__))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_permuted_copies_of_a_trained_model_are_brought_into_one_order(count):
    models = trained_mlps()
    for key in range(2):
        stack, planted = permuted_copies(models[0], spec_of(models), count, key=key, noise=1e-4)
        found = c2m3(like(models, stack), spec_of(models), None, SETTINGS, None)
        assert coincide(planted, found.elements)


@pytest.mark.parametrize("count", [2, 3])
def test_trained_models_end_nearer_to_each_other_than_they_were(count):
    models = trained_mlps().first(count)
    spec = spec_of(models)
    found = c2m3(models, spec, None, SETTINGS, None)
    check_elements(found.elements, spec, count, "c2m3")

    def spread(stack):
        return sum(float((tensor - tensor.mean(dim=0)).square().sum()) for tensor in stack.values())

    assert spread(act_on_stack(models.weights, spec, found.elements)) < 0.9 * spread(models.weights)
    if count == 2:
        assert all(torch.equal(index[0], torch.arange(len(index[0]))) for index in found.elements.values())


def test_going_round_a_cycle_of_models_changes_nothing():
    models = trained_mlps()
    spec = spec_of(models)
    found = c2m3(models, spec, None, SETTINGS, None)
    universe = [found.of(model) for model in range(3)]
    ways = [compose(spec, universe[a], invert(spec, universe[b])) for a, b in ((0, 1), (1, 2), (2, 0))]
    around = compose(spec, compose(spec, ways[0], ways[1]), ways[2])
    for group in spec.groups:
        assert torch.equal(around[group.name], torch.arange(group.size))
        assert not torch.equal(ways[0][group.name], torch.arange(group.size))
    there = act(models[0], spec, ways[0])  # in the order of model 1
    assert same(act(there, spec, universe[1]), act(models[0], spec, universe[0]))


# bookkeeping


def test_equal_models_end_it_after_five_idle_steps():
    model = random_mlps(1)
    copies = like(
        model, {name: tensor.repeat(3, *[1] * (tensor.dim() - 1)) for name, tensor in model.parameters.items()}
    )
    found = c2m3(copies, spec_of(model), None, SETTINGS, None)
    assert found.work["steps"] == 5
    assert found.work["assignments"] == 6 * 3 * len(spec_of(model).groups)  # five steps and the rounding
    assert found.work["row_scans"] > 0
    assert all(torch.equal(row, torch.arange(len(row))) for index in found.elements.values() for row in index)


def test_no_more_steps_than_allowed():
    models = trained_mlps()
    assert c2m3(models, spec_of(models), None, {"max_steps": 3}, None).work["steps"] == 3


def test_it_rounds_to_the_nearest_permutation():
    search = FrankWolfe(stack_of(3), PARTS)
    for _ in range(4):
        search.step()
    for name, index in search.rounded().items():
        for matrix, row in zip(search.matrices[name], index, strict=True):
            best = linear_sum_assignment(matrix, maximize=True)
            assert float(matrix[torch.arange(len(row)), row].sum()) == pytest.approx(float(matrix[best].sum()))


def test_it_is_repeatable_and_draws_nothing():
    models = trained_mlps()
    torch.manual_seed(1)
    found = c2m3(models, spec_of(models), None, SETTINGS, None)
    torch.manual_seed(2)
    again = c2m3(models, spec_of(models), None, SETTINGS, None)
    assert same(found.elements, again.elements)
    assert found.work == again.work


def test_running_statistics_do_not_count():
    spec = Spec((Group("0", 6, (Axis("0.weight", 0), Axis("1.running_mean", 0), Axis("3.weight", 1))),))
    with seeding.global_rng("running statistics"):
        networks = [
            nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6, affine=False), nn.ReLU(), nn.Linear(6, 3))
            for _ in range(3)
        ]
    models = Models(networks[0], stacked([*map(initial, networks)]), (0, 1, 2), (4,))
    found = c2m3(models, spec, None, SETTINGS, None)
    models.parameters["1.running_mean"] += 5 * torch.randn(3, 6, generator=stream("means"))
    assert same(found.elements, c2m3(models, spec, None, SETTINGS, None).elements)
