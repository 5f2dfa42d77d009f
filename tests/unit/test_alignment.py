"""Alignment: R is the double sum of its definition, 1 between a model and itself, and what permuting can change."""

import math

import pytest
import torch
from networks_for_tests import like, permuted_copies, random_convolutions, random_mlps, spec_of, stream

from onebasin.measures.alignment import alignment, alignments
from onebasin.measures.distance import distance, distances
from onebasin.measures.singular import decompose
from onebasin.merging.average import aligned_models
from onebasin.parameters import mean, one
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.apply import act, identity, invert, random_elements

GAMMAS = (0.0, 0.3, 0.6, 0.9)
MAKERS = {"mlp": lambda n: random_mlps(n, dtype=torch.float64), "convolutions": random_convolutions}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


def parts_of(models):
    return [decompose(one(models.weights, model)) for model in range(len(models))]


def double_sum(a, b, gamma):
    """The definition, of two matrices: sum and normaliser, vector by vector."""
    (ua, sa, va), (ub, sb, vb) = (torch.linalg.svd(weight.flatten(1), full_matrices=False) for weight in (a, b))
    kept = [[i for i, s in enumerate(values) if s >= gamma * values[0]] for values in (sa, sb)]
    total = sum(float((ua[:, i] @ ub[:, j]) * (va[i] @ vb[j])) for i in kept[0] for j in kept[1])
    return total, math.sqrt(len(kept[0]) * len(kept[1]))


def test_r_is_the_double_sum_by_layer_and_in_total(make):
    models = make(2)
    spec = spec_of(models)
    found = Alignment(random_elements(spec, 2, stream("permutations")))
    permuted = aligned_models(models, spec, found)
    table = alignments(models, parts_of(models), spec, found, mean(permuted.parameters), GAMMAS)
    table = table[table["model_b"] == 1].set_index(["layer", "gamma"])
    for column, stack in (("alignment_before", models.weights), ("alignment", permuted.weights)):
        for gamma in GAMMAS:
            terms = [double_sum(*tensor, gamma) for name, tensor in stack.items() if tensor.dim() > 2]
            names = [name.removesuffix(".weight") for name, tensor in stack.items() if tensor.dim() > 2]
            for name, (term, kept) in zip(names, terms, strict=True):
                assert table.loc[(name, gamma), column] == pytest.approx(term / kept)
                assert table.loc[(name, gamma), "kept"] == pytest.approx(kept)
            total = sum(term for term, _ in terms) / sum(kept for _, kept in terms)
            assert table.loc[("total", gamma), column] == pytest.approx(total)


def test_r_of_a_model_with_itself_is_one(make):
    (parts,) = parts_of(make(1))
    assert alignment(parts, parts, GAMMAS)["alignment"].to_numpy() == pytest.approx(1)


def test_permutations_that_undo_planted_ones_bring_r_to_one_with_each_other_and_with_the_merged_model(make):
    models = make(1)
    spec = spec_of(models)
    stack, planted = permuted_copies(models[0], spec, 3)
    copies = like(models, stack)
    found = Alignment(invert(spec, planted))
    table = alignments(
        copies, parts_of(copies), spec, found, mean(aligned_models(copies, spec, found).parameters), [0.0]
    )
    assert len(table[table["model_b"] == "merged"]) == 3 * table["layer"].nunique()
    assert table["alignment"].to_numpy() == pytest.approx(1)
    before = table[(table["layer"] == "total") & (table["model_b"] != "merged")]["alignment_before"]
    assert (before < 0.9).all()


def test_r_does_not_depend_on_the_signs_of_singular_vectors():
    first, second = parts_of(random_mlps(2, dtype=torch.float64))
    flipped = {name: type(p)(-p.left, p.singular_values, -p.right) for name, p in second.items()}
    assert alignment(first, second, GAMMAS).equals(alignment(first, flipped, GAMMAS))


def test_distances_are_those_of_what_is_trained_and_the_reduction_is_the_part_that_is_gone():
    models = random_convolutions(3)
    spec = spec_of(models)
    permuted = aligned_models(models, spec, Alignment(random_elements(spec, 3, stream("permutations"))))
    table = distances(models, permuted).set_index(["model_a", "model_b"])
    assert list(table.index) == [(0, 1), (0, 2), (1, 2)]
    for a, b in table.index:
        vectors = [
            [torch.cat([t[m].flatten() for t in s.weights.values()]) for m in (a, b)] for s in (models, permuted)
        ]
        before, after = (float((x - y).norm()) for x, y in vectors)
        row = table.loc[(a, b)]
        assert row.tolist() == pytest.approx([before, after, (before - after) / before])


def test_one_permutation_of_both_models_leaves_their_distance():
    models = random_mlps(2)
    spec = spec_of(models)
    indices = one(random_elements(spec, 1, stream("permutations")), 0)
    moved = [act(one(models.weights, model), spec, indices) for model in (0, 1)]
    assert distance(*moved) == pytest.approx(distance(one(models.weights, 0), one(models.weights, 1)))


def test_equal_models_have_no_reduction():
    models = random_mlps(1)
    twins = like(models, {name: tensor.expand(2, *tensor.shape[1:]) for name, tensor in models.parameters.items()})
    unmoved = aligned_models(twins, spec_of(twins), Alignment(identity(spec_of(twins), 2)))
    assert math.isnan(distances(twins, unmoved)["reduction"].item())
