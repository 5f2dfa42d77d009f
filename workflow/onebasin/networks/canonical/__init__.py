"""Networks in canonical form: which networks have one, how they are brought into it, and that it computes the same."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from onebasin.errors import OnebasinError
from onebasin.networks.canonical.module import Canonical, Form
from onebasin.networks.canonical.weights import Ordinary
from onebasin.registry import entries, resolve

__all__ = ["Canonical", "Form", "canonical", "is_canonical"]


def canonical(network: nn.Module) -> Canonical:
    """The network in canonical form, of the same type and where it is; the values are computed in float64.

    Raises:
        OnebasinError: nobody has said how, or it has what the form has no place for; the message says what.
    """
    kind = type(network)
    known = entries("canonical")
    name = next((name for one in kind.__mro__ if (name := f"{one.__module__}:{one.__qualname__}") in known), None)
    if name is None:
        raise OnebasinError(
            f"{kind.__name__} has no canonical form that is known here; known are those of "
            f"{', '.join(entry['words'] for entry in known.values() if 'words' in entry)}; leave it ordinary"
        )
    describe: Callable[[Any], Ordinary] = resolve("canonical", name)
    with torch.no_grad():
        ordinary = describe(network)
        some = next(network.parameters())
        result = Canonical(ordinary.form).to(some.device, some.dtype)
        result.load_state_dict({key: tensor.to(some.dtype) for key, tensor in ordinary.values().items()})
    return result.train(network.training)


def is_canonical(network: nn.Module) -> bool:
    """Whether a network is in canonical form."""
    return isinstance(network, Canonical)
