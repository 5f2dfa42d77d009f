"""Recurrent layers: every layer and direction has units of its own, though they begin from one constant state."""

import pytest
import torch
from networks_for_tests import stream
from torch import nn

import onebasin
from onebasin import seeding
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.apply import random_elements

WIDTH = 6


class Recurrent(nn.Module):
    def __init__(self, kind, layers, both):
        super().__init__()
        self.layers = kind(5, WIDTH, num_layers=layers, bidirectional=both, batch_first=True)
        self.head = nn.Linear(WIDTH * (1 + both), 3)

    def forward(self, inputs):
        return self.head(self.layers(inputs)[0].mean(dim=1))


def network(kind, layers, both):
    with seeding.global_rng("recurrent"):
        return Recurrent(kind, layers, both).eval()


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_a_permuted_copy_is_merged_to_itself(kind, layers, both):
    own = network(kind, layers, both)
    models = onebasin.stack_models([own, own], (4, 5))
    spec = onebasin.symmetries(models)
    assert [group.size for group in spec.groups] == [WIDTH] * layers * (1 + both)
    elements = random_elements(spec, 2, stream("recurrent", kind.__name__, layers, both))
    moved = onebasin.permute(models, spec, Alignment(elements))
    found = onebasin.match(moved, spec, "weight_matching")
    merged = onebasin.merge(moved, spec, found)
    for name, tensor in onebasin.permute(moved, spec, found)[0].items():
        torch.testing.assert_close(merged[name], tensor)
