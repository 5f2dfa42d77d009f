"""A network from whatever names it: text with its settings, settings as in the configuration, or the module itself."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from onebasin.config.settings import network_settings, parse_named
from onebasin.inputs import Shape
from onebasin.networks.build import new_network
from onebasin.networks.copies import copied

Network = nn.Module | Mapping[str, Any] | str


def make_network(network: Network, input_shape: Shape, classes: int | None = None) -> nn.Module:
    """The network for inputs `[n, *input_shape]`; its initial values are drawn from a stream of their own.

    Args:
        network: a module, of which a copy is returned; or settings with a `name`; or text: `mlp:width=512,depth=3`,
            `package.module:callable`, `torchvision.models:resnet18:num_classes=10`.
        classes: how many logits it gives, for a builder that asks.

    Raises:
        OnebasinError: there is no such network or setting, it cannot be built, or the number of classes is missing.
    """
    if isinstance(network, nn.Module):
        return copied(network)
    name, given = parse_named(network) if isinstance(network, str) else (network["name"], network)
    return new_network(network_settings(name, given), input_shape, classes, "unused")
