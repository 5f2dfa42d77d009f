"""Networks with complex parameters: averaged like all others; units are matched where none of their weights is."""

import pytest
import torch
from torch import nn

import onebasin
from onebasin.errors import OnebasinError


class Shifted(nn.Module):
    """A real network with complex gains, an array of its own a unit."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 3)
        self.gains = nn.Parameter(torch.randn(4, dtype=torch.cfloat))

    def forward(self, inputs):
        return self.last(torch.relu(self.first(inputs))) + 0 * self.gains.abs().sum()


@pytest.fixture(scope="module")
def models():
    return onebasin.stack_models([Shifted() for _ in range(2)], (5,))


def test_complex_weights_are_averaged(models):
    spec = onebasin.symmetries(models)
    merged = onebasin.merge(models, spec, onebasin.match(models, spec, "naive"))
    torch.testing.assert_close(merged["gains"], models.parameters["gains"].mean(dim=0))
    assert not torch.equal(merged["gains"].imag, models[0]["gains"].imag)


def test_units_with_complex_weights_are_not_matched_by_them(models):
    with pytest.raises(OnebasinError, match="gains is complex"):
        onebasin.match(models, onebasin.symmetries(models), "weight_matching")
