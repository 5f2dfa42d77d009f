"""The intervention: the search sees dominant directions and nothing else, the barrier is that of the whole models."""

import pytest
import torch
from networks_for_tests import few_digits, random_convolutions, random_mlps, spec_of, trained_mlps

from onebasin.matching.weight import weight_matching
from onebasin.measures.anchored import match_to_anchor
from onebasin.measures.pairwise import interpolation_curves, pairwise_barriers
from onebasin.measures.singular import decompose
from onebasin.measures.truncation import kept_share, truncated, truncation_barriers
from onebasin.merging.average import aligned_models
from onebasin.merging.recalibration import Recalibration
from onebasin.parameters import one
from onebasin.symmetry.alignment import Alignment

SETTINGS = {"max_rounds": 100, "first_sweep": "signal"}


def parts_of(models):
    return [decompose(one(models.weights, model)) for model in range(len(models))]


@pytest.mark.parametrize("make", [random_mlps, random_convolutions])
def test_truncated_models_hold_the_kept_directions_and_zeros(make):
    models = make(2)
    parts = parts_of(models)
    cut = truncated(models, parts, 0.5)
    assert list(cut.parameters) == list(models.parameters)
    for name, stack in cut.parameters.items():
        assert stack.shape == models.parameters[name].shape
        for model in range(2):
            if name in parts[model]:
                part = parts[model][name]
                left = torch.linalg.svdvals(stack[model].flatten(1))
                kept = part.singular_values[part.singular_values >= 0.5 * part.singular_values[0]]
                torch.testing.assert_close(left[: len(kept)], kept)
                assert (left[len(kept) :] < 1e-5).all()
            else:
                assert not stack[model].any()


def test_nothing_is_cut_off_at_zero():
    models = random_mlps(2)
    parts = parts_of(models)
    whole = truncated(models, parts, 0.0)
    for name in parts[0]:
        torch.testing.assert_close(whole.parameters[name], models.parameters[name])
    assert kept_share(parts, 0.0) == 1
    assert 0 < kept_share(parts, 0.9) < kept_share(parts, 0.5) < 1


def test_the_barrier_is_measured_with_the_full_weights():
    models, data = trained_mlps(), few_digits()
    spec, recalibrate = spec_of(models), Recalibration(models.network, data.train, {})
    table = truncation_barriers(models, spec, data, [0.0, 0.8], SETTINGS, 3, recalibrate, "test")
    assert set(zip(table["model_a"], table["model_b"], strict=True)) == {(0, 1), (0, 2)}
    assert table.groupby(["split", "gamma"]).size().eq(2).all()

    def search(models, spec, data, settings, generator):
        return weight_matching(truncated(models, parts_of(models), 0.8), spec, None, settings, generator)

    found = match_to_anchor(search, models, spec, data, SETTINGS, "test")
    permuted = aligned_models(models, spec, Alignment(found.elements))
    expected = pairwise_barriers(interpolation_curves(permuted, data, 3, recalibrate)).set_index(
        ["split", "model_a", "model_b"]
    )
    for row in table[table["gamma"] == 0.8].itertuples():
        assert row.barrier_loss == pytest.approx(
            expected.loc[(row.split, row.model_a, row.model_b), "barrier_loss"], rel=1e-4
        )
