"""What may be moved: groups of tensor axes on which one element acts together."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onebasin.errors import OnebasinError
from onebasin.storage.artifacts import require_facts
from onebasin.storage.digests import of_json
from onebasin.storage.files import read_text, write_text


@dataclass(frozen=True)
class Axis:
    """Where a group acts on a tensor: the units lie along `axis`, or along a part of it.

    Unit u has the places `offset + (o * units + u) * inner + i` for all `o < outer` and `i < inner`. The defaults say:
    the whole axis, a place a unit. `inner` > 1 after a flatten (a channel's pixels lie together), `outer` > 1 where the
    units come round again (pixels first, a group of channels a pixel), `offset` > 0 behind something concatenated.
    """

    tensor: str
    axis: int
    offset: int = 0
    outer: int = 1
    inner: int = 1

    def length(self, units: int) -> int:
        """How many places of the axis the units take."""
        return self.outer * units * self.inner

    def places(self, units: int, device: torch.device | str = "cpu") -> Tensor:
        """The places `[outer, units, inner]` of every unit."""
        flat = torch.arange(self.offset, self.offset + self.length(units), device=device)
        return flat.view(self.outer, units, self.inner)

    def is_plain(self) -> bool:
        """Whether unit u simply has place u."""
        return (self.offset, self.outer, self.inner) == (0, 1, 1)


@dataclass(frozen=True)
class Group:
    """`size` hidden units, every axis that is indexed by them, and which elements may act there (`symmetry.kinds`)."""

    name: str
    size: int
    axes: tuple[Axis, ...]
    kind: str = "permutation"


Parts = tuple[tuple[Axis, Group], ...]
"""Who acts where on one axis of a tensor; the parts do not overlap, places without a part stay."""


@dataclass(frozen=True)
class Fixed:
    """An axis of a tensor that is not permuted, or not in every way, and the reason for it."""

    tensor: str
    axis: int
    reason: str


@dataclass(frozen=True)
class Spec:
    """The permutation groups of a network, in the order in which its signal passes them, and what is in none."""

    groups: tuple[Group, ...]
    fixed: tuple[Fixed, ...] = ()

    def axes_of(self, tensor: str) -> dict[int, Parts]:
        """The permuted axes of a tensor, and who acts on their parts."""
        return self._axes.get(tensor, {})

    def without(self, tensors: Collection[str]) -> "Spec":
        """The groups as far as they act on other tensors than these, those that act on nothing else left out."""
        groups = [
            replace(group, axes=tuple(axis for axis in group.axes if axis.tensor not in tensors))
            for group in self.groups
        ]
        return Spec(tuple(group for group in groups if group.axes), self.fixed)

    def neighbours(self, group: Group) -> set[str]:
        """Names of the groups whose permutations enter the matching problem of `group`: those on other axes of its
        tensors. A group that acts on two axes of one tensor is a neighbour of its own."""
        return {
            other.name
            for axis in group.axes
            for number, parts in self.axes_of(axis.tensor).items()
            if number != axis.axis
            for _, other in parts
        }

    @cached_property
    def _axes(self) -> dict[str, dict[int, Parts]]:
        found: dict[str, dict[int, list[tuple[Axis, Group]]]] = {}
        for group in self.groups:
            for axis in group.axes:
                found.setdefault(axis.tensor, {}).setdefault(axis.axis, []).append((axis, group))
        return {
            tensor: {
                axis: tuple(sorted(parts, key=lambda part: part[0].offset)) for axis, parts in sorted(axes.items())
            }
            for tensor, axes in found.items()
        }


def save_spec(path: str | Path, spec: Spec, **facts: Any) -> None:
    """Write a spec as JSON, with `facts` about how it came about and a checksum of it all."""
    content = {**asdict(spec), **facts}
    write_text(path, json.dumps({**content, "sha256": of_json(content)}, indent=1) + "\n")


def load_spec(path: str | Path, network: Mapping[str, Any] | None = None) -> Spec:
    """Read a spec that `save_spec` wrote; if `network` is given, that of a network of these settings.

    Raises:
        OnebasinError: the file is missing, damaged, not such a file, or of another network.
    """
    text = read_text(path)
    try:
        found = json.loads(text)
        if found.pop("sha256") != of_json(found):
            raise OnebasinError(f"{path}: its content does not match its checksum; delete it and run again")
        require_facts(path, found, {} if network is None else {"network": network})
        axes = [tuple(Axis(**axis) for axis in group["axes"]) for group in found["groups"]]
        groups = [Group(**{**group, "axes": own}) for group, own in zip(found["groups"], axes, strict=True)]
        return Spec(tuple(groups), tuple(Fixed(**fixed) for fixed in found["fixed"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise OnebasinError(f"{path}: not a list of symmetries ({why[:160]}); delete it and run again") from None
