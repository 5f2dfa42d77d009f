"""Permutations of units: index vectors `p` `[n]` int64, by which new unit i takes the place of old unit `p[i]`."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from onebasin.machine.devices import to_host
from onebasin.symmetry.spec import Axis, Group

POOLED_SIZE = 1024  # units; warm-started problems below it take less time than handing them to other threads


def identity(group: Group, device: torch.device | str) -> Tensor:
    """0, 1, 2, ..."""
    return torch.arange(group.units, device=device)


def random(group: Group, generator: torch.Generator) -> Tensor:
    """A uniformly random permutation."""
    return torch.randperm(group.size, generator=generator)


def telling(group: Group, generator: torch.Generator) -> Tensor:
    """A random permutation that moves every unit: the identity, one draw in two for two units, would prove nothing."""
    return moving(group.size, generator)


def moving(size: int, generator: torch.Generator) -> Tensor:
    """A random cycle of all units."""
    order = torch.randperm(size, generator=generator, device=generator.device)
    return torch.empty_like(order).scatter_(0, order, order.roll(1))


def act(tensor: Tensor, axis: int, parts: Sequence[tuple[Axis, Group, Tensor]]) -> Tensor:
    """The tensor with the entries along `axis` where the permutations put them."""
    return tensor.index_select(axis, places_of(parts, tensor.shape[axis]))


def places_of(parts: Sequence[tuple[Axis, Group, Tensor]], length: int) -> Tensor:
    """Where the entries of an axis come from `[length]` when its parts are permuted."""
    (first, group, index), *rest = parts
    if not rest and first.is_plain() and group.units == length:
        return index
    result = torch.arange(length, device=index.device)
    for place, group, index in parts:
        places, span = place.places(group, result.device), group.span(place.family)
        result[places.flatten()] = places[:, index[span] - span.start].flatten()
    return result


def invert(index: Tensor) -> Tensor:
    """The permutations that undo `index` (`[n]` or `[N, n]`)."""
    return index.argsort(dim=-1)


def compose(first: Tensor, then: Tensor) -> Tensor:
    """The permutations that do what `first` and `then` do one after the other: `old[first][then]`."""
    return first.gather(-1, then)


def is_element(index: Tensor, group: Group) -> bool:
    """Whether all rows of a stack are permutations of the group's units."""
    expected = torch.arange(group.units).expand(len(index), -1)
    index = index.cpu()
    same_form = index.dtype == torch.int64 and index.shape == expected.shape
    return same_form and torch.equal(index.sort(dim=-1).values, expected)


class PermutationSolver:
    """The assignment of largest gain, started from the dual variables of the one before (`symmetry.assignment`)."""

    def __init__(self, models: int, group: Group, warm_start: bool) -> None:
        self.solved = self.row_scans = 0
        self._warm_start = warm_start
        self._prices = np.zeros((models, group.size))

    def best(self, costs: Tensor, models: Sequence[int], old: Tensor) -> tuple[Tensor, np.ndarray]:
        """As `kinds.Solver.best`; equal costs do not count as better."""
        # here, because what permutes without searching starts a second sooner without Numba
        from onebasin.symmetry.assignment import improve

        numbers, before = to_host(costs).numpy(), old.cpu().numpy()

        def solve(row: int) -> tuple[np.ndarray, int, bool]:
            return improve(numbers[row], self._prices[models[row]], before[row], self._warm_start)

        if len(numbers) == 1 or costs.shape[1] < POOLED_SIZE:  # a pool costs more than a small warm solve
            found = [solve(row) for row in range(len(numbers))]
        else:
            with ThreadPoolExecutor(torch.get_num_threads()) as pool:
                found = list(pool.map(solve, range(len(numbers))))
        columns, scans, better = zip(*found, strict=True)
        self.solved += len(found)
        self.row_scans += sum(scans)
        return torch.from_numpy(np.stack(columns)).to(old.device), np.array(better)


def total(costs: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The cost `[k]` of each assignment, summed in float64."""
    problems, size = columns.shape
    return costs[np.arange(problems)[:, None], np.arange(size), columns].sum(axis=1, dtype=np.float64)
