import pytest
import torch
from networks_for_tests import stream
from torch import nn

from onebasin import seeding
from onebasin.machine.channels_last import prefer_channels_last
from onebasin.networks.build import new_network
from onebasin.symmetry.trace import trace

SHAPE = (3, 8, 8)
IMAGES = torch.randn(5, *SHAPE, generator=stream("layouts"))
RESNET = {"name": "resnet20", "width": 0.25}


class Views(nn.Module):
    """It wants its features contiguous, as much code does."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4 * 36, 2)

    def forward(self, images):
        return self.head(self.conv(images).view(len(images), -1))


def layouts_seen(network):
    """Whether each convolution is given channels last in a forward pass."""
    seen = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(
                lambda _, inputs: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
            )
    with torch.no_grad():
        network(IMAGES)
    return seen


def test_every_convolution_of_a_built_in_network_gets_channels_last():
    network = new_network(RESNET, SHAPE, 4, "layouts")
    seen = layouts_seen(network)
    assert len(seen) == 21
    assert all(seen)


def test_the_layout_changes_nothing_but_rounding():
    with seeding.global_rng("layouts"):
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2))
    before = network(IMAGES)
    prefer_channels_last(network, SHAPE)
    torch.testing.assert_close(network(IMAGES), before)


@pytest.mark.parametrize("build", [Views, lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 2))])
def test_a_network_that_cannot_or_need_not_is_left_as_it_is(build):
    with seeding.global_rng("layouts"):
        network = build()
    before = network(IMAGES)
    prefer_channels_last(network, SHAPE)
    assert not any(layouts_seen(network))
    assert torch.equal(network(IMAGES), before)


def test_trying_changes_neither_mode_nor_statistics():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    network[2].eval()
    prefer_channels_last(network, SHAPE)
    assert [layer.training for layer in network.modules()] == [True, True, True, False]
    assert network[1].num_batches_tracked == 0


def test_the_symmetries_are_those_of_the_network_without_it():
    network = new_network(RESNET, SHAPE, 4, "layouts")
    found = trace(network, torch.zeros(2, *SHAPE))
    network._forward_pre_hooks.clear()
    assert found == trace(network, torch.zeros(2, *SHAPE))
    assert len(found.groups) == 12
