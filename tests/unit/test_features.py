"""What layers take in and put out, against hooks on their modules."""

import pytest
import torch
from networks_for_tests import stream
from torch import nn
from torch.nn import functional as F

from onebasin import seeding
from onebasin.models.features import watch
from onebasin.models.running import forward
from onebasin.models.stack import initial

IMAGES = torch.randn(6, 3, 8, 8, generator=stream("images"))


@pytest.fixture
def network():
    with seeding.global_rng("features"):
        return nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 6, 3, groups=2, padding=1, padding_mode="circular"),
            nn.GroupNorm(2, 6),
            nn.ConvTranspose2d(6, 2, 3),
            nn.Flatten(2),
            nn.LayerNorm(64),
            nn.Linear(64, 5),
            nn.Flatten(),
            nn.Linear(10, 3, bias=False),
        ).eval()


def calls_of(network, images=IMAGES):
    found = []

    def see(call):
        found.append((call, call.input.clone(), call.output.clone()))

    with torch.no_grad():
        watch(network, initial(network), images, see)
    return found


def test_every_layer_with_a_weight_is_seen_once_with_what_its_module_takes_in_and_puts_out(network):
    seen, by_hooks = calls_of(network), {}
    for name, module in network.named_children():
        module.register_forward_hook(lambda _, given, out, name=name: by_hooks.update({name: (given[0], out.clone())}))
    with torch.no_grad():
        output = network(IMAGES)
    assert [call.layer for call, *_ in seen] == ["0", "1", "3", "4", "5", "7", "8", "10"]
    for call, given, out in seen:
        assert call.name == f"{call.layer}.weight"
        assert torch.equal(out, by_hooks[call.layer][1])
        if call.layer not in ("1", "3"):  # padded before the convolution; overwritten in place
            assert torch.equal(given, by_hooks[call.layer][0])
    assert torch.equal(seen[-1][2], output)


def test_channels_become_rows_and_places_samples(network):
    rows = {call.layer: call.by_channel(out).shape for call, _, out in calls_of(network)}
    channels = {"0": 4, "1": 4, "3": 6, "4": 6, "5": 2, "7": 64, "8": 5, "10": 3}
    assert {layer: shape[0] for layer, shape in rows.items()} == channels
    assert rows["0"] == rows["1"] == (4, 6 * 36)
    assert rows["8"] == (5, 6 * 2)


def test_watching_computes_what_the_model_computes_and_leaves_no_hooks(network):
    with torch.no_grad():
        assert torch.equal(
            watch(network, initial(network), IMAGES, lambda call: None), forward(network, initial(network), IMAGES)
        )
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_what_is_given_in_the_place_of_an_output_is_what_the_network_goes_on_with(network):
    middle = torch.randn(6, 2, 5, generator=stream("middle"))
    with torch.no_grad():
        found = watch(network, initial(network), IMAGES, lambda call: middle if call.layer == "8" else None)
        assert torch.equal(found, network[9:](middle))


def test_a_layer_computes_with_another_weight_and_no_bias(network):
    for call, given, _ in calls_of(network):
        if call.layer == "0":
            other = torch.randn(7, 3, 3, 3, generator=stream("other"))
            torch.testing.assert_close(call.with_weight(other), F.conv2d(given, other))
        if call.layer == "10":
            other = torch.randn(2, 10, generator=stream("other"))
            torch.testing.assert_close(call.with_weight(other), given @ other.T)


class ByNames(nn.Module):
    """Calls torch's function with named arguments, on a weight that belongs to no module of its own."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(4, 3))
        self.shift = nn.Parameter(torch.ones(4))

    def forward(self, images):
        return F.linear(input=images, weight=self.gain, bias=self.shift)


def test_a_function_called_with_named_arguments_is_seen():
    given = torch.rand(5, 3, generator=stream("given"))
    ((call, seen, _),) = calls_of(ByNames(), given)
    assert (call.layer, call.name) == ("", "gain")
    assert torch.equal(seen, given)
    torch.testing.assert_close(call.with_weight(torch.eye(3)), given)
