"""A network from whatever names it: text with its settings, settings as in the configuration, or the module itself."""

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from onebasin.config.settings import network_settings, parse_named
from onebasin.errors import OnebasinError
from onebasin.networks.build import new_network
from onebasin.registry import resolve

Network = nn.Module | Mapping[str, Any] | str


def make_network(network: Network, input_shape: Sequence[int], classes: int | None = None) -> nn.Module:
    """The network for inputs `[n, *input_shape]`; its initial values are drawn from a stream of their own.

    Args:
        network: a module, of which a copy is returned; or settings with a `name`; or text: `mlp:width=512,depth=3`,
            `package.module:callable`, `torchvision.models:resnet18:num_classes=10`.
        classes: how many logits it gives, for a builder that asks.

    Raises:
        OnebasinError: there is no such network or setting, it cannot be built, or the number of classes is missing.
    """
    if isinstance(network, nn.Module):
        return copy.deepcopy(network)
    name, given = parse_named(network) if isinstance(network, str) else _apart(network)
    settings = network_settings(name, given)
    try:
        needs_classes = "classes" in inspect.signature(resolve("network", name)).parameters
        if classes is None and needs_classes:
            raise OnebasinError(f"network {name} has to know the number of classes; give it, or the data")
        built = new_network(settings, tuple(input_shape), classes or 0, "unused")
    except OnebasinError:
        raise
    except Exception as error:  # the user's program may fail in any way
        line = (str(error).splitlines() or [""])[0]
        raise OnebasinError(f"network {name} cannot be built: {type(error).__name__}: {line}") from error
    return built


def _apart(settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    given = dict(settings)
    return given.pop("name"), given
