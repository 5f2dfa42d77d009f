"""Data that no measure could be right about are refused in one line."""

import pytest
import torch
from torch import nn

import onebasin
from onebasin.data import Data, Split
from onebasin.errors import OnebasinError

INPUTS = torch.linspace(-1, 1, 24).view(6, 4)
TARGETS = torch.tensor([0, 1, 2, 0, 1, 2])
SOUND = Split(INPUTS, TARGETS)


def with_nan():
    inputs = INPUTS.clone()
    inputs[3, 1] = torch.nan
    inputs[5, 0] = torch.inf
    return inputs


@pytest.fixture(scope="module")
def networks():
    return onebasin.stack_models([nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)) for _ in range(2)], (4,))


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (Split(INPUTS, TARGETS.int()), "test targets are torch.int32"),
        (Split(INPUTS, TARGETS.float()), "test targets are torch.float32"),
        (Split(INPUTS, torch.nn.functional.one_hot(TARGETS).float()), "test targets are torch.float32"),
        (Split(INPUTS, TARGETS + 1), "a test target is 3, and 3 classes are 0 to 2"),
        (Split(INPUTS, TARGETS - 1), "a test target is -1"),
        (Split(with_nan(), TARGETS), "2 test inputs hold NaN or infinity, the first of them number 3"),
    ],
)
def test_unsound_data_are_refused_in_one_line(networks, wrong, line):
    with pytest.raises(OnebasinError, match=line) as refused:
        onebasin.evaluate(networks, networks[0], Data(SOUND, wrong, 3))
    assert "\n" not in str(refused.value)


def test_sound_data_are_taken(networks):
    assert onebasin.evaluate(networks, networks[0], Data(SOUND, SOUND, 3))["loss"].notna().all()
