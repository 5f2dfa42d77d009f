"""How much of a network moves, against counts by hand."""

import torch
from click.testing import CliRunner
from torch import nn

import onebasin
from onebasin.command import main
from onebasin.symmetry.summary import moving_share


def share(network, shape):
    return moving_share(network, onebasin.trace(network, shape))


def test_of_an_mlp_all_but_the_last_bias_moves():
    network = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    assert share(network, (4,)) == (24 + 6 + 18) / (24 + 6 + 18 + 3)


def test_nothing_moves_in_one_layer():
    assert share(nn.Linear(4, 6), (4,)) == 0


def test_units_behind_a_flatten_count_with_all_their_places():
    network = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten(), nn.Linear(8, 3))
    assert share(network, (1, 3, 3)) == (8 + 2 + 24) / (8 + 2 + 24 + 3)


class Concatenated(nn.Module):
    """Half of what the last layer reads is the input itself."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 5), nn.Linear(8, 2)

    def forward(self, x):
        return self.b(torch.cat([x, torch.relu(self.a(x))], dim=1))


def test_places_of_an_axis_that_stay_do_not_count():
    assert share(Concatenated(), (3,)) == (15 + 5 + 2 * 5) / (15 + 5 + 16 + 2)


def test_a_tied_parameter_counts_once():
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    network[2].weight = network[0].weight
    assert 0 <= share(network, (4,)) <= 1


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
