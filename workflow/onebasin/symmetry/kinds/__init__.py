"""Kinds of groups: which elements a group may have, and what is done with them.

Everything else (searches, merging, files, proofs) knows of a kind no more than the functions of its record.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from onebasin.errors import OnebasinError
from onebasin.symmetry.kinds import nested, orthogonal, permutation
from onebasin.symmetry.spec import Axis, Group, Spec

Parts = Sequence[tuple[Axis, Group, Tensor]]
"""Where along one axis of a tensor elements act: the place, the group, and the element."""


class Solver(Protocol):
    """Finds the best elements of one group for N models, and remembers what makes the next time cheaper.

    Attributes:
        solved: number of problems solved so far.
        row_scans: the work that they took, whatever the machine.
    """

    solved: int
    row_scans: int

    def best(self, costs: Tensor, models: Sequence[int], old: Tensor) -> tuple[Tensor, np.ndarray]:
        """The elements of largest gain, and a mask `[k]` of those that are better than the old ones.

        Args:
            costs: `[k, n, n]` for a group of n units, the negative gains: row = place in the target, column = unit of
                the source.
            models: which of the N models the k problems are of.
            old: their present elements.
        """
        ...


@dataclass(frozen=True)
class Kind:
    """A kind of groups; an element is a tensor, a stack of them has a leading model axis.

    Attributes:
        identity: `(group, device)` -> the element that changes nothing.
        random: `(group, generator)` -> an element drawn uniformly.
        telling: `(group, generator)` -> an element drawn so that it leaves nothing where it is, for proofs.
        act: `(tensor, axis, parts)` -> the tensor of one model with elements acting along one axis (`Parts`).
        invert, compose: of elements, or of stacks of them.
        is_element: `(stack, group)` -> whether every entry of a stack is an element.
        solver: `(models, group, warm_start)` -> `Solver`. With `warm_start` a problem starts where the last of the same
            model ended, the first one from the old element.
        moves_units: whether an element is an index vector that puts units elsewhere, one by one.
    """

    identity: Callable[[Group, torch.device | str], Tensor]
    random: Callable[[Group, torch.Generator], Tensor]
    telling: Callable[[Group, torch.Generator], Tensor]
    act: Callable[[Tensor, int, Parts], Tensor]
    invert: Callable[[Tensor], Tensor]
    compose: Callable[[Tensor, Tensor], Tensor]
    is_element: Callable[[Tensor, Group], bool]
    solver: Callable[[int, Group, bool], Solver]
    moves_units: bool = False


KINDS: dict[str, Kind] = {
    "permutation": Kind(
        permutation.identity,
        permutation.random,
        permutation.telling,
        permutation.act,
        permutation.invert,
        permutation.compose,
        permutation.is_element,
        permutation.PermutationSolver,
        moves_units=True,
    ),
    "nested": Kind(
        permutation.identity,
        nested.random,
        nested.telling,
        permutation.act,
        permutation.invert,
        permutation.compose,
        nested.is_element,
        nested.NestedSolver,
        moves_units=True,
    ),
    "orthogonal": Kind(
        orthogonal.identity,
        orthogonal.random,
        orthogonal.random,
        orthogonal.act,
        orthogonal.invert,
        orthogonal.compose,
        orthogonal.is_element,
        orthogonal.OrthogonalSolver,
    ),
}


def kind_of(group: Group) -> Kind:
    """The kind of a group.

    Raises:
        OnebasinError: there is none of that name.
    """
    if group.kind not in KINDS:
        raise OnebasinError(f"group {group.name}: no kind called '{group.kind}'; known: {', '.join(KINDS)}")
    return KINDS[group.kind]


def require_permutations(spec: Spec, method: str) -> None:
    """Refuse a method that knows permutations alone a network that has groups of another kind.

    Raises:
        OnebasinError: there is one.
    """
    other = next((group for group in spec.groups if not kind_of(group).moves_units), None)
    if other is not None:
        raise OnebasinError(
            f"{method}: group {other.name} is {other.kind}, and it knows permutations alone; take another"
        )
