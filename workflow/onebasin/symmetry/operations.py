"""What each operation of a network makes of the layouts of its inputs: one rule an operation.

A rule gets a `Call` and returns the layouts of the results. Whatever has to be permuted alike for the operation to
commute with permutations, it equates; what must stay, it fixes. Elementwise operations of ATen need no rules of their
own, they carry a tag that says what they are. Operations without a rule are fixed altogether by the tracer, and so is
a call that its rule refuses with `NotImplementedError`.

Normalising and random operations: softmax and the norms treat all places of an axis alike, so they commute with its
permutations. Random numbers are drawn independently for each place, so permuting them changes no distribution.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from onebasin.symmetry.layout import PLACE, Layout, cut, divide, equate, fix, fixed, free, length, product, unflatten


class Axes(tuple[Layout, ...]):
    """The layouts of the axes of a tensor."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        return tuple(map(length, self))


@dataclass(frozen=True)
class Call:
    """One operation of a network.

    Attributes:
        name: of the operation (`conv2d`).
        place: the same with the module that calls it, for the reader (`conv2d (features.0)`).
        arguments: by the names of the operation's schema; tensors as their `Axes`.
        shapes: of the results.
    """

    name: str
    place: str
    arguments: Mapping[str, Any]
    shapes: Sequence[tuple[int, ...]]

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    @property
    def tensors(self) -> list[Axes]:
        """The tensors among the arguments, also those in lists."""
        lists = [a if isinstance(a, list) else [a] for a in self.arguments.values()]
        return [tensor for some in lists for tensor in some if isinstance(tensor, Axes)]

    @property
    def over(self) -> str:
        """The reason why an axis is fixed on which this operation does not treat all places alike."""
        return f"{self.place} does not treat its places alike"

    @property
    def unfit(self) -> str:
        """The reason why axes are fixed that this operation relates in a way that layouts cannot express."""
        return f"{self.place} mixes it with other axes"

    def equate(self, one: Layout, other: Layout) -> None:
        """Make two axes permuted alike."""
        equate(one, other, self.unfit)

    def fix(self, axes: Iterable[Layout]) -> None:
        """Let nothing on these axes be permuted."""
        for layout in axes:
            fix(layout, self.over)

    def fixed(self, size: int) -> Layout:
        """A new axis whose places are not alike."""
        return fixed(size, self.over)


Rule = Callable[[Call], list[Axes]]
_RULES: dict[str, Rule] = {}


def rule_of(operation: Any) -> Rule | None:
    """The rule of an ATen operation, None if it has none."""
    if not isinstance(operation, torch._ops.OpOverload) or operation.namespace != "aten":
        return None
    if torch.Tag.pointwise in operation.tags:
        return elementwise
    name = operation.name().removeprefix("aten::")  # of the form mean.dim, where dim tells it from others called mean
    return _RULES.get(name, _RULES.get(name.partition(".")[0]))


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


# Elementwise


@_rule("alias", "bernoulli", "contiguous", "detach", "detach_copy", "dropout", "hardswish", "lift_fresh_copy")
@_rule("native_dropout", "rrelu", "_to_copy", "_weight_norm")
def elementwise(call: Call) -> list[Axes]:
    """One output an element, from the elements at the same place of all inputs, which are broadcast."""
    return [_broadcast(call, call.tensors, shape) for shape in call.shapes]


def _broadcast(call: Call, tensors: Iterable[Axes], shape: Sequence[int]) -> Axes:
    axes = []
    for axis, size in enumerate(shape, -len(shape)):
        layouts = [t[axis] for t in tensors if len(t) >= -axis and length(t[axis]) == size]
        if size == 1:
            layouts = [PLACE]
        if not layouts:
            raise NotImplementedError("no input has the shape of the output")
        for other in layouts[1:]:
            call.equate(layouts[0], other)
        axes.append(layouts[0])
    return Axes(axes)


@_rule("prelu")
def _prelu(call: Call) -> list[Axes]:
    axes, weight = call["self"], call["weight"]
    if weight.shape not in ((), (1,)):
        call.equate(axes[1], weight[0])
    return [axes]


@_rule("copy")
def _copy(call: Call) -> list[Axes]:
    return [_expanded(call["src"], call.shapes[0])]


@_rule("empty", "empty_like", "empty_permuted", "full", "full_like", "ones", "ones_like", "scalar_tensor", "zeros")
@_rule("zeros_like", "new_empty", "new_full", "new_ones", "new_zeros", "zero", "fill", "rand", "rand_like", "randn")
@_rule("randn_like", "randint", "randint_like", "exponential", "uniform", "normal_functional", "normal.float_float")
def _alike(call: Call) -> list[Axes]:
    """Tensors with one value everywhere, or with independent random ones."""
    return [Axes(map(free, shape)) for shape in call.shapes]


