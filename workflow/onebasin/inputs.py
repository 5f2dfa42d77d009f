"""What a network takes in: one tensor, or several by keyword; their shapes and types, and the call.

One input has a shape `(c, h, w)` and a type; several have these by name, as `{"input_ids": (16,), "mask": (16,)}`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from onebasin.errors import OnebasinError

Shape = tuple[int, ...] | dict[str, tuple[int, ...]]
Type = torch.dtype | dict[str, torch.dtype]


@dataclass(frozen=True)
class Named:
    """Several inputs of a network by keyword, each `[n, ...]`; they are cut, chosen from and moved as one tensor is."""

    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, chosen: Any) -> "Named":
        return self.each(lambda tensor: tensor[chosen])

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return next(iter(self.tensors.values())).device

    def to(self, device: torch.device | str) -> "Named":
        """The same on a device."""
        return self.each(lambda tensor: tensor.to(device))

    def split(self, size: int) -> "list[Named]":
        """Pieces of `size` samples, as `Tensor.split`."""
        return [self[start : start + size] for start in range(0, len(self), size)]

    def tensor_split(self, pieces: int) -> "list[Named]":
        """So many pieces, as even as they can be, as `Tensor.tensor_split`."""
        cut = [tensor.tensor_split(pieces) for tensor in self.tensors.values()]
        return [Named(dict(zip(self.tensors, piece, strict=True))) for piece in zip(*cut, strict=True)]

    def each(self, change: Callable[[Tensor], Tensor]) -> "Named":
        """All of them, changed."""
        return Named({name: change(tensor) for name, tensor in self.tensors.items()})


Inputs = Tensor | Named
AnyInputs = TypeVar("AnyInputs", Tensor, Named, Inputs)


def tensors_of(inputs: Inputs) -> list[Tensor]:
    """The tensors of one or several inputs."""
    return [inputs] if isinstance(inputs, Tensor) else list(inputs.tensors.values())


def map_inputs(change: Callable[[Tensor], Tensor], inputs: AnyInputs) -> AnyInputs:
    """One or several inputs, each changed."""
    return change(inputs) if isinstance(inputs, Tensor) else inputs.each(change)


def shape_of(inputs: Inputs) -> Shape:
    """The shape of one sample of a batch."""
    if isinstance(inputs, Tensor):
        return tuple(inputs.shape[1:])
    return {name: tuple(tensor.shape[1:]) for name, tensor in inputs.tensors.items()}


def type_of(inputs: Inputs) -> Type:
    """The type of a batch."""
    return inputs.dtype if isinstance(inputs, Tensor) else {name: t.dtype for name, t in inputs.tensors.items()}


def as_shape(given: Sequence[int] | Mapping[str, Sequence[int]]) -> Shape:
    """A shape, from whatever names one: lists, as files hold them, too.

    Raises:
        OnebasinError: it is none.
    """
    if isinstance(given, Mapping):
        return {name: _sizes(sizes) for name, sizes in given.items()}
    return _sizes(given)


def _sizes(given: Any) -> tuple[int, ...]:
    sizes = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    if all(type(size) is int and size > 0 for size in sizes):
        return sizes
    raise OnebasinError(f"input shape {given!r}: no shape; give the sizes of one input, as in (3, 32, 32)")


def type_text(kind: Type) -> str | dict[str, str]:
    """The names of types as files hold them: `int64`."""
    if isinstance(kind, dict):
        return {name: str(own).removeprefix("torch.") for name, own in kind.items()}
    return str(kind).removeprefix("torch.")


def as_type(given: Any) -> Type | None:
    """The types of these names; None if there is one that is no type."""
    if isinstance(given, Mapping):
        known = {name: as_type(own) for name, own in given.items()}
        found = {name: own for name, own in known.items() if isinstance(own, torch.dtype)}
        return found if len(found) == len(known) else None
    kind = getattr(torch, given, None) if isinstance(given, str) else None
    return kind if isinstance(kind, torch.dtype) else None


def types_for(shape: Shape, kind: Type) -> Type:
    """The type of every input of that shape, where one is given for all."""
    return dict.fromkeys(shape, kind) if isinstance(shape, dict) and not isinstance(kind, dict) else kind


def number_type(tensors: Iterable[Tensor]) -> torch.dtype | None:
    """The type of the first floating-point tensor: in which a network computes; None if there is none."""
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), None)


def shape_text(shape: Shape) -> str:
    """`3x32x32`, or `ids 16, mask 16`."""
    if isinstance(shape, dict):
        return ", ".join(f"{name} {shape_text(sizes)}" for name, sizes in shape.items())
    return "x".join(map(str, shape))


def arguments_of(inputs: Inputs) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """What the network is called with: positional arguments, and those by keyword."""
    return ((inputs,), {}) if isinstance(inputs, Tensor) else ((), dict(inputs.tensors))


def in_type_of(inputs: AnyInputs, parameters: Mapping[str, Tensor]) -> AnyInputs:
    """The inputs as the network with these parameters computes: its first floating-point tensor says in which type.

    Numbers of data are float32, which a network in float64 takes without loss, and one in bfloat16 rounded.
    """
    own = number_type(parameters.values())
    if own is None or all(tensor.dtype == own or not tensor.is_floating_point() for tensor in tensors_of(inputs)):
        return inputs
    return map_inputs(lambda tensor: tensor.to(own) if tensor.is_floating_point() else tensor, inputs)
