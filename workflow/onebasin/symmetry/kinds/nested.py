"""Permutations of blocks with a permutation of units inside each block: heads and their coordinates, experts and their
hidden units.

An element is an index vector of all units (`symmetry.spec.Group`), as a permutation is, but one that keeps the units of
a block together: `order[b]` is the old block in place b, and unit u of family f in that place is unit `inside[f][b, u]`
of that old block.

The best element is exact. The gain of a joint choice is a sum over blocks, and what a block gains in a place depends on
nothing but the units inside these two: so for every pair of a place and a block there is an assignment of units, a
family, and over their values one of blocks. Most of the inner problems need not be solved. Dual variables of an inner
problem bound its costs from below; an assignment of blocks by such bounds that takes none but solved pairs is the best
one, and else the pairs that it takes are those to solve next.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from onebasin.machine.devices import to_host
from onebasin.symmetry.kinds.permutation import is_element as is_permutation
from onebasin.symmetry.kinds.permutation import moving, total
from onebasin.symmetry.spec import Group


def joint(group: Group, order: Tensor, inside: Sequence[Tensor]) -> Tensor:
    """The element that `order` `[n]` and `inside`, `[n, h]` a family, make up."""
    parts = [order]
    for family, units in enumerate(inside, start=1):
        parts.append(group.span(family).start + (order[:, None] * units.shape[1] + units).flatten())
    return torch.cat(parts)


def parted(group: Group, element: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The order `[n]` of the blocks in an element, and the units inside them, `[n, h]` a family."""
    order, inside = element[: group.size], []
    for family, units in enumerate(group.inner, start=1):
        span = group.span(family)
        inside.append((element[span] - span.start).view(group.size, units) - order[:, None] * units)
    return order, inside


def random(group: Group, generator: torch.Generator) -> Tensor:
    """A uniformly random element."""
    order = torch.randperm(group.size, generator=generator)
    inside = [
        torch.stack([torch.randperm(units, generator=generator) for _ in range(group.size)]) for units in group.inner
    ]
    return joint(group, order, inside)


def telling(group: Group, generator: torch.Generator) -> Tensor:
    """A random element that moves every block, and every unit inside of each."""
    inside = [torch.stack([moving(units, generator) for _ in range(group.size)]) for units in group.inner]
    return joint(group, moving(group.size, generator), inside)


def is_element(stack: Tensor, group: Group) -> bool:
    """Whether every row of a stack is a permutation of all units that keeps families and blocks together."""
    if not is_permutation(stack, group):
        return False
    for element in stack.cpu():
        order, inside = parted(group, element)
        if int(order.max()) >= group.size or any(bool((u < 0).any() or (u >= u.shape[1]).any()) for u in inside):
            return False
    return True


class NestedSolver:
    """The element of largest gain. Dual variables are kept for every pair of a place and a block, at first all 0.

    For N models, n blocks and families of h units each, that is N n^2 h numbers a family beside the costs, N (n h)^2.
    """

    def __init__(self, models: int, group: Group, warm_start: bool) -> None:
        self.solved = self.row_scans = 0
        self._group, self._warm_start = group, warm_start
        self._prices = [np.zeros((models, group.size, group.size, units)) for units in group.inner]

    def best(self, costs: Tensor, models: Sequence[int], old: Tensor) -> tuple[Tensor, np.ndarray]:
        """As `kinds.Solver.best`; equal costs do not count as better."""
        numbers, before = to_host(costs).numpy(), old.cpu()
        rows = zip(numbers, models, before, strict=True)
        found = torch.stack([self._best(own, model, element) for own, model, element in rows])
        improved = total(numbers, found.numpy()) < total(numbers, before.numpy())
        return found.to(old.device), improved

    def _best(self, costs: np.ndarray, model: int, old: Tensor) -> Tensor:
        # here, because what permutes without searching starts a second sooner without Numba
        from onebasin.symmetry.assignment import solve
        from onebasin.symmetry.inner import InnerProblems

        group, threads, places = self._group, torch.get_num_threads(), np.arange(self._group.size)
        previous, units = parted(group, old)
        families = []
        for family, prices in enumerate(self._prices, start=1):
            if not self._warm_start:
                prices[model] = 0
            columns = np.full(prices.shape[1:], -1)
            if self._warm_start:
                columns[places, previous.numpy()] = units[family - 1].numpy()
            own = costs[group.span(family), group.span(family)]
            families.append(InnerProblems(own, prices[model], columns))
        of_blocks = costs[group.span(0), group.span(0)].astype(np.float64)
        values = of_blocks + sum(family.bounds(threads) for family in families)
        kept = previous.numpy()[None] if self._warm_start else None
        solved = np.zeros(values.shape, dtype=bool)
        while True:
            found = solve(values[None], None, kept)
            [order] = found.columns
            self.solved += 1
            self.row_scans += int(found.row_scans[0])
            todo = np.flatnonzero(~solved[places, order])
            if not len(todo):
                break
            pair = todo, order[todo]
            values[pair] = of_blocks[pair] + sum(family.solve(*pair, threads) for family in families)
            solved[pair] = True
            self.solved += len(todo) * len(families)
        self.row_scans += sum(family.row_scans for family in families)
        return joint(group, torch.from_numpy(order), [torch.from_numpy(family.columns(order)) for family in families])
