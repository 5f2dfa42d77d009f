"""Weight matching: planted permutations are found, and the search is what a textbook's plain sweeps would find."""

import itertools
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_for_tests import (
    coincide,
    like,
    permuted_copies,
    random_mlps,
    same,
    spec_of,
    stream,
    trained_mlps,
)
from scipy.optimize import linear_sum_assignment

from onebasin.matching import weight
from onebasin.matching.cost import gains
from onebasin.matching.weight import Matcher, weight_matching
from onebasin.parameters import mean
from onebasin.symmetry import assignment
from onebasin.symmetry.alignment import check_elements
from onebasin.symmetry.apply import act_on_stack, identity, invert
from onebasin.symmetry.spec import Axis, Group, Spec

SETTINGS = {"max_rounds": 100, "first_sweep": "signal"}


def matcher_of(models, count, *key, **options):
    return Matcher(spec_of(models), count, stream("matching", *key), **options)


def split_in_two(models):
    """The first half of the models as targets, the second as sources."""
    half = len(models) // 2
    targets, sources = ({n: t[part] for n, t in models.parameters.items()} for part in (slice(half), slice(half, None)))
    return targets, sources


def squared_distance(target, permuted):
    return sum(float((target[name].double() - permuted[name]).square().sum()) for name in target)


def fade(models):
    """The same models, every layer with a quarter of the weights of the one before: its own units are told apart by
    their inputs, however the units behind them are permuted."""
    layers = sorted({name.split(".")[0] for name in models.parameters}, key=int)
    for depth, layer in enumerate(layers):
        for kind in ("weight", "bias"):
            models.parameters[f"{layer}.{kind}"] *= 0.25**depth
    return models


PAIRS = {
    "random": lambda: random_mlps(6, inputs=7, widths=(12, 9, 11, 8), key=1),
    "trained": lambda: trained_mlps(count=4, width=16, depth=3, epochs=3),
}


@pytest.fixture(params=PAIRS)
def pairs(request):
    models = PAIRS[request.param]()
    return models, *split_in_two(models)


# planted permutations


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    inputs=st.integers(8, 20),
    widths=st.lists(st.integers(8, 24), min_size=1, max_size=4).map(tuple),
    copies=st.integers(1, 3),
    key=st.integers(0, 10**6),
)
def test_a_planted_permutation_is_found_again_through_noise(inputs, widths, copies, key):
    model = fade(random_mlps(1, inputs=inputs, widths=widths, key=key))
    spec = spec_of(model)
    source, planted = permuted_copies(model[0], spec, copies, key, noise=1e-5)
    target = {name: tensor.expand(copies, *tensor.shape[1:]) for name, tensor in model.parameters.items()}
    matcher = matcher_of(model, copies, key)
    matcher.match(target, source, range(copies))
    assert same(matcher.elements, invert(spec, planted))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_permuted_copies_of_a_trained_model_are_all_brought_into_one_order(count):
    models = trained_mlps()
    stack, planted = permuted_copies(models[0], spec_of(models), count, key=count, noise=1e-4)
    copies = like(models, stack)
    found = weight_matching(copies, spec_of(models), None, SETTINGS, stream("search", count))
    assert coincide(planted, found.elements)


# against the textbook


def textbook_match(target, source, spec, orders, present):
    """Full sweeps over the groups of one model, nothing skipped, SciPy's solver, until nothing changes.

    Returns the permutations `[1, n]` per group and the number of assignment problems."""
    indices, solved = {name: index.clone() for name, index in present.items()}, 0
    for order in orders:
        improved = False
        for position in order:
            group = spec.groups[position]
            gain = gains(target, source, spec, indices, group)[0].double().numpy()
            columns = linear_sum_assignment(gain, maximize=True)[1]
            solved += 1
            rows = np.arange(group.size)
            if gain[rows, columns].sum() > gain[rows, indices[group.name][0].numpy()].sum():
                indices[group.name] = torch.from_numpy(columns)[None]
                improved = True
        if not improved:
            return indices, solved
    raise AssertionError("the sweeps did not end")


def only(stack, model):
    return {name: tensor[model : model + 1] for name, tensor in stack.items()}


@pytest.fixture
def visiting(monkeypatch):
    """Make the sweeps of a match take the orders of a list, which is given to the textbook as well."""

    def visit(groups, key):
        draws = np.random.default_rng(key)
        orders = [draws.permutation(groups).tolist() for _ in range(weight.MAX_SWEEPS)]
        coming = weakref.WeakKeyDictionary()  # every model's sweeps draw from a generator of their own

        def randperm(n, generator):
            return torch.tensor(next(coming.setdefault(generator, iter(orders))))

        monkeypatch.setattr(torch, "randperm", randperm)
        return orders

    return visit


