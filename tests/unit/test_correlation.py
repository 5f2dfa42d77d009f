"""Correlations of units, streamed, against NumPy's of all activations at once."""

import itertools

import numpy as np
import pytest
import torch
from networks_for_tests import few_digits, like, random_data, random_mlps, spec_of, stream, trained_mlps
from torch import nn
from torch.nn import functional as F

from onebasin import seeding
from onebasin.data import Split
from onebasin.errors import OnebasinError
from onebasin.matching.correlation import correlations
from onebasin.models.stack import Models, initial
from onebasin.parameters import stacked
from onebasin.symmetry.spec import Axis, Group, Spec


def split_of(images):
    return Split(images, torch.zeros(len(images), dtype=torch.int64))


def pearson(one, other):
    """Correlations `[n, n]` of the rows of two `[n, samples]`, by NumPy, in one go; 0 where it finds no variance."""
    rows = np.concatenate([one.double().numpy(), other.double().numpy()])
    with np.errstate(invalid="ignore"):
        return torch.from_numpy(np.nan_to_num(np.corrcoef(rows)[: len(one), len(one) :]))


def assert_correlations(found, activations):
    """`found` are the correlations of `activations`, a list `[n, samples]` a model."""
    for one, other in itertools.permutations(range(len(activations)), 2):
        torch.testing.assert_close(found.between(one, other), pearson(activations[one], activations[other]))


def by_hand(models, images):
    """The hidden activations of MLPs: a list a layer of a list a model."""
    layers = [[], []]
    for model in range(len(models)):
        hidden = images.flatten(1)
        for layer, name in zip(layers, ("1", "3"), strict=True):
            weight, bias = models[model][f"{name}.weight"], models[model][f"{name}.bias"]
            hidden = F.relu(hidden @ weight.T + bias)
            layer.append(hidden.T)
    return layers


@pytest.mark.parametrize("batch", [1, 7, 24, 100])
def test_streamed_correlations_are_those_of_one_big_batch(batch):
    models, images = random_mlps(3, widths=(4, 3), dtype=torch.float64), random_data(dtype=torch.float64).train.inputs
    found = correlations(models, spec_of(models), split_of(images), batch)
    for name, activations in zip(("1", "3"), by_hand(models, images), strict=True):
        assert_correlations(found[name], activations)


def test_the_size_of_a_batch_changes_rounding_only():
    models, data = trained_mlps(), few_digits()
    found = [correlations(models, spec_of(models), data.train, batch) for batch in (17, 400)]
    for group in spec_of(models).groups:
        for pair in ((0, 1), (2, 0)):
            one, other = (own[group.name].between(*pair) for own in found)
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_a_unit_that_never_varies_correlates_with_nothing():
    models = random_mlps(2, widths=(6,))
    models.parameters["1.bias"][0, 2] = -100  # dead
    models.parameters["1.weight"][1, 3] = 0
    models.parameters["1.bias"][1, 3] = 0.1  # always the same, no number that float32 knows exactly
    found = correlations(models, spec_of(models), random_data().train, 7)["1"].between(0, 1)
    assert not found[2].any()
    assert not found[:, 3].any()
    assert found.isfinite().all()
    rest = [unit for unit in range(6) if unit not in (2, 3)]
    assert (found[rest][:, rest] != 0).any()


def convolutional(count, groups=1):
    """Conv, BatchNorm, ReLU, conv of `groups` groups, flattened into a linear layer; statistics are the models' own."""
    with seeding.global_rng("convolutional"):
        networks = [
            nn.Sequential(
                nn.Conv2d(2, 4, 3, padding=1),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Conv2d(4, 4, 3, groups=groups),
                nn.Tanh(),
                nn.Flatten(),
                nn.Linear(4 * 9, 3),
            )
            for _ in range(count)
        ]
        for network in networks:
            network.double().train()
            network(torch.randn(20, 2, 5, 5, dtype=torch.float64))
            network.eval()
    return networks, Models(networks[0], stacked([*map(initial, networks)]), tuple(range(count)), (2, 5, 5))


def seen_by_hooks(networks, images, module):
    """The inputs `[c, samples]` of the named module, a list a model."""
    seen = []
    for network in networks:
        handle = network[module].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
        network(images)
        handle.remove()
    return seen


IMAGES = torch.randn(30, 2, 5, 5, generator=stream("images"), dtype=torch.float64)


