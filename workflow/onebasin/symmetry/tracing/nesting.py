"""Where units have a permutation of their own in every block: the coordinates of heads, the hidden units of experts.

`layout` says which units lie within which blocks where they come from. That every block may permute its own as it likes
holds only if no tensor has these units without the blocks, as a sum over blocks would have, or has the blocks twice, as
the products of all pairs have: in either case nobody could say which block's permutation is meant. Where a tensor of
the network is of this kind, the units are permuted alike in all blocks.

Blocks that the network declares interchangeable are taken at its word: it may look them up by number.
"""

from collections.abc import Collection, Iterable

from onebasin.symmetry.tracing.call import Axes
from onebasin.symmetry.tracing.layout import Layout, Units, free_units, resolve

Operation = tuple[Collection[Axes], Collection[Axes]]
"""The tensors that an operation gets, and those that it returns."""


def blocks_of(units: Units) -> Units | None:
    """The one set of free or fixed units that these lie within, the outermost of several; None if they lie in none."""
    return next(iter(_around(units, frozenset())), None)


def _around(units: Units, seen: frozenset[int]) -> list[Units]:
    """All sets that units lie within, the outermost first: what is within others is within those that these are in."""
    found: list[Units] | None = None
    for candidate in units.within or ():
        layout = resolve(((candidate,),))
        options: list[Units] = []
        for factor in layout[0] if len(layout) == 1 else ():
            outer = [] if id(factor) in seen else _around(factor, seen | {id(factor)})
            options += [*outer, factor]
        found = [one for one in options if found is None or one in found]
    return found or []


def settle(operations: Iterable[Operation]) -> None:
    """Take the permutations of their own from units that some tensor of the network has without their blocks."""
    seen: dict[int, list[Layout]] = {}

    def resolved(axes: Axes) -> list[Layout]:
        if id(axes) not in seen:
            seen[id(axes)] = [resolve(layout) for layout in axes]
        return seen[id(axes)]

    for given, returned in operations:
        results = [resolved(axes) for axes in returned]
        for tensor in results:
            for units, axis, place in _nested(tensor):
                if not _is_told(tensor, units, axis, place):
                    units.within = ()
        for tensor in map(resolved, given):
            for units, _, _ in _nested(tensor):
                blocks = blocks_of(units)
                if blocks and not blocks.declared and any(_axes_with(result, blocks) > 1 for result in results):
                    units.within = ()


def _nested(tensor: list[Layout]) -> Iterable[tuple[Units, int, int]]:
    """The free units of a tensor that lie within others, the axis, and the block of its layout."""
    for axis, layout in enumerate(tensor):
        for place, block in enumerate(layout):
            for units in free_units(block):
                if units.within:
                    yield units, axis, place


def _is_told(tensor: list[Layout], units: Units, axis: int, place: int) -> bool:
    """Whether the tensor says which block each of the units at this place is in."""
    blocks = blocks_of(units)
    if blocks is None or blocks.declared:
        return blocks is not None
    if _axes_with(tensor, blocks) != 1:
        return False
    if any(blocks in block for block in tensor[axis]):
        own = tensor[axis][place]
        return own.count(blocks) == 1 and own.index(blocks) < own.index(units)
    [other] = [layout for layout in tensor if any(blocks in block for block in layout)]
    return len(other) == 1 and other[0].count(blocks) == 1


def _axes_with(tensor: list[Layout], blocks: Units) -> int:
    return sum(any(blocks in block for block in layout) for layout in tensor)
