"""What may act on units beside permutations: fixed < permutation < orthogonal.

Units of the parameters begin as `linear`: any orthogonal matrix may map them. An operation that is linear along an axis
leaves them so; every other one lowers them to what its rule allows, permutations. Of norms only the plain root mean
square is blind to rotations: a square that is summed over the whole axis.
"""

import operator
from collections.abc import Callable, Iterable, Mapping

from torch.fx import Graph, Node

from onebasin.symmetry.tracing.arithmetic import dimensions
from onebasin.symmetry.tracing.call import Axes, Call
from onebasin.symmetry.tracing.graph import name_of
from onebasin.symmetry.tracing.layout import Layout, length

REDUCTIONS = ("sum", "mean")
BINARY = 2

Lowered = Callable[[Call], Iterable[Layout]]
"""The axes along which a call is not linear."""


def lowered(call: Call, results: Iterable[Axes], squared: frozenset[int] = frozenset()) -> list[Layout]:
    """The axes that nothing more than permutations may act on after this call.

    Args:
        squared: of a square, the axes whose places are summed afterwards and seen nowhere else (`lengths`).
    """
    if squared:
        return [layout for axis, layout in enumerate(call.tensors[0]) if axis not in squared]
    if call.name in _LINEAR:
        return list(_LINEAR[call.name](call))
    return [layout for axes in (*call.tensors, *results) for layout in axes]


def lengths(graph: Graph) -> Mapping[Node, frozenset[int]]:
    """The squares of a graph that are only summed over some of their axes, and those axes; the sums, too."""
    found: dict[Node, frozenset[int]] = {}
    for node in graph.nodes:
        if node.op != "call_function" or not _is_square(node) or not node.users:
            continue
        axes = {_summed(node, user) for user in node.users}
        if len(axes) == 1 and (own := axes.pop()):
            found[node] = own
            found |= dict.fromkeys(node.users, own)
    return found


def _is_square(node: Node) -> bool:
    name = name_of(node)
    if name == "pow":
        return node.args[1:] == (BINARY,)
    return name == "square" or (name == "mul" and len(node.args) == BINARY and node.args[0] is node.args[1])


def _summed(square: Node, user: Node) -> frozenset[int]:
    """The axes that a sum or a mean of a square takes together; none, if the user is something else."""
    if user.op != "call_function" or user.target is operator.getitem or name_of(user) not in REDUCTIONS:
        return frozenset()
    axes = square.meta["val"].dim()
    given = user.args[1] if len(user.args) > 1 else user.kwargs.get("dim")
    chosen = [given] if isinstance(given, int) else given
    return frozenset(axis % axes for axis in chosen) if isinstance(chosen, list | tuple) else frozenset()


# Operations that are linear along some axes


def _nothing(call: Call) -> Iterable[Layout]:
    """What only moves elements, or copies them."""
    return ()


def _added(call: Call) -> Iterable[Layout]:
    """Sums: the axes of those that are added alike to many places, and all, if it is a number."""
    whole = call.shapes[0]
    numbers = len(call.tensors) < BINARY
    for axes in call.tensors:
        for axis, layout in enumerate(axes, len(whole) - len(axes)):
            if numbers or length(layout) != whole[axis] or not all(_has(other, axis, whole) for other in call.tensors):
                yield layout


def _has(axes: Axes, axis: int, whole: tuple[int, ...]) -> bool:
    own = axis - (len(whole) - len(axes))
    return own >= 0 and length(axes[own]) == whole[axis]


def _scaled(call: Call) -> Iterable[Layout]:
    """Products place by place, and quotients: the axes that more than one factor has, and all of a divisor."""
    whole = call.shapes[0]
    if call.arguments.get("rounding_mode"):
        yield from (layout for axes in call.tensors for layout in axes)
    for position, axes in enumerate(call.tensors):
        for axis, layout in enumerate(axes, len(whole) - len(axes)):
            having = sum(_has(other, axis, whole) for other in call.tensors)
            if having > 1 or (position > 0 and call.name.startswith("div")):
                yield layout


def _reduced(call: Call) -> Iterable[Layout]:
    return [call.tensors[0][axis] for axis in dimensions(call)]


def _linear(call: Call) -> Iterable[Layout]:
    """A linear map: a bias is the same for all rows."""
    return () if call["bias"] is None else call["input"][:-1]


def _multiplied(call: Call) -> Iterable[Layout]:
    """Matrix products: linear along rows, columns and what is summed; batches are multiplied place by place."""
    *added, one, other = call.tensors
    yield from (*one[:-2], *other[:-2])
    for axes in added:  # the same row for all rows, or a row of its own for each
        yield from one[:-1][-1:] if len(axes) == 1 else ()
        yield from (*axes, *other[1:][-1:]) if axes.shape != call.shapes[0][-len(axes) :] else ()


def _convolved(call: Call) -> Iterable[Layout]:
    """Channels, where all see all."""
    axes, weight, bias = call["input"], call["weight"], call["bias"]
    if call["groups"] != 1:
        return [layout for own in call.tensors for layout in own]
    spatial = len(weight) - 2
    return [*axes[: -spatial - 1], *axes[-spatial:], *weight[2:]] if bias is not None else [*axes[-spatial:]]


def _embedded(call: Call) -> Iterable[Layout]:
    return [*call["indices"], call["weight"][0]]


def _attended(call: Call) -> Iterable[Layout]:
    """Attention: linear in the values, and in the products of queries and keys."""
    mask = call["attn_mask"] or ()
    return [*mask, *(layout for name in ("query", "key", "value") for layout in call[name][:-1])]


def _normed(call: Call) -> Iterable[Layout]:
    """A division by the root mean square of the last axis, without a gain."""
    axes, *gain = call.tensors
    return axes[:-1] if not gain and len(call["normalized_shape"]) == 1 else [*axes, *(one for g in gain for one in g)]


_LINEAR: dict[str, Lowered] = {
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"), _nothing),
    **dict.fromkeys(("permute", "transpose", "t", "expand", "cat", "stack", "slice", "select", "split"), _nothing),
    **dict.fromkeys(("split_with_sizes", "chunk", "unbind", "clone", "alias", "contiguous", "detach"), _nothing),
    **dict.fromkeys(("neg", "lift_fresh_copy", "view_as", "reshape_as"), _nothing),
    **dict.fromkeys(("add", "add_", "sub", "sub_"), _added),
    **dict.fromkeys(("mul", "mul_", "div", "div_"), _scaled),
    **dict.fromkeys(REDUCTIONS, _reduced),
    "linear": _linear,
    **dict.fromkeys(("matmul", "mm", "bmm", "addmm", "baddbmm"), _multiplied),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution"), _convolved),
    "embedding": _embedded,
    "scaled_dot_product_attention": _attended,
    "rms_norm": _normed,
}