def test_places_of_a_feature_map_are_samples_and_batch_norms_have_their_own_statistics():
    networks, models = convolutional(2)
    before = {name: tensor.clone() for name, tensor in models.parameters.items()}
    found = correlations(models, spec_of(models), split_of(IMAGES), 8)
    channels = [seen.movedim(1, 0).flatten(1) for seen in seen_by_hooks(networks, IMAGES, 3)]
    assert_correlations(found["0"], channels)
    flattened = [seen.unflatten(1, (4, 9)).movedim(1, 0).flatten(1) for seen in seen_by_hooks(networks, IMAGES, 6)]
    assert_correlations(found["3"], flattened)
    assert all(torch.equal(tensor, models.parameters[name]) for name, tensor in before.items())


def test_units_that_a_depthwise_convolution_reads_are_seen_where_they_are_read_in_full():
    networks, models = convolutional(2, groups=4)
    (group,) = spec_of(models).groups  # channel by channel, so that both layers have one order
    found = correlations(models, spec_of(models), split_of(IMAGES), 8)[group.name]
    flattened = [seen.unflatten(1, (4, 9)).movedim(1, 0).flatten(1) for seen in seen_by_hooks(networks, IMAGES, 6)]
    assert_correlations(found, flattened)


class Transposed(nn.Module):
    """An autoencoder that decodes with the transpose of its weight: no layer reads the units by a weight of its own."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(5, 4)

    def forward(self, images):
        return F.linear(torch.tanh(self.encoder(images.flatten(1))), self.encoder.weight.T)


def test_units_that_no_layer_reads_are_seen_where_they_are_made():
    with seeding.global_rng("transposed"):
        networks = [Transposed() for _ in range(3)]
    models = Models(networks[0], stacked([*map(initial, networks)]), (0, 1, 2), (1, 1, 5))
    spec = Spec((Group("encoder", 4, (Axis("encoder.weight", 0), Axis("encoder.bias", 0))),))
    images = random_data().train.inputs
    made = [network.encoder(images.flatten(1)).detach().T for network in networks]
    assert_correlations(correlations(models, spec, split_of(images), 10)["encoder"], made)


def test_several_readers_of_a_group_add_their_samples():
    class Residual(nn.Sequential):
        def forward(self, images):
            enter, inner, leave = self
            hidden = enter(images.flatten(1))
            return leave(hidden + torch.tanh(inner(hidden)))

    with seeding.global_rng("residual"):
        networks = [Residual(nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 3)) for _ in range(2)]
    models = Models(networks[0], stacked([*map(initial, networks)]), (0, 1), (1, 1, 5))
    spec = Spec((Group("0", 4, (Axis("0.weight", 0), Axis("1.weight", 0), Axis("1.weight", 1), Axis("2.weight", 1))),))
    images = random_data().train.inputs
    read = [seen_by_hooks(networks, images, layer) for layer in (1, 2)]
    both = [torch.cat([one.T, other.T], dim=1) for one, other in zip(*read, strict=True)]
    assert_correlations(correlations(models, spec, split_of(images), 10)["0"], both)


# what it takes


def test_no_pass_takes_more_than_a_batch():
    models, sizes = random_mlps(2), []
    spec = spec_of(models)
    models.network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    correlations(models, spec, random_data(train=24).train, 10)
    assert sum(sizes) == 1 + 2 * 24  # one image shows which layers there are
    assert max(sizes) == 10


def refusal(models, split):
    with pytest.raises(OnebasinError) as caught:
        correlations(models, spec_of(models), split, 10)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_images_of_another_shape_are_refused():
    assert "24 inputs of 1x1x7, but there must be some of 1x1x5" in refusal(random_mlps(2), random_data(inputs=7).train)


def test_no_images_are_refused():
    assert "0 inputs of 1x1x5" in refusal(random_mlps(2), random_data().train.first(0))


def test_images_and_models_that_are_not_numbers_are_refused():
    data = random_data()
    data.train.inputs[3, 0, 0, 2] = float("nan")
    assert "NaN or infinity in group 1 of model 0" in refusal(random_mlps(2), data.train)
    models = random_mlps(2)
    models.parameters["3.weight"][1, 0, 0] = float("inf")
    named = refusal(like(models, models.parameters, seeds=(5, 8)), random_data().train)
    assert "group 3 of model 8" in named
