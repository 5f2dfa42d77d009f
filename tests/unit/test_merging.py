"""Permuting and averaging models."""

import pytest
import torch
from networks_for_tests import few_digits, like, permuted_copies, random_mlps, same, spec_of, stream, trained_mlps

from onebasin.matching.naive import naive
from onebasin.merging.average import aligned_models, merge
from onebasin.models.running import measure, outputs
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.apply import act, compose, identity, invert, random_elements


def permutations_of(models, key=0):
    return Alignment(random_elements(spec_of(models), len(models), stream("permutations", key)))


def test_the_merge_of_one_model_is_that_model_in_its_new_order():
    models = random_mlps(1)
    untouched = merge(models, spec_of(models), Alignment(identity(spec_of(models), 1)))
    assert same(untouched, models[0])
    permutations = permutations_of(models)
    assert same(merge(models, spec_of(models), permutations), aligned_models(models, spec_of(models), permutations)[0])


def test_without_a_search_the_merge_is_the_plain_average():
    models = random_mlps(3)
    found = merge(models, spec_of(models), naive(models, spec_of(models), None, {}, stream("search")))
    for name, tensor in found.items():
        a, b, c = models.parameters[name]
        torch.testing.assert_close(tensor, (a + b + c) / 3)


def test_the_merge_averages_units_that_the_permutations_bring_together():
    models = random_mlps(2, inputs=2, widths=(2,), classes=2)
    swapped = merge(models, spec_of(models), Alignment({"1": torch.tensor([[0, 1], [1, 0]])}))
    a, b = models[0], models[1]
    for unit, partner in ((0, 1), (1, 0)):
        for name in ("1.weight", "1.bias"):
            torch.testing.assert_close(swapped[name][unit], (a[name][unit] + b[name][partner]) / 2)
        ours, theirs = a["3.weight"][:, unit], b["3.weight"][:, partner]
        torch.testing.assert_close(swapped["3.weight"][:, unit], (ours + theirs) / 2)
    torch.testing.assert_close(swapped["3.bias"], (a["3.bias"] + b["3.bias"]) / 2)


@pytest.mark.parametrize("count", [2, 4])
def test_permuted_copies_of_one_model_merge_to_it_under_the_inverse_permutations_and_only_then(count):
    model = random_mlps(1)
    spec = spec_of(model)
    stack, planted = permuted_copies(model[0], spec, count)
    copies = like(model, stack)
    merged = merge(copies, spec, Alignment(invert(spec, planted)))
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, model[0][name])
    wrong = merge(copies, spec, Alignment(planted))
    assert not torch.allclose(wrong["1.weight"], model[0]["1.weight"])


def test_a_common_permutation_of_all_models_permutes_the_merge():
    models = random_mlps(3)
    spec, permutations = spec_of(models), permutations_of(models)
    common = {name: index[:1].repeat(3, 1) for name, index in permutations_of(models, key=1).elements.items()}
    merged = merge(models, spec, permutations)
    moved = merge(models, spec, Alignment(compose(spec, permutations.elements, common)))
    assert same(moved, act(merged, spec, {name: index[0] for name, index in common.items()}))


def test_permuting_models_leaves_their_outputs_and_losses_unchanged():
    models, data = trained_mlps(), few_digits()
    permuted = aligned_models(models, spec_of(models), permutations_of(models))
    for model in range(len(models)):
        assert not torch.equal(permuted[model]["1.weight"], models[model]["1.weight"])
        before, after = (outputs(m.network, m[model], data.test) for m in (models, permuted))
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
        expected = measure(models.network, models[model], data.test)
        assert measure(models.network, permuted[model], data.test) == pytest.approx(expected, rel=1e-5)
    assert permuted.seeds == models.seeds


def test_merging_leaves_the_models_as_they_were():
    models = random_mlps(3)
    before = {name: tensor.clone() for name, tensor in models.parameters.items()}
    merged = merge(models, spec_of(models), permutations_of(models))
    merged["1.weight"].zero_()
    assert same(models.parameters, before)
