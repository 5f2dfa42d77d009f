"""Running one model: its outputs for inputs or for a whole split, and what it is worth there."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from onebasin.data import Split
from onebasin.errors import OnebasinError
from onebasin.inputs import Inputs, arguments_of, in_type_of, tensors_of
from onebasin.machine.matmul import fast_linear
from onebasin.machine.modes import mode
from onebasin.models.objective import objective_named
from onebasin.parameters import Parameters

SPLITS = ("train", "test")
# Input values a forward pass: 170 images of CIFAR-10's shape, whose activations caches hold. ResNet20 x0.5 took 1.8
# times as long for all images at once. No result depends on it beyond rounding.
VALUES = 2**19
TOKENS = 2**13  # the same for tokens, each of which becomes a vector


def forward(
    network: nn.Module, parameters: Parameters, inputs: Inputs, *, training: bool | Collection[nn.Module] = False
) -> Any:
    """What the network gives with the given parameters.

    Args:
        training: whether the network is in training mode, or which of its modules are; it is left as it was. Layers
            that then draw random numbers draw from torch's global generator (`seeding.drawing_from`).
    """
    arguments, named = arguments_of(in_type_of(inputs, parameters))
    with mode(network, training), fast_linear():
        # tied names bring one value each
        return functional_call(network, parameters, arguments, named, tie_weights=False)


@contextmanager
def refusing_small_batches(size: int) -> Iterator[None]:
    """Let norms that find too little in a batch to have statistics say so in a line: an epoch may end with a single
    sample."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise OnebasinError(
            f"a batch of {size} is too small for the network's norms ({error}); choose a batch that leaves no such rest"
        ) from None


@torch.no_grad()
def outputs(network: nn.Module, parameters: Parameters, split: Split) -> Any:
    """The outputs of one model on a whole split."""
    tensors = tensors_of(split.inputs)
    values = VALUES if all(tensor.is_floating_point() for tensor in tensors) else TOKENS
    size = max(1, values // max(math.prod(tensor.shape[1:]) for tensor in tensors))
    return joined([forward(network, parameters, inputs) for inputs in split.inputs.split(size)])


def joined(batches: Sequence[Any]) -> Any:
    """What a network gives for consecutive batches, as it would for all of them.

    Raises:
        OnebasinError: outputs that cannot be put together: neither tensors `[n, ...]`, nor the same in every batch.
    """
    if len(batches) == 1:
        return batches[0]

    def together(*parts: Any) -> Any:
        if all(isinstance(part, Tensor) and part.dim() for part in parts):
            return torch.cat(parts)
        if type(parts[0]) in (type(None), bool, int, float, str) and all(part == parts[0] for part in parts):
            return parts[0]
        kind = "a number a batch" if isinstance(parts[0], Tensor) else type(parts[0]).__name__
        raise OnebasinError(
            f"the network gives {kind} beside or around its outputs, which cannot be put together for many batches; "
            f"wrap it in a module that gives tensors [n, ...], or dictionaries or tuples of them"
        )

    return pytree.tree_map(together, *batches)


def predictions(network: nn.Module, parameters: Parameters, split: Split) -> Any:
    """What the split's objective makes of the outputs of one model: log-probabilities, of a cross-entropy."""
    return objective_named(split.objective).predictions(outputs(network, parameters, split))


def measure(network: nn.Module, parameters: Parameters, split: Split) -> tuple[float, float]:
    """Loss and accuracy of one model on a split."""
    return objective_named(split.objective).score(predictions(network, parameters, split), split.targets)


def measure_many(network: nn.Module, many: Iterable[Parameters], split: Split) -> list[tuple[float, float]]:
    """Loss and accuracy of several models on one split.

    One after the other: every product is large enough to fill the machine, and a batched product over a stack took
    2.5 times as long for eleven MLPs of width 512 on a CPU.
    """
    return [measure(network, parameters, split) for parameters in many]