@pytest.mark.parametrize("first_sweep", ["signal", "random"])
def test_a_match_finds_what_full_sweeps_of_scipy_find_with_fewer_assignments(pairs, visiting, first_sweep):
    models, target, source = pairs
    spec, count = spec_of(models), len(models) // 2
    start, solved = identity(spec, 1), 0
    orders = visiting(len(spec.groups), key=2)
    if first_sweep == "signal":
        orders[0] = sorted(orders[0])
    matcher = matcher_of(models, count, first_sweep=first_sweep)
    matcher.match(target, source, range(count))
    for model in range(count):
        expected, problems = textbook_match(only(target, model), only(source, model), spec, orders, start)
        assert same(only(matcher.elements, model), expected)
        solved += problems
    assert matcher.assignments < solved  # skipping what cannot change loses nothing and saves something


def test_a_later_match_starts_where_the_last_one_ended(pairs, visiting):
    models, target, source = pairs
    spec = spec_of(models)
    matcher = matcher_of(models, 1)
    matcher.match(only(target, 0), only(source, 0), [0])
    before = {name: index.clone() for name, index in matcher.elements.items()}
    orders = visiting(len(spec.groups), key=3)
    matcher.match(only(target, 1), only(source, 0), [0])
    assert same(matcher.elements, textbook_match(only(target, 1), only(source, 0), spec, orders, before)[0])
    assert not same(matcher.elements, before)


def textbook_weight_matching(models, spec, rounds, orders, first_sweep):
    """Round after round, every model against the mean of the others, until nothing changes."""
    indices = identity(spec, len(models))
    for number, round_order in enumerate(rounds):
        before = {name: index.clone() for name, index in indices.items()}
        for model in round_order:
            sweeps = [sorted(orders[0]), *orders[1:]] if number == 0 and first_sweep == "signal" else orders
            target = mean_of_others(models, spec, indices, model)
            found, _ = textbook_match(target, only(models.parameters, model), spec, sweeps, only(indices, model))
            for name, index in found.items():
                indices[name][model] = index[0]
        if same(indices, before):
            return indices, number + 1
    raise AssertionError("the rounds did not end")


def mean_of_others(models, spec, indices, model):
    permuted = act_on_stack(models.parameters, spec, indices)
    others = [other for other in range(len(models)) if other != model]
    return {name: tensor[None] for name, tensor in mean({n: t[others] for n, t in permuted.items()}).items()}


@pytest.mark.parametrize("first_sweep", ["signal", "random"])
def test_weight_matching_is_the_textbooks_rounds_over_all_models(pairs, monkeypatch, first_sweep):
    models = pairs[0]
    spec, draws = spec_of(models), stream("search")
    rounds, orders = (
        [np.random.default_rng(k).permutation(n).tolist() for k in range(weight.MAX_SWEEPS)]
        for n in (len(models), len(spec.groups))
    )
    expected, steps = textbook_weight_matching(models, spec, rounds, orders, first_sweep)
    coming = {}  # a generator each: the search's own draws the rounds, one made for a match its sweeps

    def drawn(n, generator, device="cpu"):
        return torch.tensor(next(coming.setdefault(generator, iter(rounds if generator is draws else orders))))

    monkeypatch.setattr(torch, "randperm", drawn)
    found = weight_matching(models, spec, None, {**SETTINGS, "first_sweep": first_sweep}, draws)
    assert same(found.elements, expected)
    assert found.work["steps"] == steps > 2


# optima


def test_weight_matching_ends_where_no_group_of_no_model_can_be_matched_better(pairs):
    models = pairs[0]
    spec = spec_of(models)
    indices = weight_matching(models, spec, None, SETTINGS, stream("search")).elements
    check_elements(indices, spec, len(models), "weight matching")
    for model, group in itertools.product(range(len(models)), spec.groups):
        target = mean_of_others(models, spec, indices, model)
        gain = gains(target, only(models.parameters, model), spec, only(indices, model), group)[0].double().numpy()
        best = gain[linear_sum_assignment(gain, maximize=True)].sum()
        present = gain[np.arange(group.size), indices[group.name][model].numpy()].sum()
        assert present == pytest.approx(best, rel=1e-6)


def test_no_sweep_takes_a_model_further_from_its_target(pairs, monkeypatch):
    models, target, source = pairs
    spec, count = spec_of(models), len(models) // 2
    monkeypatch.setattr(weight.Matcher, "max_sweeps", 1)
    matcher = matcher_of(models, count, first_sweep="random")
    distances = [squared_distance(target, source)]
    while matcher.match(target, source, range(count)):
        distances.append(squared_distance(target, act_on_stack(source, spec, matcher.elements)))
    assert all(after < before for before, after in itertools.pairwise(distances))
    assert len(distances) > 2


