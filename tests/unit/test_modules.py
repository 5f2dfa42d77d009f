"""Modules in states that people bring: what has no values, or other values than its state dict says, is refused."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import onebasin
from onebasin.data import Data, Split
from onebasin.errors import OnebasinError


def mlp(*middle):
    return nn.Sequential(nn.Linear(6, 8), *middle, nn.ReLU(), nn.Linear(8, 3))


def lazy():
    return nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, 3))


def without_values():
    with torch.device("meta"):
        return mlp()


def pruned():
    network = mlp()
    prune.l1_unstructured(network[0], "weight", 0.5)
    return network


class Beside(nn.Module):
    """Scales by numbers that no state dict has."""

    def __init__(self, numbers=None):
        super().__init__()
        numbers = torch.randn(8) if numbers is None else numbers
        self.register_buffer("numbers", numbers, persistent=False)

    def forward(self, inputs):
        return inputs * self.numbers


class Scaled(nn.Module):
    """Scales by a number of its own, which is no tensor."""

    def __init__(self):
        super().__init__()
        self.factor = float(torch.rand(()))

    def forward(self, inputs):
        return self.factor * inputs


class Watched(nn.Linear):
    """Keeps what it saw last, and has no use for it."""

    def forward(self, inputs):
        self.last = inputs.detach().clone()
        return super().forward(inputs)


class Noise(nn.Module):
    """Draws in evaluation mode, too."""

    def forward(self, inputs):
        return inputs + torch.rand_like(inputs)


def through(build):
    models = onebasin.stack_models([build() for _ in range(2)], (6,))
    spec = onebasin.symmetries(models)
    return models, onebasin.merge(models, spec, onebasin.match(models, spec))


@pytest.mark.parametrize(
    ("build", "line"),
    [
        (lazy, "0.weight has no values yet; run the network once"),
        (without_values, "0.weight has no values yet"),
        (pruned, "0 is pruned by a mask, and an average of masked weights is not one"),
        (lambda: mlp(Beside()), r"model 1 differs from model 0 in what is not in its state dict \(1.numbers\)"),
        (lambda: mlp(Scaled()), "model 1 differs from model 0 in what is not in its state dict, so that"),
        (lambda: mlp(Noise()), "it draws random numbers in evaluation mode"),
        (nn.Flatten, "Flatten has no parameters"),
        (lambda: "mlp", "models are nn.Modules, not str"),
        (lambda: torch.jit.script(mlp()), "RecursiveScriptModule cannot be traced"),
    ],
)
def test_what_cannot_be_merged_is_refused_in_one_line(build, line):
    with pytest.raises(OnebasinError, match=line) as caught:
        through(build)
    assert len(str(caught.value).splitlines()) == 1


def test_what_wraps_a_module_is_taken_off():
    models, merged = through(lambda: nn.DataParallel(mlp()))
    assert merged.keys() == models.network.state_dict().keys() == mlp().state_dict().keys()


def test_what_is_kept_and_not_used_does_no_harm():
    networks = [nn.Sequential(Watched(6, 8), nn.ReLU(), nn.Linear(8, 3)) for _ in range(2)]
    for network in networks:
        network(torch.randn(4, 6))
    models = onebasin.stack_models(networks, (6,))
    assert len(onebasin.symmetries(models).groups) == 1


def test_numbers_beside_the_state_dict_may_be_there_if_they_are_alike():
    numbers = torch.rand(8)
    _, merged = through(lambda: nn.Sequential(mlp(), Beside(numbers[:3]), nn.Linear(3, 2)))
    assert "1.numbers" not in merged


@pytest.mark.parametrize("shape", ["6", ("6",), (0,), 2.5, {"inputs": "6"}])
def test_what_is_no_shape_is_refused(shape):
    with pytest.raises(OnebasinError, match="no shape; give the sizes of one input"):
        onebasin.stack_models([mlp()], shape)


def test_what_are_no_data_is_refused():
    models, merged = through(mlp)
    split = Split(torch.randn(4, 6), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(OnebasinError, match="data: a tuple; load_data gives Data"):
        onebasin.evaluate(models, merged, (split, split))
    with pytest.raises(OnebasinError, match="there are no test samples"):
        onebasin.evaluate(models, merged, Data(split, split.first(0), 3))
