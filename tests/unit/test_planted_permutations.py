"""A network and permuted copies of it: every search that looks at all of them brings them into one order, whatever the
architecture."""

import functools

import pytest
import torch
from architectures_for_tests import ARCHITECTURES
from networks_for_tests import coincide, permuted_copies, stream
from torch.func import functional_call

from onebasin.data import Data, Split
from onebasin.errors import OnebasinError
from onebasin.matching.activation import activation_matching
from onebasin.matching.c2m3 import c2m3
from onebasin.matching.weight import weight_matching
from onebasin.models.stack import Models
from onebasin.parameters import mean
from onebasin.symmetry.apply import act_on_stack
from onebasin.symmetry.trace import trace

SETTINGS = {
    weight_matching: {"max_rounds": 20, "first_sweep": "signal"},
    c2m3: {"max_steps": 40},
    activation_matching: {"images": None, "batch": 40, "max_rounds": 20},
}
LARGE = ["VGG11", "VGG11 with BatchNorm", "ResNet18", "ResNet50", "MobileNetV2"]  # seconds a search: one is enough
WITHOUT_ACTIVATIONS = [  # units of faded ReLU layers that are dead have no activations to tell them apart by
    *LARGE,
    "MLP",
    "ResNet20",
    "DenseNet",
    "embedding",
    "attention",
]
CASES = [
    (search, name)
    for name in ARCHITECTURES
    for search, left_out in ((weight_matching, []), (c2m3, LARGE), (activation_matching, WITHOUT_ACTIVATIONS))
    if name not in left_out
]


def faded(network):
    """Its tensors with other values, those of every layer smaller than those before: then what makes a unit tells it
    from others before the order of the units that read it is known. Tied ones stay tied, variances positive."""
    state = {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    rate = 0.25 if len(state) < 30 else 0.7
    draws, size = stream("values"), 1.0
    values = {}
    for name, tensor in state.items():
        if tensor.data_ptr() not in values:
            size *= rate if tensor.dim() > 1 else 1
            noise = size * torch.randn(tensor.shape, generator=draws, dtype=torch.float64)
            values[tensor.data_ptr()] = noise.abs() + size if name.endswith("running_var") else noise
    return {name: values[tensor.data_ptr()] for name, tensor in state.items()}


def outputs(network, tensors, inputs):
    with torch.no_grad():
        return functional_call(network.eval(), tensors, (inputs,), tie_weights=False)


@functools.lru_cache(maxsize=1)
def traced(name):
    """The network, eighty inputs and the spec; kept for the other searches."""
    architecture = ARCHITECTURES[name]
    network, example = architecture.network().double(), architecture.example
    inputs = torch.randn(80, *example.shape[1:], generator=stream("inputs"), dtype=torch.float64)
    if not example.is_floating_point():
        inputs = example.flatten()[torch.randint(example.numel(), inputs.shape, generator=stream("words"))]
    return network, inputs, trace(network, inputs[:2])


def planted_copies(name, count):
    network, inputs, spec = traced(name)
    original = faded(network)
    stack, planted = permuted_copies(original, spec, count)
    return Models(network, stack, tuple(range(count)), tuple(inputs.shape[1:])), original, planted


def search_by(search, models, name):
    _, inputs, spec = traced(name)
    split = Split(inputs, torch.zeros(len(inputs)))
    return search(models, spec, Data(split, split, classes=3), SETTINGS[search], stream("search")).elements


@pytest.mark.parametrize(("search", "name"), CASES)
def test_a_planted_permutation_is_found_on_every_architecture(search, name):
    network, inputs, spec = traced(name)
    models, original, planted = planted_copies(name, count=2)
    found = search_by(search, models, name)
    assert coincide(planted, found)
    average = mean(act_on_stack(models.parameters, spec, found))
    torch.testing.assert_close(outputs(network, average, inputs[:2]), outputs(network, original, inputs[:2]))
    if search is activation_matching:
        models, _, planted = planted_copies(name, count=3)
        assert coincide(planted, search_by(search, models, name))


def test_activations_that_no_layer_shows_are_refused_in_one_line_that_names_the_way_out():
    models, _, _ = planted_copies("attention", count=2)
    with pytest.raises(
        OnebasinError, match=r"encoder\.layers\.0\.self_attn\.in_proj_weight.*weight_matching"
    ) as caught:
        search_by(activation_matching, models, "attention")
    assert len(str(caught.value).splitlines()) == 1