def test_no_round_takes_the_models_further_from_their_mean(pairs):
    models = pairs[0]
    spec, distances = spec_of(models), []
    for rounds in range(8):
        found = weight_matching(models, spec, None, {**SETTINGS, "max_rounds": rounds}, stream("search"))
        permuted = act_on_stack(models.parameters, spec, found.elements)
        distances.append(squared_distance(permuted, mean(permuted)))
    assert all(after <= before * (1 + 1e-9) for before, after in itertools.pairwise(distances))
    assert distances[-1] < distances[0]


def test_a_match_of_what_is_matched_changes_nothing(pairs):
    models, target, source = pairs
    count = len(models) // 2
    matcher = matcher_of(models, count)
    assert matcher.match(target, source, range(count))
    before = {name: index.clone() for name, index in matcher.elements.items()}
    assert not matcher.match(target, source, range(count))
    assert same(matcher.elements, before)


# warm start, independence, order, bookkeeping


def matches_of_drifting_targets(models, target, source, warm_start):
    """A matcher after six targets that move a little from one to the next, and its permutations after each."""
    count, draws, found = len(models) // 2, stream("drift"), []
    matcher = matcher_of(models, count, warm_start=warm_start)
    for _ in range(6):
        matcher.match(target, source, range(count))
        found.append({name: index.clone() for name, index in matcher.elements.items()})
        target = {n: t + 0.05 * t.std() * torch.randn(t.shape, generator=draws) for n, t in target.items()}
    return matcher, found


def test_a_warm_start_gives_the_same_permutations_for_less_work(pairs):
    warm, found_warm = matches_of_drifting_targets(*pairs, warm_start=True)
    cold, found_cold = matches_of_drifting_targets(*pairs, warm_start=False)
    assert all(same(a, b) for a, b in zip(found_warm, found_cold, strict=True))
    assert not same(found_warm[0], found_warm[-1])
    assert warm.assignments == cold.assignments
    assert warm.row_scans < cold.row_scans


@pytest.mark.parametrize("together", [[0, 1], [1, 0], [0, 2], [2, 1, 0]])
def test_what_a_model_gets_does_not_depend_on_the_models_matched_with_it(together):
    models = random_mlps(6, inputs=7, widths=(12, 9, 11))
    target, source = split_in_two(models)
    matcher = matcher_of(models, 3)
    for _ in range(2):
        matcher.match(
            {n: t[together] for n, t in target.items()}, {n: t[together] for n, t in source.items()}, together
        )
        target = {name: tensor.roll(1, dims=-1) for name, tensor in target.items()}
    for model in range(3):
        alone = matcher_of(models, 3)
        target, _ = split_in_two(models)
        for _ in range(2):
            alone.match(only(target, model), only(source, model), [model])
            target = {name: tensor.roll(1, dims=-1) for name, tensor in target.items()}
        expected = only(alone.elements if model in together else identity(matcher.spec, 3), model)
        assert same(only(matcher.elements, model), expected)


def groups_visited(monkeypatch, matcher, target, source, models):
    """The names of the groups in the order in which one match solves them."""
    names = []

    def recorded(costs, group, *arguments):
        names.append(group.name)
        return of(costs, group, *arguments)

    of = weight.Costs.of
    with monkeypatch.context() as patch:
        patch.setattr(weight.Costs, "of", recorded)
        matcher.match(target, source, models)
    return names


def test_the_first_sweep_of_every_model_goes_from_input_to_output_if_asked(monkeypatch):
    models = random_mlps(4, widths=(5, 5, 5, 5))
    target, source = split_in_two(models)
    names = [group.name for group in spec_of(models).groups]
    for key in range(10):
        matcher = matcher_of(models, 2, key)
        for model in (1, 0):
            one_target, one_source = only(target, model), only(source, model)
            assert groups_visited(monkeypatch, matcher, one_target, one_source, [model])[:4] == names


@pytest.mark.parametrize("first_sweep", ["signal", "random"])
def test_sweeps_after_the_first_and_a_random_first_one_come_in_every_order(monkeypatch, first_sweep):
    models = random_mlps(2, widths=(3, 3, 3))
    target, source = split_in_two(models)
    matcher = matcher_of(models, 1, first_sweep=first_sweep)
    if first_sweep == "signal":
        matcher.match(target, source, [0])
    orders = {tuple(groups_visited(monkeypatch, matcher, target, source, [0])[:3]) for _ in range(60)}
    assert orders == set(itertools.permutations(group.name for group in matcher.spec.groups))


