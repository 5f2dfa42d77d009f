"""A network and a permuted copy of it: weight matching brings them into one order, whatever the architecture."""

import pytest
import torch
from architectures_for_tests import ARCHITECTURES
from networks_for_tests import coincide, permuted_copies, stream
from torch.func import functional_call

from onebasin.matching.weight import weight_matching
from onebasin.models import Models, mean
from onebasin.symmetry.apply import permute_stack
from onebasin.symmetry.trace import trace

SETTINGS = {"max_rounds": 20, "first_sweep": "signal"}


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


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_planted_permutation_is_found_on_every_architecture(name):
    architecture = ARCHITECTURES[name]
    network, example = architecture.network().double(), architecture.example
    inputs = torch.randn(example.shape, generator=stream("inputs")).double() if example.is_floating_point() else example
    spec, original = trace(network, inputs), faded(network)
    stack, planted = permuted_copies(original, spec, count=2)
    models = Models(network, stack, (0, 1), tuple(example.shape[1:]))
    found = weight_matching(models, spec, None, SETTINGS, stream("search")).indices
    assert coincide(planted, found)
    average = mean(permute_stack(stack, spec, found))
    torch.testing.assert_close(outputs(network, average, inputs), outputs(network, original, inputs))
