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
from onebasin.parameters import Parameters
from onebasin.storage.artifacts import require_facts
from onebasin.storage.digests import of_json
from onebasin.storage.files import read_text, write_text


@dataclass(frozen=True)
class Axis:
    """Where a group acts on a tensor: the units lie along `axis`, or along a part of it.

    Unit u has the places `offset + (o * units + u) * inner + i` for all `o < outer` and `i < inner`. The defaults say:
    the whole axis, a place a unit. `inner` > 1 after a flatten (a channel's pixels lie together), `outer` > 1 where the
    units come round again (pixels first, a group of channels a pixel), `offset` > 0 behind something concatenated.

    Of a nested group `family` says which units lie there, those inside its blocks or (0) the blocks themselves. With a
    `block` > 0, block b has that many places from `offset + (o * blocks + b) * block` on, and its unit u (its only one,
    if it is the block itself) among them the places `start + (r * units + u) * inner + i` for all `r < rounds`.
    """

    tensor: str
    axis: int
    offset: int = 0
    outer: int = 1
    inner: int = 1
    family: int = 0
    block: int = 0
    start: int = 0
    rounds: int = 1

    def length(self, group: "Group") -> int:
        """How many places of the axis the units take."""
        span = group.span(self.family)
        return self.outer * self.rounds * (span.stop - span.start) * self.inner

    def end(self, group: "Group") -> int:
        """The place behind the last one that belongs to the group."""
        return self.offset + (self.outer * group.size * self.block if self.block else self.length(group))

    def by_unit(self, tensor: Tensor, number: int, group: "Group") -> Tensor:
        """A tensor with its axis of that number as three: `[rounds, units, inner]`; a view, or a copy."""
        tensor = tensor.narrow(number, self.offset, self.end(group) - self.offset)
        if not self.block:
            return tensor.unflatten(number, (self.outer, group.size, self.inner))
        units = group.inner[self.family - 1] if self.family else 1
        blocks = tensor.unflatten(number, (self.outer, group.size, self.block))
        part = blocks.narrow(number + 2, self.start, self.rounds * units * self.inner)
        part = part.unflatten(number + 2, (self.rounds, units, self.inner))
        return part.transpose(number + 1, number + 2).flatten(number, number + 1).flatten(number + 1, number + 2)

    def places(self, group: "Group", device: torch.device | str = "cpu") -> Tensor:
        """The places `[rounds, units, inner]` of every unit."""
        return self.by_unit(torch.arange(self.end(group), device=device), 0, group)

    def is_plain(self) -> bool:
        """Whether unit u simply has place u."""
        return (self.offset, self.outer, self.inner, self.family, self.block) == (0, 1, 1, 0, 0)


@dataclass(frozen=True)
class Group:
    """`size` hidden units, every axis that is indexed by them, and which elements may act there (`symmetry.kinds`).

    Of a nested group they are blocks, and `inner` has the numbers of units inside every block, a family each: those of
    one family lie along the same axes. All units are numbered family by family: the blocks, then the first family's
    units, block by block, and so on.
    """

    name: str
    size: int
    axes: tuple[Axis, ...]
    kind: str = "permutation"
    inner: tuple[int, ...] = ()

    @property
    def units(self) -> int:
        """The number of all units, which is the size of what an element is made of."""
        return self.size * (1 + sum(self.inner))

    def span(self, family: int) -> slice:
        """The numbers of a family's units."""
        first = self.size * (1 + sum(self.inner[: family - 1])) if family else 0
        return slice(first, first + self.size * (self.inner[family - 1] if family else 1))

    @property
    def shape(self) -> str:
        """Its units for the reader: `512`, or `8 x (32 + 64)` for blocks with units inside."""
        inside = " + ".join(map(str, self.inner))
        return f"{self.size}" + (f" x {f'({inside})' if len(self.inner) > 1 else inside}" if inside else "")


