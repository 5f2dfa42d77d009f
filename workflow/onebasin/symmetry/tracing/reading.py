"""From layouts to a spec: which of the units that are still free make a group, and where it acts."""

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from onebasin.symmetry.spec import Axis, Fixed, Group, Joined, Spec
from onebasin.symmetry.tracing.call import Axes
from onebasin.symmetry.tracing.layout import Block, Layout, Units, extent, free_units, resolve
from onebasin.symmetry.tracing.nesting import blocks_of


@dataclass(frozen=True)
class Stacked:
    """Tensors of modules that may change places: `axes` are those of one, behind one of `blocks`."""

    name: str
    tensors: tuple[str, ...]
    axes: Axes


def read(state: Mapping[str, Axes], met: Mapping[str, Axes], stacked: Sequence[Stacked] = ()) -> Spec:
    """The groups of a network, and which axes stay as they are, with the reason.

    Args:
        state: the layouts of all its tensors.
        met: of those that it uses, in that order.
        stacked: which of them are those of modules that may change places.
    """
    tensors = _in_order(met, stacked)
    while _untangle(tensors):
        pass
    groups, joined = _groups(tensors)
    return Spec(tuple(groups), tuple(_fixed(state, met)), tuple(joined))


def _in_order(met: Mapping[str, Axes], stacked: Sequence[Stacked]) -> list[Stacked]:
    """All tensors, those that are stacked where the first of them is met."""
    whole = {name: one for one in stacked for name in one.tensors}
    found = [whole.get(name, Stacked(name, (name,), axes)) for name, axes in met.items()]
    return list({id(one): one for one in found}.values())


# Leaving out what a spec cannot say


def _untangle(tensors: Sequence[Stacked]) -> bool:
    """Take from units what a spec cannot say of them; whether there was anything."""
    layouts = [[resolve(layout) for layout in tensor.axes] for tensor in tensors]
    blocks = [
        (block, f"axis {axis} of {tensor.name}")
        for tensor, resolved in zip(tensors, layouts, strict=True)
        for axis, layout in enumerate(resolved)
        for block in layout
    ]
    uses = Counter(units for block, _ in blocks for units in free_units(block))
    changed = False
    for resolved in layouts:
        changed |= _bring_outside(resolved, uses)
    for block, where in [] if changed else blocks:
        changed |= _leave_one_group_a_place(block, where, uses)
    return changed


def _bring_outside(tensor: Sequence[Layout], uses: Mapping[Units, int]) -> bool:
    """Permute units alike in all blocks where these do not move, lie within others, or are not where they should be.

    Of several axes with units within the blocks of another axis only one may keep them.
    """
    changed = False
    beside: dict[Units, dict[int, list[Units]]] = {}
    for axis, layout in enumerate(tensor):
        for block in layout:
            for units in free_units(block):
                if not units.within:
                    continue
                blocks = blocks_of(units)
                if blocks is None or blocks.reason is not None or units is blocks:
                    units.within, changed = (), True
                elif blocks.within:
                    blocks.within, changed = (), True
                elif blocks not in block:
                    beside.setdefault(blocks, {}).setdefault(axis, []).append(units)
    for blocks, axes in beside.items():
        if sum(layout == ((blocks,),) for layout in tensor) != 1 or sum(_has(layout, blocks) for layout in tensor) != 1:
            for units in itertools.chain(*axes.values()):
                units.within, changed = (), True
            continue
        kept = max(axes, key=lambda axis: max(uses[units] for units in axes[axis]))
        for axis, layout in enumerate(tensor):
            for units in [units for block in layout for units in free_units(block)]:
                inside = axis == kept and blocks_of(units) is blocks
                if not inside and (axis == kept or axis in axes) and not units.declared:
                    units.reason = "would move the same places as another group inside of the same blocks"
                    changed = True
    return changed


def _has(layout: Layout, units: Units) -> bool:
    return any(units in block for block in layout)


def _leave_one_group_a_place(block: Block, where: str, uses: Mapping[Units, int]) -> bool:
    """Of the free factors of a block let only the one with most to move stay, and one inside of it."""
    present = free_units(block)
    pairs = [
        (outer, inner)
        for position, outer in enumerate(present)
        for inner in present[position + 1 :]
        if blocks_of(inner) is outer
    ]
    if len(present) < 2 or (len(present) == 2 and pairs):
        return False

    # the outermost of equals
    def most(pair: tuple[Units, Units]) -> tuple[int, ...]:
        return uses[pair[0]], uses[pair[1]], pair[1].size

    kept = max(pairs, key=most) if pairs else (max(present, key=uses.__getitem__),)
    others = [units for units in present if not any(units is one for one in kept)]
    kept[-1].note = kept[-1].note or f"moved in blocks, inside of which nothing moves ({where})"
    for units in others or present:  # one set twice, as in an outer product, cannot move at all
        units.reason = f"would move the same places as another group ({where})"
    return True


# Groups


