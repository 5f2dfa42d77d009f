"""Networks that keep what they computed are refused by the place where they do, and only if it is used."""

import pytest
import torch
from networks_for_tests import stream
from torch import nn

import onebasin
from onebasin.errors import OnebasinError

EXAMPLE = torch.zeros(2, 6)


class Cached(nn.Module):
    """Gathers a table in every training pass, and once in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(6, generator=stream("table")))
        self.cache = {}
        self.kept = None

    def gathered(self):
        return 2 * self.table

    def forward(self, inputs):
        if self.training:
            return inputs + self.gathered()
        if "table" not in self.cache:
            self.cache["table"] = self.gathered()
        return inputs + self.cache["table"]


class CachedInAttribute(Cached):
    def forward(self, inputs):
        if self.kept is None or self.training:
            self.kept = self.gathered()
        return inputs + self.kept


class Logging(Cached):
    """Keeps what it saw last and does not use it."""

    def forward(self, inputs):
        self.kept = inputs + self.gathered()
        return self.kept


class WithTable(Cached):
    """Has a dictionary of constants from the beginning."""

    def __init__(self):
        super().__init__()
        self.cache = {"shift": torch.ones(6)}

    def forward(self, inputs):
        return inputs + self.cache["shift"] * self.gathered()


def network(middle):
    return nn.Sequential(middle(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def proven(built):
    return onebasin.symmetries(onebasin.stack_models([built, built], (6,)))


@pytest.mark.parametrize(("middle", "place"), [(Cached, "0.cache"), (CachedInAttribute, "0.kept")])
def test_what_remembers_is_refused_by_its_place(middle, place):
    with pytest.raises(OnebasinError, match=rf"Sequential remembers between calls: {place} keeps"):
        proven(network(middle))


def test_what_is_remembered_already_is_found_too():
    built = network(Cached).eval()
    with torch.no_grad():
        built(EXAMPLE)
    assert built[0].cache
    with pytest.raises(OnebasinError, match=r"0\.cache keeps"):
        proven(built)
    assert built[0].cache  # the network is left as it is


@pytest.mark.parametrize("middle", [Logging, WithTable])
def test_what_keeps_and_does_not_use_it_or_holds_constants_is_taken(middle):
    assert [group.size for group in proven(network(middle)).groups] == [8]
