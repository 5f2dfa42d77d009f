"""The one constructor of networks: by name, with settings, from a stream of its own."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from onebasin import seeding
from onebasin.errors import OnebasinError
from onebasin.machine.channels_last import prefer_channels_last
from onebasin.registry import resolve


def new_network(settings: Mapping[str, Any], input_shape: tuple[int, ...], classes: int, *key: int | str) -> nn.Module:
    """A network whose initial parameters are drawn from the stream named by `key`."""
    with seeding.global_rng(*key):
        network = build_network(settings, input_shape, classes)
    prefer_channels_last(network, input_shape)
    return network


def build_network(settings: Mapping[str, Any], input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network named by `settings["name"]`, made with the other settings as arguments.

    A builder returns a module from inputs `[n, *input_shape]` to logits `[n, classes]`, or `[n, classes, positions]`
    where every position has a target. It is given `input_shape` (of images `(c, h, w)`) and `classes` if it has
    parameters of these names: constructors of other libraries have none. Initial parameters come from torch's global
    generator, as every `nn.Module`'s do.

    Raises:
        OnebasinError: there is no such network, or what it returns is no `nn.Module`.
    """
    arguments = dict(settings)
    name = arguments.pop("name")
    builder = resolve("network", name)
    known = {"input_shape": input_shape, "classes": classes}
    taken = inspect.signature(builder).parameters
    built = builder(**{key: value for key, value in known.items() if key in taken}, **arguments)
    if not isinstance(built, nn.Module):
        raise OnebasinError(f"network {name} is a {type(built).__name__}; its callable has to return an nn.Module")
    return built
