"""The one constructor of networks: by name, with settings, from a stream of its own."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from onebasin import seeding
from onebasin.errors import OnebasinError
from onebasin.inputs import Shape
from onebasin.machine.channels_last import prefer_channels_last
from onebasin.networks.canonical import canonical
from onebasin.registry import resolve

FORM, ORDINARY, CANONICAL = "form", "ordinary", "canonical"  # a setting of every network, and what it may be


def new_network(settings: Mapping[str, Any], input_shape: Shape, classes: int | None, *key: int | str) -> nn.Module:
    """The network named by `settings["name"]`, made with the other settings as arguments.

    A builder returns a module from inputs `[n, *input_shape]` to logits `[n, classes]`, or `[n, classes, positions]`
    where every position has a target. It is given `input_shape` (of images `(c, h, w)`) and `classes` if it has
    parameters of these names: constructors of other libraries have none.

    Args:
        key: names the stream that initial parameters are drawn from.

    Raises:
        OnebasinError: there is no such network, it cannot be built, what it returns is no `nn.Module`, or it asks for
            the number of classes, which is None or 0, and has no default of its own.
    """
    arguments = dict(settings)
    name = arguments.pop("name")
    arguments.pop(FORM, None)
    try:
        builder = resolve("network", name)
        taken = inspect.signature(builder).parameters
        if not classes and "classes" in taken and taken["classes"].default is inspect.Parameter.empty:
            raise OnebasinError(f"network {name} has to know the number of classes; give it, or the data")
        known = {"input_shape": input_shape} | ({"classes": classes} if classes else {})
        with seeding.global_rng(*key):
            network = builder(**{word: value for word, value in known.items() if word in taken}, **arguments)
    except OnebasinError:
        raise
    except Exception as error:  # the user's program may fail in any way
        line = (str(error).splitlines() or [""])[0]
        raise OnebasinError(f"network {name} cannot be built: {type(error).__name__}: {line}") from error
    if not isinstance(network, nn.Module):
        raise OnebasinError(f"network {name} is a {type(network).__name__}; its callable has to return an nn.Module")
    if isinstance(input_shape, tuple):
        prefer_channels_last(network, input_shape)
    return network


def matched_network(settings: Mapping[str, Any], input_shape: Shape, classes: int | None, *key: int | str) -> nn.Module:
    """The network as its models are matched and merged: in canonical form, if the settings say so (`form`); else as
    `new_network`, whose arguments and errors these are."""
    network = new_network(settings, input_shape, classes, *key)
    return canonical(network) if is_canonical_form(settings) else network


def is_canonical_form(settings: Mapping[str, Any]) -> bool:
    """Whether models of a network of these settings are brought into canonical form after training.

    Raises:
        OnebasinError: there is no such form.
    """
    form = settings.get(FORM, ORDINARY)
    if form not in (ORDINARY, CANONICAL):
        raise OnebasinError(f"network: form: '{form}' is unknown; allowed: {ORDINARY}, {CANONICAL}")
    return bool(form == CANONICAL)
