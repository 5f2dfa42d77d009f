"""The rules of operations that move elements: reshaping, permuting, joining, cutting, repeating, looking up."""

import math
from collections.abc import Sequence

import torch

from onebasin.symmetry.tracing.call import Axes, Call, Rule, registering
from onebasin.symmetry.tracing.layout import PLACE, Layout, cut, fix, free, length, product, unflatten

RULES: dict[str, Rule] = {}
_rule = registering(RULES)


@_rule("view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "reshape_as", "view_as")
def _reshape(call: Call) -> list[Axes]:
    """The same elements in the same order: axes are merged and divided until the lengths agree."""
    axes, shape = list(call.tensors[0]), list(call.shapes[0])
    if math.prod(shape) != math.prod(call.tensors[0].shape) or 0 in shape:
        raise NotImplementedError("not the same elements")
    result: list[Layout] = []
    while axes or shape:
        merged = axes.pop(0) if axes else PLACE
        sizes = [shape.pop(0)] if shape else []
        while length(merged) != math.prod(sizes):
            if length(merged) < math.prod(sizes):
                merged = product(merged, axes.pop(0), call.unfit)
            else:
                sizes.append(shape.pop(0))
        result += unflatten(merged, sizes, call.unfit) if sizes else []
    return [Axes(result)]


@_rule("permute", "transpose", "t")
def _permute(call: Call) -> list[Axes]:
    axes = call["self"]
    order = list(range(len(axes)))
    if call.name == "permute":
        order = [dimension % len(axes) for dimension in call["dims"]]
    elif len(axes) > 1:
        one, other = (call.arguments.get(name, default) % len(axes) for name, default in (("dim0", 0), ("dim1", 1)))
        order[one], order[other] = other, one
    return [Axes(axes[axis] for axis in order)]


@_rule("expand", "expand_as")
def _expand(call: Call) -> list[Axes]:
    return [_expanded(call["self"], call.shapes[0])]


def _expanded(axes: Axes, shape: Sequence[int]) -> Axes:
    """An axis that repeats one value is as free as a new one."""
    old = (None,) * (len(shape) - len(axes)) + tuple(axes)
    return Axes(
        layout if layout is not None and length(layout) == size else free(size)
        for layout, size in zip(old, shape, strict=True)
    )


@_rule("copy")
def _copy(call: Call) -> list[Axes]:
    return [_expanded(call["src"], call.shapes[0])]


@_rule("pad", "constant_pad_nd")
def _pad(call: Call) -> list[Axes]:
    """The values that are added are all alike if they are a constant."""
    axes, widths = list(call["self"]), call["pad"]
    for axis, before, after in zip(range(-1, -len(axes) - 1, -1), widths[::2], widths[1::2], strict=False):
        if (before, after) == (0, 0):
            continue
        if call.arguments.get("mode", "constant") != "constant" or min(before, after) < 0:
            call.fix([axes[axis]])
            axes[axis] = call.fixed(length(axes[axis]) + before + after)
        else:
            axes[axis] = free(before) + axes[axis] + free(after)
    return [Axes(axes)]


@_rule("repeat")
def _repeat(call: Call) -> list[Axes]:
    counts = call["repeats"]
    axes = [PLACE] * (len(counts) - len(call["self"])) + list(call["self"])
    return [
        Axes(
            free(count) if length(layout) == 1 else product(call.fixed(count), layout, call.unfit)
            for count, layout in zip(counts, axes, strict=True)
        )
    ]


@_rule("cat")
def _cat(call: Call) -> list[Axes]:
    tensors = [axes for axes in call["tensors"] if axes.shape != (0,)]  # which cat ignores
    along = call["dim"] % len(tensors[0])
    together = tuple(block for axes in tensors for block in axes[along])
    return [_like_first(call, tensors, along, together)]


@_rule("stack")
def _stack(call: Call) -> list[Axes]:
    tensors = call["tensors"]
    along = call["dim"] % (len(tensors[0]) + 1)
    widened = [Axes((*axes[:along], PLACE, *axes[along:])) for axes in tensors]
    return [_like_first(call, widened, along, call.fixed(len(tensors)))]


def _like_first(call: Call, tensors: Sequence[Axes], along: int, layout: Layout) -> Axes:
    """The axes of all tensors made alike, but `layout` in the place of axis `along`."""
    for other in tensors[1:]:
        for axis in range(len(other)):
            if axis != along:
                call.equate(tensors[0][axis], other[axis])
    return _with(tensors[0], along, layout)


def _with(axes: Axes, along: int, *layouts: Layout) -> Axes:
    """The axes with others in the place of axis `along`."""
    return Axes((*axes[:along], *layouts, *axes[along + 1 :]))


@_rule("split", "split_with_sizes", "chunk")
def _split(call: Call) -> list[Axes]:
    axes = call["self"]
    along = call["dim"] % len(axes)
    rest, parts = axes[along], []
    for shape in call.shapes:
        part, rest = cut(rest, shape[along], call.unfit)
        parts.append(_with(axes, along, part))
    return parts


@_rule("unbind", "select")
def _select(call: Call) -> list[Axes]:
    axes = call["self"]
    along = call["dim"] % len(axes)
    call.fix([axes[along]])
    return [_with(axes, along)] * len(call.shapes)


@_rule("slice")
def _slice(call: Call) -> list[Axes]:
    axes = call["self"]
    along = call["dim"] % len(axes)
    return [_with(axes, along, _sliced(call, axes[along])[1])]


def _sliced(call: Call, layout: Layout) -> tuple[Layout, Layout, Layout]:
    """What is before, inside and behind a slice."""
    start, stop, step = slice(call["start"], call["end"], call["step"]).indices(length(layout))
    if step != 1:
        call.fix([layout])
        return (), call.fixed(len(range(start, stop, step))), ()
    before, rest = cut(layout, start, call.unfit)
    return before, *cut(rest, max(stop - start, 0), call.unfit)


@_rule("select_scatter", "slice_scatter")
def _scatter(call: Call) -> list[Axes]:
    """A tensor with a part of it replaced by another."""
    axes, source = call["self"], call["src"]
    along = call["dim"] % len(axes)
    if call.name == "select_scatter":
        call.fix([axes[along]])
        source = Axes((*source[:along], PLACE, *source[along:]))
        return [_like_first(call, [axes, source], along, axes[along])]
    if call["step"] != 1:
        raise NotImplementedError("slices with steps")
    before, inside, behind = _sliced(call, axes[along])
    call.equate(inside, source[along])
    return [_like_first(call, [axes, source], along, before + inside + behind)]


@_rule("index_add", "index_copy")
def _put_along(call: Call) -> list[Axes]:
    """A tensor with places of one axis changed that are looked up by number."""
    axes, source = call["self"], call["source"]
    along = call["dim"] % len(axes)
    for layout in (axes[along], source[along], *call["index"]):
        fix(layout, f"{call.place} looks it up by number")
    return [_like_first(call, [axes, source], along, axes[along])]


@_rule("index_put")
def _index_put(call: Call) -> list[Axes]:
    """A tensor with places changed that are looked up by number."""
    numbers = [index for index in call["indices"] if index is not None]
    for layout in (layout for number in numbers for layout in number):  # also where a mask chooses
        fix(layout, f"{call.place} looks up places by it")
    places = _looked_up(call, call["self"], call["indices"])
    call.broadcast([places, call["values"]], places.shape)
    return [call["self"]]


@_rule("index", "index_select")
def _index(call: Call) -> list[Axes]:
    """A tensor of places that are looked up by number."""
    indices = call.arguments.get("indices")
    if indices is None:
        indices = [None] * (call["dim"] % len(call["self"])) + [call["index"]]
    if 0 in call.shapes[0]:
        raise NotImplementedError("nothing left")
    return [_looked_up(call, call["self"], indices)]


def _looked_up(call: Call, axes: Axes, indices: Sequence[Axes | None]) -> Axes:
    """Axes are looked up by number; where they are neighbours the numbers' axes take their place, else the front."""
    looked_up = [axis for axis, index in enumerate(indices) if index is not None]
    for axis in looked_up:
        fix(axes[axis], f"{call.place} looks it up by number")
    numbers = [index for index in indices if index is not None]
    where = looked_up[0] if looked_up == list(range(looked_up[0], looked_up[-1] + 1)) else 0
    others = [layout for axis, layout in enumerate(axes) if axis not in looked_up]
    shape = torch.broadcast_shapes(*(number.shape for number in numbers))
    return Axes((*others[:where], *call.broadcast(numbers, shape), *others[where:]))
