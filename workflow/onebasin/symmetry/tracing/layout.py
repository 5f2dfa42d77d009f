"""How permutable units lie along an axis, and what it takes for two axes to be permuted alike.

A `Layout` describes an axis: blocks that follow one another, each a product of factors, outermost first, each factor
a set of `Units`. A channel axis that was flattened with its 49 pixels is the one block (channels, pixels); what was
concatenated has two blocks. A set of units is *free* (any permutation may reorder it), *fixed* (with the reason), or
made of *parts*, a layout of its own. All these functions keep one claim true, and the tracer rests on it:

    Give every free set any permutation, and permute the parameters as their layouts say: then every tensor that the
    network computes is the old one with its axes permuted as their layouts say.

They do it by restricting: sets become one, get parts, or are fixed; nothing is ever freed again. Where two layouts
cannot be reconciled in this form, what is free in them is fixed. So a symmetry may be missed, but none is made up.

Units are *linear* while every operation on them commutes with orthogonal matrices, too; what has parts is not.

Units may lie *within* others, as the coordinates of heads do: then every one of those, a block, may have a permutation
of its own for the units inside. What is divided gives such units, and so do the axes of a parameter; `nesting` says
where that holds in the end.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST_BLOCKS = 4096  # of an axis; if it took more to describe it, it is fixed


@dataclass(eq=False)
class Units:
    """A set of `size` units, in order.

    Attributes:
        reason: why they are fixed; None if they are not.
        note: what the tracer left out where these units stayed free.
        same: another set that these turned out to be.
        parts: the layout that these units turned out to have.
        within: the sets that they lie within, which have to turn out to be one; none, if all places are permuted
            alike; None, if nothing restricts them yet.
        declared: whether the network says that they may be permuted, whatever it does with them.
        linear: whether they may not only be permuted, but mapped by any orthogonal matrix (`grades`).
    """

    size: int
    reason: str | None = None
    note: str | None = None
    same: "Units | None" = None
    parts: "Layout | None" = None
    within: "tuple[Units, ...] | None" = None
    declared: bool = False
    linear: bool = False


Block = tuple[Units, ...]
Layout = tuple[Block, ...]

PLACE: Layout = ((),)  # an axis of length one


def free(size: int, note: str | None = None, within: tuple[Units, ...] | None = None, linear: bool = False) -> Layout:
    """An axis of new units that nothing restricts yet, but that they lie within others, and are not `linear`."""
    return _axis(Units(size, note=note, within=within, linear=linear))


def fixed(size: int, reason: str) -> Layout:
    """An axis that nothing may permute."""
    return _axis(Units(size, reason))


def _axis(units: Units) -> Layout:
    return ((units,),) if units.size > 1 else PLACE * units.size


def length(layout: Layout) -> int:
    """The number of places of an axis."""
    return sum(map(extent, layout))


def extent(block: Block) -> int:
    """The number of places of a block."""
    return math.prod(units.size for units in block)


def free_units(block: Block) -> list[Units]:
    """The free factors of a resolved block."""
    return [units for units in block if units.reason is None]


def resolve(layout: Layout) -> Layout:
    """The layout in terms of free and fixed units only, as far as it is known by now."""
    blocks: list[Block] = []
    for block in layout:
        result = PLACE
        for units in map(_root, block):
            parts = resolve(units.parts) if units.parts else ((units,),)
            result = product(result, parts, "its parts lie inside of blocks that move themselves")
        blocks += result
    return tuple(blocks)


def _root(units: Units) -> Units:
    while units.same:
        units = units.same
    return units


def fix(layout: Layout, reason: str) -> None:
    """Let nothing on the axis be permuted, for that reason where there is none yet."""
    for block in resolve(layout):
        for units in free_units(block):
            if not units.declared:
                units.reason = reason


def lower(layout: Layout) -> None:
    """Let nothing more than permutations act on the axis."""
    for block in resolve(layout):
        for units in block:
            units.linear = False


def equate(one: Layout, other: Layout, reason: str) -> None:
    """Make two axes of one length permuted alike. `reason`: for fixing what cannot be reconciled.

    Raises:
        NotImplementedError: they have different lengths.
    """
    if length(one) != length(other):
        raise NotImplementedError(f"axes of lengths {length(one)} and {length(other)}")
    ours, theirs = list(one), list(other)
    while ours and theirs:
        ours[:1], theirs[:1] = resolve((ours[0],)), resolve((theirs[0],))
        if extent(ours[0]) < extent(theirs[0]):
            ours, theirs = theirs, ours
        large, missing = ours[0], extent(theirs[0])
        if extent(large) == missing:
            _equate_blocks(ours.pop(0), theirs.pop(0), reason)
        elif len(large) == 1 and free_units(large):
            head, tail = cut(tuple(theirs), extent(large), reason)
            if resolve((large,)) == (large,) and free_units(large):  # the cut left it alone: it gets parts
                large[0].parts = head
                _pass_on(large[0], head)
                del ours[0]
                theirs = list(tail)
            else:
                theirs = [*head, *tail]
        else:
            ours[:1] = _cut_block(large, missing, reason)


def _equate_blocks(one: Block, other: Block, reason: str) -> None:
    while one:
        (one,), (other,) = resolve((one,)), resolve((other,))
        for ours, theirs in ((one, other), (other, one)):
            if not free_units(ours):
                fix((theirs,), ours[0].reason or reason)
                return
        small, large = sorted((one[0].size, other[0].size))
        if large % small:
            fix((one, other), reason)
            return
        one, other = _outermost(one, small), _outermost(other, small)
        _join(one[0], other[0])
        one, other = one[1:], other[1:]


def _outermost(block: Block, size: int) -> Block:
    """The block with an outermost factor of that size, which divides the present one's."""
    return block if block[0].size == size else (*_split(block[0], size), *block[1:])


