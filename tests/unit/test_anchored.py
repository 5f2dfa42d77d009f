"""Two models matched to a third: in its order whatever the search's own is, and the barrier is the one between them."""

import torch
from networks_for_tests import coincide, few_digits, like, permuted_copies, random_mlps, spec_of, stream, trained_mlps

from onebasin.matching.naive import naive
from onebasin.matching.weight import weight_matching
from onebasin.measures.anchored import anchored_barriers, in_order_of_first, match_to_anchor, without_anchor
from onebasin.measures.pairwise import interpolation_curves, pairwise_barriers
from onebasin.merging.average import aligned_models
from onebasin.merging.recalibration import Recalibration
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.apply import act, compose, identity, invert, random_elements

SETTINGS = {"max_rounds": 100, "first_sweep": "signal"}


def planted(count=4):
    models = random_mlps(1, widths=(12, 9))
    stack, permutations = permuted_copies(models[0], spec_of(models), count)
    return like(models, stack, seeds=(5, 3, 8, 1)[:count]), permutations


def test_copies_of_one_model_are_all_brought_into_the_anchors_order():
    models, permutations = planted()
    found = match_to_anchor(weight_matching, models, spec_of(models), few_digits(), SETTINGS, "test")
    assert coincide(permutations, found.elements)
    for name, index in found.elements.items():
        assert torch.equal(index[0], torch.arange(index.shape[1])), name


def test_a_search_that_moves_the_anchor_is_undone():
    """Both models in an order of the search's own: the second is brought to where the first was."""
    models, permutations = planted(2)
    spec = spec_of(models)
    anywhere = random_elements(spec, 1, stream("anywhere"))
    both = {name: index.expand(2, -1) for name, index in anywhere.items()}
    found = Alignment(compose(spec, invert(spec, permutations), both))
    second = act(models[1], spec, in_order_of_first(spec, found))
    assert all(torch.equal(tensor, models[0][name]) for name, tensor in second.items())


def test_a_model_is_matched_alike_whoever_else_is_there():
    models = random_mlps(4)
    of = [
        match_to_anchor(weight_matching, models.first(n), spec_of(models), few_digits(), SETTINGS, "t") for n in (3, 4)
    ]
    assert all(torch.equal(index, of[1].first(3).elements[name]) for name, index in of[0].elements.items())


def test_the_barriers_are_those_between_the_models_but_the_anchor():
    models, data = trained_mlps(), few_digits()
    spec = spec_of(models)
    recalibrate = Recalibration(models.network, data.train, {})
    found = Alignment(random_elements(spec, 3, stream("permutations")))
    barriers = anchored_barriers(models, spec, found, data, 5, recalibrate)
    everyone = pairwise_barriers(interpolation_curves(aligned_models(models, spec, found), data, 5, recalibrate))
    assert set(zip(barriers["model_a"], barriers["model_b"], strict=True)) == {(1, 2)}
    assert barriers.reset_index(drop=True).equals(without_anchor(everyone, 0).reset_index(drop=True))


def test_the_anchor_is_left_out_by_its_name_and_not_by_a_part_of_it():
    models, data = trained_mlps(), few_digits()
    models = like(models, models.parameters, seeds=(1, 11, 21))
    barriers = pairwise_barriers(interpolation_curves(models, data, 3))
    kept = without_anchor(barriers, "1")
    assert set(zip(kept["model_a"], kept["model_b"], strict=True)) == {(11, 21)}


def test_a_search_without_work_leaves_everything():
    models = random_mlps(3)
    found = match_to_anchor(naive, models, spec_of(models), few_digits(), {}, "test")
    assert all(torch.equal(index, identity(spec_of(models), 3)[name]) for name, index in found.elements.items())
