"""Inputs that a network takes, made of a shape, and of what type they are where nobody says it."""

import inspect
import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from onebasin.errors import OnebasinError
from onebasin.inputs import Inputs, Named, Shape, Type, arguments_of, number_type, types_for
from onebasin.networks.copies import copy_sharing_tensors

logger = logging.getLogger(__name__)


def example_for(network: nn.Module, shape: Shape, kind: Type, device: torch.device | str) -> Inputs:
    """A batch of two: zeros, True of masks, or tokens in turn, as many different ones as each embedding has.

    A proof that something leaves the function as it is wants different tokens (`symmetry.check` draws from these).

    Raises:
        OnebasinError: the network takes several inputs, and one shape is given.
    """
    if not isinstance(shape, dict):
        _require_one(network)
        assert not isinstance(kind, dict)
        return _example(network, shape, kind, device)
    kinds = types_for(shape, kind)
    assert isinstance(kinds, dict)
    return Named({name: _example(network, own, kinds[name], device) for name, own in shape.items()})


def type_taken(network: nn.Module, shape: Shape, device: torch.device | str) -> Type:
    """The type of the inputs where nobody says it: float32, or int64 where a network with embeddings runs on that
    alone."""
    if not any(isinstance(layer, nn.Embedding) for layer in network.modules()):
        return torch.float32
    if not _runs(network, shape, torch.float32, device) and _runs(network, shape, torch.int64, device):
        logger.info("%s takes tokens, as it does not run on numbers", type(network).__name__)
        return torch.int64
    return torch.float32


@torch.no_grad()
def _runs(network: nn.Module, shape: Shape, kind: Type, device: torch.device | str) -> bool:
    arguments, named = arguments_of(example_for(network, shape, kind, device))
    try:
        copy_sharing_tensors(network, training=False)(*arguments, **named)
    except Exception:  # the user's network may refuse in any way
        return False
    return True


def _require_one(network: nn.Module) -> None:
    try:
        parameters = inspect.signature(network.forward).parameters
    except ValueError:  # it is no function of Python
        return
    needed = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) > 1:
        kind, every = type(network).__name__, " ".join(f"--input {name}=SIZES" for name in needed)
        raise OnebasinError(
            f"{kind} takes the inputs {', '.join(needed)}; give the shape of each by its name ({every}; in Python a "
            f"dictionary)"
        )


def _example(network: nn.Module, shape: Sequence[int], kind: torch.dtype, device: torch.device | str) -> Tensor:
    if kind == torch.bool:
        return torch.ones(2, *shape, dtype=kind, device=device)
    if kind.is_floating_point:
        kind = number_type(network.parameters()) or kind
    zeros = torch.zeros(2, *shape, dtype=kind, device=device)
    known = [layer.num_embeddings for layer in network.modules() if isinstance(layer, nn.Embedding)]
    if kind.is_floating_point or not known:
        return zeros
    return torch.arange(zeros.numel(), dtype=kind, device=device).remainder_(min(known)).view_as(zeros)