def _split(units: Units, outer_size: int) -> Block:
    """The units as the product of two sets."""
    inner_size = units.size // outer_size
    outer = Units(outer_size, units.reason, units.note, within=units.within)
    within = None if units.within is None else (outer,)
    block = (outer, Units(inner_size, units.reason, units.note, within=within))
    units.parts = (block,)
    return block


def _join(one: Units, other: Units) -> None:
    one, other = _root(one), _root(other)
    if one is not other:
        if one.reason is None and other.reason is not None:
            one, other = other, one
        one.note = one.note or other.note
        one.within = _common(one.within, other.within)
        one.declared |= other.declared
        one.linear &= other.linear
        other.same = one


def _common(one: tuple[Units, ...] | None, other: tuple[Units, ...] | None) -> tuple[Units, ...] | None:
    """What units lie within that lie within both."""
    if one is None or other is None:
        return other if one is None else one
    return tuple(dict.fromkeys((*one, *other))) if one and other else ()


def _pass_on(whole: Units, layout: Layout) -> None:
    for block in resolve(layout):
        for units in free_units(block):
            units.note = units.note or whole.note
            units.within = _common(units.within, whole.within)
            units.linear &= whole.linear


def product(outer: Layout, inner: Layout, reason: str) -> Layout:
    """Two axes flattened into one, the outer one slow."""
    if len(inner) != 1:
        outer, inner = resolve(outer), resolve(inner)
        rounds = length(outer)
        if rounds > 1 and (any(map(free_units, outer)) or rounds * len(inner) > MOST_BLOCKS):
            fix(inner, reason)
        if any(map(free_units, inner)):
            return inner * rounds
        reasons = [units.reason for block in inner for units in block if units.reason]
        inner = fixed(length(inner), (reasons or [reason])[0])
    return tuple(slow + fast for slow in outer for fast in inner)


def cut(layout: Layout, at: int, reason: str) -> tuple[Layout, Layout]:
    """The axis as two: the first `at` places and the others."""
    head: list[Block] = []
    tail = list(layout)
    while at:
        tail[:1] = resolve((tail[0],))
        if extent(tail[0]) > at:
            tail[:1] = _cut_block(tail[0], at, reason)
        else:
            at -= extent(tail[0])
            head.append(tail.pop(0))
    return tuple(head), tuple(tail)


def _cut_block(block: Block, at: int, reason: str) -> Layout:
    """The block as several, one of which ends at place `at` or before it."""
    first, rest = block[0], block[1:]
    rounds, remainder = divmod(at, extent(rest))
    if first.reason is None and remainder:
        fix((block,), reason)
    if not free_units(block):
        return fixed(at, first.reason or reason) + fixed(extent(block) - at, first.reason or reason)
    if first.reason is None and not first.declared:
        first.parts = tuple(
            part for size in (rounds, first.size - rounds) for part in free(size, first.note, first.within)
        )
        return resolve((block,))
    sizes = [rounds, 1, first.size - rounds - 1] if remainder else [rounds, first.size - rounds]
    return tuple(part + rest for size in sizes for part in fixed(size, first.reason or reason))


def divide(layout: Layout, inner_size: int, reason: str) -> tuple[Layout, Layout]:
    """The axis as two of which it is the product, the inner one of the given length."""
    if inner_size == 1:
        return layout, PLACE
    outer: list[Block] = []
    inner: Layout | None = None
    while layout:
        layout = resolve(layout[:1]) + layout[1:]
        if extent(layout[0]) % inner_size == 0:
            head, tail = _divide_block(layout[0], inner_size, reason)
            row: Layout = (tail,)
            layout = layout[1:]
        else:
            row, layout = cut(layout, inner_size, reason)
            head = ()
        outer.append(head)
        if inner is None:
            inner = row
        else:
            equate(inner, row, reason)  # a product has the same inner axis everywhere
    return tuple(outer), inner or ()


def _divide_block(block: Block, inner_size: int, reason: str) -> tuple[Block, Block]:
    inner: Block = ()
    while inner_size > 1:
        (block,) = resolve((block,))
        outer, last = block[:-1], block[-1]
        if last.size > inner_size and last.size % inner_size == 0:
            block = (*outer, *_split(last, last.size // inner_size))
        elif inner_size % last.size == 0:
            block, inner, inner_size = outer, (last, *inner), inner_size // last.size
        else:
            fix((block,), reason)
            block = _split(Units(extent(block), reason), extent(block) // inner_size)
    return block, inner


def unflatten(layout: Layout, sizes: Sequence[int], reason: str) -> list[Layout]:
    """The axis as several, of the given sizes, outermost first."""
    axes = []
    for position in range(1, len(sizes)):
        axis, layout = divide(layout, math.prod(sizes[position:]), reason)
        axes.append(axis)
    return [*axes, layout]