@dataclass(frozen=True)
class Joined:
    """Tensors seen as one, along an axis of which lie blocks and the units inside them.

    What is inside a block may have an axis of its own (weights `[experts, hidden, inputs]`), and a block tensors of its
    own (a module an expert). Groups act on the tensor that these make up.

    Attributes:
        name: what it is called; the axes of groups name it.
        tensors: a tensor a block, which are stacked along a new first axis, or one that has the blocks along an axis.
        size: the number of blocks.
        blocks: the number of their axis.
        axis: that of the axis of the units inside, counted with that of the blocks; the two become one, the blocks
            slow. None: nothing inside the blocks moves.
    """

    name: str
    tensors: tuple[str, ...]
    size: int
    blocks: int = 0
    axis: int | None = None

    def whole(self, parameters: Mapping[str, Tensor], leading: int = 0) -> Tensor:
        """The tensor that they make up, a copy; `leading` axes (of models) stay in front."""
        own = [parameters[name] for name in self.tensors]
        whole = own[0] if len(own) == 1 else torch.stack(own, dim=leading)
        if self.axis is None:
            return whole
        place = self._place(leading)
        return whole.movedim(self.blocks + leading, place).flatten(place, place + 1)

    def parts(self, whole: Tensor, leading: int = 0) -> Parameters:
        """The tensors that make up a whole."""
        if self.axis is not None:
            place = self._place(leading)
            whole = whole.unflatten(place, (self.size, -1)).movedim(place, self.blocks + leading)
        own = (whole,) if len(self.tensors) == 1 else whole.unbind(leading)
        return {name: tensor.contiguous() for name, tensor in zip(self.tensors, own, strict=True)}

    def _place(self, leading: int) -> int:
        assert self.axis is not None
        return self.axis - (self.blocks < self.axis) + leading


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
    joined: tuple[Joined, ...] = ()

    def join(self, parameters: Mapping[str, Tensor], leading: int = 0) -> Parameters:
        """The tensors as the groups know them; those of `joined` whose parts are not all there stay apart."""
        whole = [one for one in self.joined if all(name in parameters for name in one.tensors)]
        if not whole:
            return dict(parameters)
        gone = {name for one in whole for name in one.tensors}
        kept = {name: tensor for name, tensor in parameters.items() if name not in gone}
        return kept | {one.name: one.whole(parameters, leading) for one in whole}

    def part(self, tensors: Mapping[str, Tensor], leading: int = 0) -> Parameters:
        """The network's tensors again."""
        found = dict(tensors)
        for one in self.joined:
            if one.name in found:
                found |= one.parts(found.pop(one.name), leading)
        return found

    def known_as(self, tensor: str) -> tuple[str, int | None]:
        """The name that groups know a tensor by, and which block's it is, if it is that of one block."""
        for one in self.joined:
            if tensor in one.tensors:
                return one.name, one.tensors.index(tensor) if len(one.tensors) > 1 else None
        return tensor, None

    def axes_of(self, tensor: str) -> dict[int, Parts]:
        """The permuted axes of a tensor, and who acts on their parts."""
        return self._axes.get(tensor, {})

    @cached_property
    def rotated(self) -> set[str]:
        """The names of the groups that orthogonal matrices act on."""
        return {group.name for group in self.groups if group.kind == "orthogonal"}

    def without(self, tensors: Collection[str]) -> "Spec":
        """The groups as far as they act on other tensors than these, those that act on nothing else left out."""
        parts = {one.name for one in self.joined if any(name in tensors for name in one.tensors)}
        groups = [
            replace(group, axes=tuple(axis for axis in group.axes if axis.tensor not in {*tensors, *parts}))
            for group in self.groups
        ]
        return replace(self, groups=tuple(group for group in groups if group.axes))

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
        groups = [
            Group(**{**group, "axes": own, "inner": tuple(group["inner"])})
            for group, own in zip(found["groups"], axes, strict=True)
        ]
        joined = [Joined(**{**one, "tensors": tuple(one["tensors"])}) for one in found["joined"]]
        return Spec(tuple(groups), tuple(Fixed(**fixed) for fixed in found["fixed"]), tuple(joined))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise OnebasinError(f"{path}: not a list of symmetries ({why[:160]}); delete it and run again") from None
