"""Axes of few places that a network looks up by number: queries, keys and values that one layer puts out together.

A layer's units are divided into three, and each third goes its own way. As one axis beside another the thirds would all
be permuted alike; so where an axis is divided, and all that comes of the new axis is that its places are looked up one
by one, every place has a tensor of its own from there on.
"""

import math
from dataclasses import dataclass

from torch.fx import Graph, Node

from onebasin.symmetry.tracing.call import Axes
from onebasin.symmetry.tracing.graph import name_of
from onebasin.symmetry.tracing.layout import PLACE, cut, unflatten

DIVIDING = {"view", "_unsafe_view", "reshape", "unflatten"}
KEEPING = {"alias", "clone", "contiguous", "detach"}


class Apart(tuple[Axes, ...]):
    """A tensor as one for every place of one of its axes, which has length one in them."""


@dataclass(frozen=True)
class Division:
    """How an axis is divided: number `axis` of what a node gets becomes `sizes`, of which the first is looked up."""

    axis: int
    sizes: tuple[int, ...]


def divisions(graph: Graph) -> tuple[dict[Node, Division], dict[Node, int]]:
    """The nodes that divide an axis, all places of which are looked up, and the number of that axis from there on."""
    found: dict[Node, Division] = {}
    numbers: dict[Node, int] = {}
    for node in graph.nodes:
        if node.op == "call_function" and name_of(node) in DIVIDING and len(node.all_input_nodes) == 1:
            division = _division(node.all_input_nodes[0].meta["val"].shape, node.meta["val"].shape)
            places = division and _looked_up(node, division.axis)
            if division and places:
                found[node] = division
                numbers |= places
    return found, numbers


def _division(before: tuple[int, ...], after: tuple[int, ...]) -> Division | None:
    """The one axis that is divided; None if something else happens."""
    axis = next((number for number, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before) - 1)
    behind = len(before) - axis - 1
    sizes = tuple(after[axis : len(after) - behind])
    if len(sizes) < 2 or tuple(before[axis + 1 :]) != tuple(after[len(after) - behind :]):
        return None
    return Division(axis, sizes) if sizes[0] > 1 else None


def _looked_up(start: Node, number: int) -> dict[Node, int] | None:
    """The axis in everything that comes of the start, down to where it is looked up; None if anything else is done."""
    numbers, todo = {start: number}, [start]
    while todo:
        node = todo.pop()
        for user in node.users:
            if name_of(user) in ("select", "unbind"):
                if user.args[0] is not node or _axis(user, node, 1) != numbers[node]:
                    return None
                continue
            moved = _moved(user, node, numbers[node])
            if moved is None:
                return None
            numbers[user] = moved
            todo.append(user)
    return numbers if start.users else None


def _axis(node: Node, given: Node, position: int) -> int:
    axis = node.args[position] if len(node.args) > position else 0
    return axis % given.meta["val"].dim() if isinstance(axis, int) else -1


def _moved(node: Node, given: Node, number: int) -> int | None:
    """The number of the axis after an operation that moves axes; None if it is another operation."""
    name, axes = name_of(node), given.meta["val"].dim()
    if node.op != "call_function" or node.args[:1] != (given,):
        return None
    if name in KEEPING:
        return number
    if name == "permute":
        return [axis % axes for axis in node.args[1]].index(number)  # type: ignore[union-attr]
    if name == "transpose":
        one, other = _axis(node, given, 1), _axis(node, given, 2)
        return {one: other, other: one}.get(number, number)
    if name == "unsqueeze":
        new = node.args[1] % (axes + 1)
        return number + (new <= number)
    if name == "squeeze" and len(node.args) > 1 and isinstance(node.args[1], int):
        gone = _axis(node, given, 1)
        return number - (gone < number) if gone != number and given.meta["val"].shape[gone] == 1 else None
    return None


def divided(axes: Axes, division: Division, reason: str) -> Apart:
    """What becomes of a tensor whose axis is divided: one for every place of the first of the new axes."""
    before, rest, behind = axes[: division.axis], axes[division.axis], axes[division.axis + 1 :]
    count, *inside = division.sizes
    found = []
    for _ in range(count):
        part, rest = cut(rest, math.prod(inside), reason)
        found.append(Axes((*before, PLACE, *unflatten(part, inside, reason), *behind)))
    return Apart(found)