def _groups(tensors: Sequence[Stacked]) -> tuple[Iterator[Group], list[Joined]]:
    families: dict[Units, list[Units]] = {}
    axes_of: dict[Units, list[Axis]] = {}
    joined = []
    for tensor in tensors:
        layouts = [resolve(layout) for layout in tensor.axes]
        inside = _axis_inside(layouts)
        number = 0
        if inside or len(tensor.tensors) > 1:
            blocks, inner = inside or (0, None)
            size = sum(map(extent, layouts[blocks]))
            joined.append(Joined(tensor.name, tensor.tensors, size, blocks, inner))
        for position, layout in enumerate(layouts):
            if inside and position == inside[0]:
                continue
            acting = _along(layout, layouts[inside[0]][0][0]) if inside and position == inside[1] else _in(layout)
            for blocks_or_units, within, axis in acting:
                own = families.setdefault(blocks_or_units, [])
                if within is not None and within not in own:
                    own.append(within)
                family = 0 if within is None else own.index(within) + 1
                acts = axes_of.setdefault(blocks_or_units, [])
                _add(acts, replace(axis, tensor=tensor.name, axis=number, family=family), blocks_or_units.size)
            number += 1
    return _named(axes_of, families, {one.name for one in joined}), joined


Acting = tuple[Units, Units | None, Axis]
"""The units or blocks that act, the units inside of these where they do, and the places."""


def _axis_inside(layouts: Sequence[Layout]) -> tuple[int, int] | None:
    """The number of an axis of blocks, and of one with units inside of them."""
    for inside, layout in enumerate(layouts):
        for block in layout:
            for units in free_units(block):
                blocks = blocks_of(units)
                if blocks is not None and not _has(layout, blocks):
                    return next(axis for axis, other in enumerate(layouts) if _has(other, blocks)), inside
    return None


def _in(layout: Layout) -> Iterator[Acting]:
    """What acts along an axis of its own."""
    offset = 0
    for block in layout:
        own = free_units(block)
        if own:
            outer, after = extent(block[: block.index(own[0])]), extent(block[block.index(own[0]) + 1 :])
            if len(own) == 1:
                yield own[0], None, Axis("", 0, offset, outer, after)
            else:
                last = block.index(own[1])
                rounds, inner = extent(block[block.index(own[0]) + 1 : last]), extent(block[last + 1 :])
                yield own[0], own[1], Axis("", 0, offset, outer, inner, block=after, rounds=rounds)
        offset += extent(block)


def _along(layout: Layout, blocks: Units) -> Iterator[Acting]:
    """What acts along an axis that has become one with that of the blocks, which are slow."""
    start, whole = 0, sum(map(extent, layout))
    for block in layout:
        own = free_units(block)
        place = block.index(own[0]) if own else 0
        rounds, inner = (extent(block[:place]), extent(block[place + 1 :])) if own else (1, extent(block))
        yield blocks, own[0] if own else None, Axis("", 0, inner=inner, block=whole, start=start, rounds=rounds)
        start += extent(block)


def _add(acts: list[Axis], axis: Axis, size: int) -> None:
    """Append where a group acts, as another round of the last if it goes on where that ends."""
    if acts:
        last = acts[-1]
        behind = last.offset + last.outer * size * (last.block or last.inner)
        if replace(last, offset=behind, outer=axis.outer) == axis:
            acts[-1] = replace(last, outer=last.outer + axis.outer)
            return
    acts.append(axis)


def _named(
    axes_of: Mapping[Units, list[Axis]], families: Mapping[Units, list[Units]], joined: Collection[str]
) -> Iterator[Group]:
    makers = Counter(_maker(acts, joined)[0] for acts in axes_of.values())
    for units, acts in axes_of.items():
        inner = tuple(own.size for own in families[units])
        kind = "nested" if inner else "orthogonal" if units.linear else "permutation"
        group = Group("", units.size, tuple(acts), kind, inner)
        name, first = _maker(acts, joined)
        if makers[name] > 1:
            name += f"[{':, ' * first.axis}{first.offset}:{first.end(group)}]"
        yield replace(group, name=name)


def _maker(acts: Sequence[Axis], joined: Collection[str]) -> tuple[str, Axis]:
    """What makes the units, and where: the first tensor that has them, but not what is a gate of experts."""
    first = next((axis for axis in acts if axis.family and axis.tensor in joined), acts[0])
    return first.tensor.removesuffix(".weight"), first


def _fixed(state: Mapping[str, Axes], met: Mapping[str, Axes]) -> Iterator[Fixed]:
    """Every axis that does not move at all its places, or not in every way that there is."""
    for name, axes in state.items():
        for number, layout in enumerate(axes):
            blocks = resolve(layout)
            staying = [block for block in blocks if not free_units(block)]
            notes = [units.note for block in blocks for units in free_units(block) if units.note]
            reasons = [units.reason for block in staying for units in block if units.reason]
            if name not in met and sum(map(extent, blocks)) > 1:
                yield Fixed(name, number, "the network does not use it")
            elif sum(map(extent, staying)) > 1:
                yield Fixed(name, number, (reasons or ["each of its places is treated differently"])[0])
            elif notes:
                yield Fixed(name, number, notes[0])
