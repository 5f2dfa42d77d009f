"""How much of a network moves, against counts by hand."""

import pytest
import torch
from architectures_for_tests import Lambda, parameter, tied_names
from click.testing import CliRunner
from torch import nn
from torch.nn import functional as F

from onebasin.command import main
from onebasin.networks.mlp import mlp
from onebasin.symmetry.spec import Axis, Group, Spec
from onebasin.symmetry.summary import moving_share
from onebasin.symmetry.trace import trace


def convolutional():
    """Padded images [3, 4, 4] and their flattened pixels."""
    layers = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 16, 2)
    return nn.Sequential(*layers)


def concatenated():
    """Four inputs are joined by six hidden units of them, and go along to the logits."""
    return Lambda(
        lambda net, x: net.out(torch.cat([x, F.relu(net.hidden(x))], dim=1)),
        hidden=nn.Linear(4, 6),
        out=nn.Linear(10, 3),
    )


def beside_one_that_is_not_used():
    return Lambda(
        lambda net, x: net.out(F.relu(net.hidden(x))), hidden=nn.Linear(4, 6), out=nn.Linear(6, 3), idle=parameter(7)
    )


NETWORKS = {
    # layers 6 -> 5 -> 5 -> 4: all weights and two of three biases move
    "MLP": (lambda: mlp((1, 2, 3), classes=4, width=5, depth=2), (1, 2, 3), 30 + 5 + 25 + 5 + 20, 4),
    # convolution, norm and the linear layer's weight, but not its bias; running statistics are no parameters
    "convolutions": (convolutional, (3, 4, 4), 135 + 5 + 10 + 160, 2),
    # 7 -> 6, one 6 x 6 weight in two layers, each with a bias, and 6 -> 3
    "tied": (tied_names, (7,), 42 + 6 + 36 + 6 + 6 + 18, 3),
    # of the last weight [3, 10] the columns of the hidden units
    "concatenated": (concatenated, (4,), 24 + 6 + 18, 12 + 3),
    "idle": (beside_one_that_is_not_used, (4,), 24 + 6 + 18, 3 + 7),
    "one layer": (lambda: nn.Linear(4, 3), (4,), 0, 15),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_share_is_that_of_the_numbers_counted_by_hand(name):
    build, shape, moving, staying = NETWORKS[name]
    network = build()
    assert moving_share(network, trace(network, torch.zeros(2, *shape))) == moving / (moving + staying)


def test_places_that_move_along_two_axes_are_counted_once():
    network = nn.Linear(4, 6, bias=False)  # [6, 4]: rows 1 to 4 move in blocks of two, and the last two columns
    axes = (Axis("weight", 0, offset=1, inner=2), Axis("weight", 1, offset=2))
    assert moving_share(network, Spec((Group("g", 2, axes),))) == 1 - 2 * 2 / 24


def test_parts_of_one_axis_add_up():
    network = nn.Linear(3, 8, bias=False)
    first, rounds = Group("first", 2, (Axis("weight", 0),)), Group("rounds", 2, (Axis("weight", 0, offset=3, outer=2),))
    assert moving_share(network, Spec((first, rounds))) == (2 + 4) / 8


def test_of_nothing_nothing_moves():
    assert moving_share(nn.ReLU(), Spec(())) == 0


def test_both_commands_end_with_the_summary_and_keep_long_lists_for_who_asks():
    arguments = ["mlp:width=8,depth=2", "--input", "1,2,2"]
    traced, checked = (CliRunner().invoke(main, [name, *arguments]).stdout.splitlines() for name in ("trace", "check"))
    assert traced[-1] == checked[-1]
    assert "2 groups, 16 units, " in traced[-1]
    assert "largest change of an output, relative: " in traced[-1]
    assert traced[-1].endswith("(in float64)")
    assert not any("1.weight[0]" in line for line in (*traced, *checked))
    for name in ("trace", "check"):
        long = CliRunner().invoke(main, [name, *arguments, "--verbose"]).stdout
        assert "1.weight[0], 1.bias[0], 3.weight[1]" in long