# Products


@_rule("linear")
def _linear(call: Call) -> list[Axes]:
    axes, weight = call["input"], call["weight"]
    call.equate(axes[-1], weight[-1])
    return [_plus(call, Axes((*axes[:-1], *weight[:-1])), call["bias"])]


@_rule("matmul", "mm", "bmm", "mv", "dot", "vdot", "addmm", "addmv", "baddbmm")
def _matmul(call: Call) -> list[Axes]:
    *added, one, other = call.tensors
    call.equate(one[-1], other[max(len(other) - 2, 0)])
    rows, columns = one[:-1][-1:], other[1:][-1:]
    batch = [Axes(one[:-2]), Axes(other[:-2])]
    shape = torch.broadcast_shapes(*(axes.shape for axes in batch))
    result = Axes((*_broadcast(call, batch, shape), *rows, *columns))
    return [_plus(call, result, *added)]


def _plus(call: Call, axes: Axes, bias: Axes | None = None) -> Axes:
    return axes if bias is None else _broadcast(call, [axes, bias], axes.shape)


@_rule("conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _convolution(call: Call) -> list[Axes]:
    """Channels are (groups x inputs) before and (groups x outputs) after, be it plain, grouped or depthwise."""
    axes, weight, bias = call["input"], call["weight"], call["bias"]
    spatial = len(weight) - 2
    channel, (first, second) = axes[-spatial - 1], weight[:2]
    groups, _ = divide(first, length(first) // call["groups"], call.unfit)
    both = product(groups, second, call.unfit)
    transposed = "transpose" in call.name or call.arguments.get("transposed")
    before, after = (first, both) if transposed else (both, first)
    call.equate(channel, before)
    if bias is not None:
        call.equate(after, bias[0])
    call.fix((*axes[-spatial:], *weight[2:]))
    return [Axes((*axes[: -spatial - 1], after, *map(call.fixed, call.shapes[0][-spatial:])))]


@_rule("scaled_dot_product_attention")
def _attention(call: Call) -> list[Axes]:
    query, key, value, mask = call["query"], call["key"], call["value"], call["attn_mask"]
    if call["enable_gqa"]:
        raise NotImplementedError("fewer heads of keys than of queries")
    batch = _broadcast(call, [Axes(axes[:-2]) for axes in (query, key, value)], call.shapes[0][:-2])
    call.equate(query[-1], key[-1])
    call.equate(key[-2], value[-2])
    scores = Axes((*batch, query[-2], key[-2]))
    if call["is_causal"]:
        call.fix(scores[-2:])
    _plus(call, scores, mask)
    return [Axes((*batch, query[-2], value[-1]))]


@_rule("embedding")
def _embedding(call: Call) -> list[Axes]:
    vocabulary, hidden = call["weight"]
    fix(vocabulary, f"{call.place} looks it up by number")
    return [Axes((*call["indices"], hidden))]


# Norms


@_rule("batch_norm", "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_functional")
@_rule("_native_batch_norm_legit_no_training", "instance_norm")
def _batch_norm(call: Call) -> list[Axes]:
    axes, *others = call.tensors  # weight, bias, running mean and variance, as far as there are any
    for other in others:
        call.equate(axes[1], other[0])
    statistics = Axes([axes[1]])
    return [axes, *(statistics if shape == statistics.shape else Axes(map(free, shape)) for shape in call.shapes[1:])]


@_rule("layer_norm", "rms_norm")
def _layer_norm(call: Call) -> list[Axes]:
    axes, *affine = call.tensors
    return [_broadcast(call, [axes, *affine], axes.shape)]


@_rule("group_norm")
def _group_norm(call: Call) -> list[Axes]:
    axes, *affine = call.tensors
    channels, groups = length(axes[1]), call["num_groups"]
    if 1 < groups < channels:
        note = f"moved only within each of the {groups} groups of {call.place}"
        call.equate(axes[1], tuple(block for _ in range(groups) for block in free(channels // groups, note)))
    for other in affine:
        call.equate(axes[1], other[0])
    return [axes]


@_rule("softmax", "log_softmax", "_softmax", "_log_softmax", "_safe_softmax")
def _softmax(call: Call) -> list[Axes]:
    return [call.tensors[0]]


# Reductions, and what goes along an axis


def _dimensions(call: Call, name: str = "dim") -> list[int]:
    """The axes that the argument names, counted from the front; all if it names none."""
    axes = len(call.tensors[0])
    given = call.arguments.get(name)
    given = [given] if isinstance(given, int) else given
    return sorted({dimension % axes for dimension in given}) if given and axes else list(range(axes))


@_rule("sum", "nansum", "mean", "prod", "amax", "amin", "max", "min", "aminmax", "any", "all", "count_nonzero")
@_rule("std", "var", "std_mean", "var_mean", "logsumexp", "norm", "linalg_vector_norm")
def _reduction(call: Call) -> list[Axes]:
    """A symmetric function of the places of some axes."""
    return [_reduced(call, call.tensors[0])] * len(call.shapes)


def _reduced(call: Call, axes: Axes) -> Axes:
    dropped = _dimensions(call)
    kept = PLACE if call.arguments.get("keepdim") else None
    layouts = [kept if axis in dropped else layout for axis, layout in enumerate(axes)]
    return Axes(layout for layout in layouts if layout is not None)


@_rule("argmax", "argmin", "max.dim", "min.dim", "median.dim", "nanmedian.dim", "mode", "kthvalue")
def _position(call: Call) -> list[Axes]:
    """A reduction whose result tells a place by its number."""
    call.fix(call.tensors[0][axis] for axis in _dimensions(call))
    return _reduction(call)


@_rule("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "sort", "topk")
def _ordered(call: Call) -> list[Axes]:
    """Something that goes along an axis from its first place to its last, or orders it."""
    return _along(call, _dimensions(call))


@_rule("flip", "roll")
def _moved(call: Call) -> list[Axes]:
    return _along(call, _dimensions(call, "dims"))


def _along(call: Call, chosen: Sequence[int]) -> list[Axes]:
    axes = call.tensors[0]
    call.fix(axes[axis] for axis in chosen)
    return [
        Axes(call.fixed(shape[axis]) if axis in chosen else layout for axis, layout in enumerate(axes))
        for shape in call.shapes
    ]


# Pooling, padding, resizing


@_rule(*(f"{kind}_pool{n}d" for kind in ("max", "avg", "adaptive_avg", "adaptive_max") for n in (1, 2, 3)))
@_rule(*(f"max_pool{n}d_with_indices" for n in (1, 2, 3)), *(f"_adaptive_avg_pool{n}d" for n in (2, 3)))
@_rule(*(f"upsample_{kind}" for kind in ("nearest1d", "nearest2d", "nearest3d", "linear1d", "bilinear2d")))
@_rule("upsample_bicubic2d", "upsample_trilinear3d")
def _spatial(call: Call) -> list[Axes]:
    """Something done with the last axes, as many as the name says, each channel for itself."""
    axes = call.tensors[0]
    (dimensions,) = map(int, re.findall(r"(\d)d", call.name))
    call.fix(axes[-dimensions:])
    return [Axes((*axes[:-dimensions], *map(call.fixed, shape[-dimensions:]))) for shape in call.shapes]


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


# Shapes


@_rule("view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze")
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


@_rule("expand")
def _expand(call: Call) -> list[Axes]:
    return [_expanded(call["self"], call.shapes[0])]


def _expanded(axes: Axes, shape: Sequence[int]) -> Axes:
    """An axis that repeats one value is as free as a new one."""
    old = (None,) * (len(shape) - len(axes)) + tuple(axes)
    return Axes(
        layout if layout is not None and length(layout) == size else free(size)
        for layout, size in zip(old, shape, strict=True)
    )


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


@_rule("index", "index_select")
def _index(call: Call) -> list[Axes]:
    """Axes are looked up by number; where they are neighbours the numbers' axes take their place, else the front."""
    axes, indices = call["self"], call.arguments.get("indices")
    if indices is None:
        indices = [None] * (call["dim"] % len(axes)) + [call["index"]]
    looked_up = [axis for axis, index in enumerate(indices) if index is not None]
    if 0 in call.shapes[0]:
        raise NotImplementedError("nothing left")
    for axis in looked_up:
        fix(axes[axis], f"{call.place} looks it up by number")
    numbers = [indices[axis] for axis in looked_up]
    where = looked_up[0] if looked_up == list(range(looked_up[0], looked_up[-1] + 1)) else 0
    others = [layout for axis, layout in enumerate(axes) if axis not in looked_up]
    shape = torch.broadcast_shapes(*(number.shape for number in numbers))
    return [Axes((*others[:where], *_broadcast(call, numbers, shape), *others[where:]))]
