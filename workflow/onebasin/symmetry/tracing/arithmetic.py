"""The rules of operations that compute: elementwise ones, products, norms, reductions, pooling.

Softmax and the norms treat all places of an axis alike, so they commute with its permutations. Random numbers are drawn
independently for each place, so permuting them changes no distribution.
"""

import re
from collections.abc import Sequence

import torch

from onebasin.symmetry.tracing.call import Axes, Call, Rule, registering
from onebasin.symmetry.tracing.layout import PLACE, divide, fix, fixed, free, length, product

RULES: dict[str, Rule] = {}
_rule = registering(RULES)

# Elementwise


@_rule("alias", "bernoulli", "contiguous", "detach", "detach_copy", "dropout", "hardswish", "lift_fresh_copy")
@_rule("native_dropout", "rrelu", "_to_copy", "_weight_norm", "to.dtype", "to.device", "to.dtype_layout", "where")
@_rule("__and__", "__or__", "__xor__", "bernoulli_", "detach_", "dropout_", "fill_", "hardswish_")
def elementwise(call: Call) -> list[Axes]:
    """One output an element, from the elements at the same place of all inputs, which are broadcast."""
    return [call.broadcast(call.tensors, shape) for shape in call.shapes]


@_rule("prelu")
def _prelu(call: Call) -> list[Axes]:
    axes, weight = call["self"], call["weight"]
    if weight.shape not in ((), (1,)):
        call.equate(axes[1], weight[0])
    return [axes]


@_rule("empty", "empty_like", "empty_permuted", "full", "full_like", "ones", "ones_like", "scalar_tensor", "zeros")
@_rule("zeros_like", "new_empty", "new_full", "new_ones", "new_zeros", "zero", "fill")
def _alike(call: Call) -> list[Axes]:
    """Tensors with one value everywhere."""
    return [Axes(map(free, shape)) for shape in call.shapes]


@_rule("rand", "rand_like", "randn", "randn_like", "randint", "randint_like", "exponential", "uniform")
@_rule("normal_functional", "normal.float_float")
def _random(call: Call) -> list[Axes]:
    """Tensors with independent random values everywhere."""
    return [Axes(free(size, within=()) for size in shape) for shape in call.shapes]


@_rule("arange")
def _numbered(call: Call) -> list[Axes]:
    return [Axes(fixed(size, f"{call.place} makes a constant") for size in shape) for shape in call.shapes]


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
    result = Axes((*call.broadcast(batch, shape), *rows, *columns))
    return [_plus(call, result, *added)]


@_rule("_grouped_mm", "transformers::grouped_mm_fallback")
def _grouped_matmul(call: Call) -> list[Axes]:
    """Rows in groups, and a matrix for each group: those of experts, each with the rows that are sent to it."""
    rows, matrices = call.tensors[:2]
    if len(rows) != 2 or len(matrices) != 3:
        raise NotImplementedError("groups along another axis")
    fix(rows[0], f"{call.place} cuts it into groups")
    fix(matrices[0], f"{call.place} looks it up by number")
    call.equate(rows[1], matrices[1])
    return [Axes((rows[0], matrices[2]))]


def _plus(call: Call, axes: Axes, bias: Axes | None = None) -> Axes:
    return axes if bias is None else call.broadcast([axes, bias], axes.shape)


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
    batch = call.broadcast([Axes(axes[:-2]) for axes in (query, key, value)], call.shapes[0][:-2])
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
    return [call.broadcast([axes, *affine], axes.shape)]


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


def dimensions(call: Call, name: str = "dim") -> list[int]:
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
    dropped = dimensions(call)
    kept = PLACE if call.arguments.get("keepdim") else None
    layouts = [kept if axis in dropped else layout for axis, layout in enumerate(axes)]
    return Axes(layout for layout in layouts if layout is not None)


@_rule("argmax", "argmin", "max.dim", "min.dim", "median.dim", "nanmedian.dim", "mode", "kthvalue")
def _position(call: Call) -> list[Axes]:
    """A reduction whose result tells a place by its number."""
    call.fix(call.tensors[0][axis] for axis in dimensions(call))
    return _reduction(call)


@_rule("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "sort", "topk")
def _ordered(call: Call) -> list[Axes]:
    """Something that goes along an axis from its first place to its last, or orders it."""
    return _along(call, dimensions(call))


@_rule("flip", "roll")
def _moved(call: Call) -> list[Axes]:
    return _along(call, dimensions(call, "dims"))


def _along(call: Call, chosen: Sequence[int]) -> list[Axes]:
    axes = call.tensors[0]
    call.fix(axes[axis] for axis in chosen)
    return [
        Axes(call.fixed(shape[axis]) if axis in chosen else layout for axis, layout in enumerate(axes))
        for shape in call.shapes
    ]


# Pooling, resizing


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
