"""Activation matching: planted permutations, all permutations of tiny groups, and rounds that never lower what they
raise."""

import itertools

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

from onebasin.matching.activation import Rounds, activation_matching
from onebasin.matching.correlation import Correlations, correlations
from onebasin.merging.average import merge
from onebasin.models.running import outputs
from onebasin.symmetry.alignment import Alignment, check_elements
from onebasin.symmetry.apply import identity
from onebasin.symmetry.spec import Group

SETTINGS = {"images": None, "batch": 50, "max_rounds": 100}


def run(models, data, key=0, **settings):
    return activation_matching(models, spec_of(models), data, {**SETTINGS, **settings}, stream("search", key))


def agreement(found, indices):
    """The sum of the correlations of all pairs of models' units that have one place."""
    pairs = itertools.combinations(range(len(indices)), 2)
    return sum(float(found.between(a, b)[indices[a], indices[b]].sum()) for a, b in pairs)


def random_correlations(models, units):
    draws = stream("correlations")
    sizes = range(models - 1, 0, -1)
    return Correlations([torch.rand(behind, units, units, generator=draws, dtype=torch.float64) for behind in sizes])


@pytest.mark.parametrize("count", [2, 3, 5])
def test_permuted_copies_are_brought_into_one_order(count):
    model = random_mlps(1, inputs=7, widths=(12, 9))
    stack, planted = permuted_copies(model[0], spec_of(model), count, noise=1e-4)
    found = run(like(model, stack), random_data(inputs=7, train=200))
    check_elements(found.elements, spec_of(model), count, "activation matching")
    assert coincide(planted, found.elements)


def test_the_average_of_permuted_copies_of_a_trained_model_computes_what_that_does_dead_units_or_not():
    models, data = trained_mlps(), few_digits()
    stack, _ = permuted_copies(models[0], spec_of(models), 3)
    copies = like(models, stack)
    merged = merge(copies, spec_of(models), run(copies, data))
    expected = outputs(models.network, models[0], data.train)
    torch.testing.assert_close(outputs(models.network, merged, data.train), expected, rtol=1e-4, atol=1e-4)
    plain = merge(copies, spec_of(models), Alignment(identity(spec_of(models), 3)))
    assert not torch.allclose(outputs(models.network, plain, data.train), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(("models", "units"), [(2, 5), (3, 3)])
def test_nothing_that_one_model_could_change_agrees_more(models, units):
    found = random_correlations(models, units)
    search = Rounds(Group("g", len(found.between(0, 1)), ()), found, stream("search"))
    search.run(100)
    orders = [torch.tensor(order) for order in itertools.permutations(range(units))]
    reached = agreement(found, search.elements)
    for model in range(models):
        others = [torch.where(torch.arange(models)[:, None] == model, order, search.elements) for order in orders]
        assert reached == pytest.approx(max(agreement(found, indices) for indices in others))
    together = [agreement(found, torch.stack(some)) for some in itertools.product(orders[:1], *[orders] * (models - 1))]
    assert reached <= max(together) + 1e-9
    if models == 2:
        assert reached == pytest.approx(max(together))


def test_no_round_lowers_the_agreement_and_the_rounds_end():
    found = random_correlations(models=5, units=12)
    reached = []
    for rounds in range(8):
        search = Rounds(Group("g", len(found.between(0, 1)), ()), found, stream("search"))
        assert search.run(rounds) <= rounds
        reached.append(agreement(found, search.elements))
    assert all(after >= before for before, after in itertools.pairwise(reached))
    assert reached[1] > reached[0]
    search = Rounds(Group("g", len(found.between(0, 1)), ()), found, stream("search"))
    rounds = search.run(100)
    assert rounds < 100
    assert search.run(100) == 1  # nothing is left to change
    assert search.solver.solved == 5 * (rounds + 1)


def test_trained_models_agree_more_than_they_did():
    models, data = trained_mlps(), few_digits()
    indices = run(models, data).elements
    for name, own in correlations(models, spec_of(models), data.train, 100).items():
        unpermuted = torch.arange(indices[name].shape[1]).expand_as(indices[name])
        assert agreement(own, indices[name]) > agreement(own, unpermuted) + 0.2 * indices[name].shape[1]


def test_the_size_of_a_batch_does_not_matter():
    models, data = random_mlps(3, widths=(12, 10), dtype=torch.float64), random_data(dtype=torch.float64)
    found = run(models, data, batch=400)
    assert same(found.elements, run(models, data, batch=7).elements)


def test_it_takes_the_first_images_of_the_training_set_and_no_other():
    models, data = random_mlps(3, widths=(8, 7)), random_data(train=24)
    few = run(models, data, images=9)
    data.train.inputs[9:] += 3
    data.test.inputs[:] += 3
    assert same(few.elements, run(models, data, images=9).elements)
    assert not same(few.elements, run(models, data).elements)


def test_it_depends_on_its_generator_and_on_nothing_else():
    models, data = random_mlps(3, widths=(12, 10)), random_data()
    torch.manual_seed(1)
    found = run(models, data)
    torch.manual_seed(2)
    again = run(models, data)
    assert same(found.elements, again.elements)
    assert found.work == again.work
    assert not all(same(found.elements, run(models, data, key).elements) for key in range(1, 4))


def test_two_models_take_one_assignment_a_group_and_the_proof_that_it_was_the_last():
    models = random_mlps(2, widths=(8, 7))
    found = run(models, random_data())
    assert found.work["steps"] == 2
    assert found.work["assignments"] == 2 * 2 * len(spec_of(models).groups)
    assert found.work["row_scans"] >= 2 * 2 * (8 + 7)
