"""Networks that cast to float32 on their way are held to its accuracy; a wrong axis is found all the same."""

import logging
from dataclasses import replace

import pytest
import torch
from networks_for_tests import stream
from torch import nn

from onebasin import seeding
from onebasin.errors import OnebasinError
from onebasin.symmetry.check import check
from onebasin.symmetry.spec import Axis, Spec
from onebasin.symmetry.trace import trace

EXAMPLE = torch.zeros(2, 6)


class Norm(nn.Module):
    """Divides by the root mean square, which is computed in float32, as Llama does."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(8))

    def forward(self, inputs):
        wide = inputs.float()
        return self.gain * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)).to(inputs.dtype)


class Softmax(nn.Module):
    def forward(self, inputs):
        return torch.softmax(inputs, dim=-1, dtype=torch.float32).to(inputs.dtype)


class Cast(nn.Module):
    """Asks for float32 behind it, as who casts the input does; so it does not run in float64 at all."""

    def forward(self, inputs):
        return torch.relu(inputs.float())


def network(middle):
    with seeding.global_rng("float32"):
        return nn.Sequential(nn.Linear(6, 8), middle(), nn.Linear(8, 3)).eval()


@pytest.mark.parametrize("middle", [Norm, Softmax, Cast])
def test_they_are_accepted_at_its_accuracy_and_that_is_said(middle, caplog):
    built = network(middle)
    with caplog.at_level(logging.INFO):
        change = check(built, trace(built, EXAMPLE), EXAMPLE, stream("check"))
    assert change < 1e-5
    assert "computes in float32 on its way; checked to 1e-05" in caplog.text


@pytest.mark.parametrize("middle", [Norm, Softmax, Cast])
def test_a_wrong_axis_is_found_all_the_same(middle):
    built = network(middle)
    spec = trace(built, EXAMPLE)
    [group] = spec.groups
    wrong = replace(group, axes=tuple(axis for axis in group.axes if axis != Axis("0.bias", 0)))
    with pytest.raises(OnebasinError, match="permuting changes the function"):
        check(built, Spec((wrong,)), EXAMPLE, stream("check"))