def test_a_group_is_solved_again_only_after_a_neighbour_changed(pairs, monkeypatch):
    models, target, source = pairs
    last_seen, solved_again = {}, 0

    def recorded(costs, group, indices, asked, *unknown):
        nonlocal solved_again
        around = {name: indices[name].clone() for name in spec_of(models).neighbours(group)}
        if group.name in last_seen:
            solved_again += 1
            assert not same(around, last_seen[group.name])
        last_seen[group.name] = around
        return of(costs, group, indices, asked, *unknown)

    of = weight.Costs.of
    monkeypatch.setattr(weight.Costs, "of", recorded)
    matcher_of(models, 1, first_sweep="random").match(only(target, 0), only(source, 0), [0])
    assert solved_again > 0


@pytest.fixture
def solved(monkeypatch):
    """The row scans of every problem that the assignment solver is given."""
    improve, scans = assignment.improve, []

    def recorded(*arguments):
        answer = improve(*arguments)
        scans.append(answer[1])
        return answer

    monkeypatch.setattr(assignment, "improve", recorded)
    return scans


def test_the_work_recorded_is_every_problem_and_every_row_the_solver_went_through(pairs, solved):
    models, target, source = pairs
    matcher = matcher_of(models, len(models) // 2)
    matcher.match(target, source, range(len(models) // 2))
    assert matcher.work(7) == {"steps": 7, "assignments": len(solved), "row_scans": sum(solved)}


def test_weight_matching_records_its_rounds_and_the_work_of_all_of_them(solved):
    models = random_mlps(3, inputs=7, widths=(12, 9, 11))
    work = weight_matching(models, spec_of(models), None, {**SETTINGS, "max_rounds": 2}, stream("search")).work
    assert work["steps"] == 2
    assert work["assignments"] == len(solved)  # one model at a time
    assert work["row_scans"] == sum(solved)


def test_the_search_depends_on_its_generator_and_on_nothing_else():
    models = random_mlps(4, inputs=7, widths=(12, 9, 11))
    torch.manual_seed(1)
    first = weight_matching(models, spec_of(models), None, SETTINGS, stream("search", 0))
    torch.manual_seed(2)
    again = weight_matching(models, spec_of(models), None, SETTINGS, stream("search", 0))
    others = [weight_matching(models, spec_of(models), None, SETTINGS, stream("search", k)) for k in range(1, 5)]
    assert same(first.elements, again.elements)
    assert first.work == again.work
    assert not all(same(first.elements, other.elements) for other in others)


def test_identical_hidden_units_do_not_keep_the_sweeps_going():
    models = random_mlps(2, widths=(6, 6, 6))
    for axis in {axis for group in spec_of(models).groups for axis in group.axes}:
        first, second = models.parameters[axis.tensor].movedim(axis.axis + 1, 0).split(3)
        second.copy_(first)
    target, source = split_in_two(models)
    matcher = matcher_of(models, 1)
    matcher.match(target, source, [0])
    assert matcher.assignments < 30
    assert not matcher.match(target, source, [0])


# A group that acts on two axes of one tensor

RECURRENT = Spec((Group("s", 9, (Axis("in", 0), Axis("back", 0), Axis("back", 1), Axis("out", 1))),))
RECURRENT_SHAPES = {"in": (9, 4), "back": (9, 9), "out": (3, 9)}


@pytest.mark.parametrize("key", range(8))
def test_every_change_of_a_group_on_two_axes_of_a_tensor_brings_source_and_target_nearer(key, monkeypatch):
    target, source = (
        {n: torch.randn(1, *s, generator=stream(n, key, part)) for n, s in RECURRENT_SHAPES.items()}
        for part in range(2)
    )
    distances, solved = [], weight.Matcher._solve

    def distance(indices):
        permuted = act_on_stack(source, RECURRENT, indices)
        return sum(float((target[name] - permuted[name]).double().square().sum()) for name in target)

    def recording(self, *arguments):
        result = solved(self, *arguments)
        distances.append(distance(self.elements))
        return result

    monkeypatch.setattr(weight.Matcher, "_solve", recording)
    matcher = Matcher(RECURRENT, 1, stream("order", key))
    before = distance(matcher.elements)
    assert matcher.match(target, source, [0])
    assert len(distances) < weight.MAX_SWEEPS
    path = [before, *distances]
    assert all(
        later < earlier for earlier, later in itertools.pairwise(path[:-1])
    )  # and the last visit changes nothing
    assert path[-1] == path[-2]  # the last visit changes nothing


def test_a_permuted_recurrence_is_found_again():
    source = {n: torch.randn(1, *s, generator=stream(n)) for n, s in RECURRENT_SHAPES.items()}
    planted = {"s": torch.randperm(9, generator=stream("planted"))[None]}
    matcher = Matcher(RECURRENT, 1, stream("order"))
    matcher.match(act_on_stack(source, RECURRENT, planted), source, [0])
    assert torch.equal(matcher.elements["s"], planted["s"])
