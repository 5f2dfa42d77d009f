"""The problems inside of a nested group: the assignment of units for every pair of a place and a block."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit
from numpy.typing import NDArray

from onebasin.symmetry.assignment import Duals, solve
from onebasin.symmetry.spec import Group

POOLED_WORK = 2**21  # costs; a round over fewer takes less time than handing it to other threads


@njit(cache=True, nogil=True)
def _bounds(costs, prices, bounds):  # type: ignore[no-untyped-def]
    """Bounds [n] of the problems in one row of blocks, costs [h, n h], from prices [n, h], which get better ones."""
    blocks, units = prices.shape
    for b in range(blocks):
        v, best = prices[b], np.full(units, np.inf)
        least = 0.0
        for i in range(units):
            row = costs[i, b * units : (b + 1) * units]
            u = np.inf
            for j in range(units):
                u = min(u, row[j] - v[j])
            for j in range(units):
                best[j] = min(best[j], row[j] - u)
            least += u
        v[:] = best
        bounds[b] = least + best.sum()


class InnerProblems:
    """The n^2 assignments of a family's units, of which only those are solved that are asked for.

    Args:
        costs: `[n h, n h]`, row = unit in a place of the target, column = unit of a block of the source, each block by
            block.
        prices: column duals `[n, n, h]` to start from; better ones take their place.
        previous: `[n, n, h]`, the columns that are kept where they are still tight.
    """

    def __init__(self, costs: NDArray, prices: NDArray[np.float64], previous: NDArray[np.int64]) -> None:
        blocks, _, units = prices.shape
        self._rows = [costs[b * units : (b + 1) * units] for b in range(blocks)]
        self._prices, self._columns = prices, previous
        self.row_scans = 0

    @classmethod
    def cold(cls, costs: NDArray, group: Group, family: int) -> "InnerProblems":
        """Those of a family of a group whose units all have the costs `[n, n]`, starting from nothing."""
        span, shape = group.span(family), (group.size, group.size, group.inner[family - 1])
        return cls(costs[span, span], np.zeros(shape), np.full(shape, -1))

    def bounds(self, threads: int) -> NDArray[np.float64]:
        """What the cost of each problem is at least `[n, n]`, by duals that row and column reduction find.

        With u_i = min_j c_ij - v_j and then v_j = min_i c_ij - u_i, no reduced cost is negative, so that their sum is
        a bound.
        """
        found = np.empty(self._prices.shape[:2])

        def bound(b: int) -> None:
            _bounds(self._rows[b], self._prices[b], found[b])

        if threads == 1 or self._prices.size * self._prices.shape[2] < POOLED_WORK:
            for b in range(len(found)):
                bound(b)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(bound, range(len(found))))
        self.row_scans += self._prices.size
        return found

    def solve(self, places: NDArray[np.int64], blocks: NDArray[np.int64], threads: int) -> NDArray[np.float64]:
        """The least costs `[m]` of m pairs; `columns` has their assignments from now on."""
        units = self._prices.shape[2]
        costs = np.stack([self._rows[p][:, b * units : (b + 1) * units] for p, b in zip(places, blocks, strict=True)])
        start = Duals(np.zeros((len(costs), units)), self._prices[places, blocks])
        pooled = threads if costs.size >= POOLED_WORK else 1
        found = solve(costs, start, self._columns[places, blocks], threads=pooled)
        self._prices[places, blocks], self._columns[places, blocks] = found.duals.columns, found.columns
        self.row_scans += int(found.row_scans.sum())
        return np.take_along_axis(costs, found.columns[:, :, None], axis=2).sum(axis=(1, 2), dtype=np.float64)

    @property
    def solved(self) -> NDArray[np.int64]:
        """The columns `[n, n, h]` of every problem that was solved."""
        return self._columns

    def columns(self, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """The units `[n, h]` of block `blocks[b]` that go to place b, as `solve` found them."""
        return self._columns[np.arange(len(blocks)), blocks]
