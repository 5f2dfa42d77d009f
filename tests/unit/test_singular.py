"""Singular vectors: they are those of what a layer does, and permuting a model permutes their rows."""

import pytest
import torch
from networks_for_tests import random_convolutions, random_data, random_images, random_mlps, spec_of, stream
from torch.nn import functional as F

from onebasin.measures.responses import responses
from onebasin.measures.singular import decompose, layer_of
from onebasin.parameters import one
from onebasin.symmetry.apply import act, random_elements

MAKERS = {"mlp": lambda: random_mlps(1, dtype=torch.float64), "convolutions": lambda: random_convolutions(1)}


@pytest.fixture(params=MAKERS)
def models(request):
    return MAKERS[request.param]()


def test_all_directions_together_are_the_weights_and_vectors_have_none(models):
    weights = one(models.weights, 0)
    parts = decompose(weights)
    assert list(parts) == [name for name, tensor in weights.items() if tensor.dim() > 1]
    for name, part in parts.items():
        torch.testing.assert_close(part.truncated(len(part.singular_values)), weights[name])


def test_fewer_directions_are_the_nearest_matrix_of_that_rank(models):
    for name, part in decompose(one(models.weights, 0)).items():
        rest = models.weights[name][0] - part.truncated(2)
        torch.testing.assert_close(rest.norm(), part.singular_values[2:].norm())
        assert torch.linalg.matrix_rank(part.truncated(2).flatten(1)) == 2


def test_a_permuted_decomposition_is_that_of_the_permuted_model(models):
    spec, weights = spec_of(models), one(models.weights, 0)
    indices = one(random_elements(spec, 1, stream("permutations")), 0)
    permuted = act(weights, spec, indices)
    for name, part in decompose(weights).items():
        moved = part.permuted(name, spec, indices)
        torch.testing.assert_close(moved.truncated(len(moved.singular_values)), permuted[name])
        assert torch.equal(moved.singular_values, part.singular_values)


def test_gamma_keeps_what_is_large_enough_beside_the_largest():
    (part,) = decompose({"weight": torch.diag(torch.tensor([4.0, 2.0, 1.0, 0.0]))}).values()
    assert [part.kept(gamma) for gamma in (0, 0.25, 0.26, 0.5, 0.9)] == [3, 3, 2, 2, 1]


@pytest.mark.parametrize("batch", [4, 500])
def test_responses_are_those_to_one_big_batch_of_inputs(models, batch):
    """Inputs and patches are cut out by hand, layer after layer."""
    data = random_data(dtype=torch.float64) if models.input_shape == (1, 1, 5) else random_images()
    parameters = models[0]
    parts = decompose(one(models.weights, 0))
    found = responses(models.network, parameters, parts, data.test, batch).set_index(["layer", "rank"])
    models.network.load_state_dict(parameters)
    x = data.test.inputs
    seen = 0
    for number, layer in enumerate(models.network):
        if f"{number}.weight" in parts:
            inputs = x
            if isinstance(layer, torch.nn.Conv2d):
                patches = F.unfold(x, layer.kernel_size, padding=layer.padding, stride=layer.stride)
                inputs = patches.mT.flatten(0, 1)
            right = parts[f"{number}.weight"].right.flatten(0, -2)
            expected = (inputs @ right).abs().mean(dim=0)
            assert found.loc[str(number), "response"].tolist() == pytest.approx(expected.tolist())
            seen += 1
        x = layer(x)
    assert seen == len(parts) == found.index.get_level_values("layer").nunique()


def test_responses_list_the_singular_values_and_leave_the_network_alone(models):
    data = random_data(dtype=torch.float64) if models.input_shape == (1, 1, 5) else random_images()
    parts = decompose(one(models.weights, 0))
    found = responses(models.network, models[0], parts, data.test)
    for name, part in parts.items():
        rows = found[found["layer"] == layer_of(name)]
        assert rows["singular_value"].tolist() == part.singular_values.tolist()
        assert rows["rank"].tolist() == list(range(len(part.singular_values)))
    assert not any(layer._forward_pre_hooks for layer in models.network.modules())
