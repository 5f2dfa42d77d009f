"""The linear assignment solver of every permutation search: exact, and warm-started by the duals of an earlier solve.

For costs c the problem is min over permutations p of sum_i c[i, p(i)]. Duals u (rows) and v (columns) with
c[i, j] - u[i] - v[j] >= 0 everywhere, and 0 on the pairs of p, prove that p is optimal. Three steps reach them:

1. row reduction: u[i] = min_j c[i, j] - v[j]; a row takes its cheapest column if no other row has it;
2. augmenting row reduction: a free row takes its cheapest column from whoever has it and lowers that column's v until
   the second cheapest is as good (R. Jonker and A. Volgenant, "A shortest augmenting path algorithm for dense and
   sparse linear assignment problems", Computing 38, 1987). The number of these bids is bounded;
3. shortest augmenting paths (Dijkstra over the reduced costs) for the rows that are still free.

Why a warm start is exact: taking u[i] + v[j] from every cost changes the cost of each permutation by the same
constant, sum(u) + sum(v), so that any finite duals are a valid start and good ones leave few rows free. This is the
accelerated weight matching of STE-MM, which accumulates duals U, V and solves on C - U 1^T - 1 V^T (M. Ito, M. Yamada,
A. Kumagai, "Linear Mode Connectivity between Multiple Models modulo Permutation Symmetries", ICML 2025, Algorithm 3).
Here the shift is applied on the fly, row by row; only v has to be carried, because step 1 recomputes the best u.

Costs are shifted in float64 whatever their own type. Equal values are decided by the lowest index, free columns first.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from onebasin.errors import OnebasinError

BIDS_PER_FREE_ROW = 8  # on average, then step 3 takes over; 4 and 16 were slower on recorded STE-MM costs
BLOCK = 64  # columns that `_argmin` passes over at once
LARGEST_RANGE = 1e200  # of the costs, so that no sum of them overflows


@dataclass(frozen=True)
class Duals:
    """Dual variables of k problems of size n: `rows` u [k, n] and `columns` v [k, n], float64."""

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]


@dataclass(frozen=True)
class Assignments:
    """Optimal assignments of k problems of size n.

    columns: [k, n] int64, the column given to each row.
    duals: optimal duals; costs - u - v is 0 on the assignment and nowhere negative, up to float64 rounding.
    row_scans: [k] int64, how many passes over a row of n costs were needed: a measure of work that is reproducible.
    """

    columns: NDArray[np.int64]
    duals: Duals
    row_scans: NDArray[np.int64]


@njit(cache=True, nogil=True)
def _shift(row, prices, out):  # type: ignore[no-untyped-def]
    for j in range(row.shape[0]):
        out[j] = row[j] - prices[j] + 0.0  # + 0.0 turns -0.0 into 0.0: `_argmin` compares bits


@njit(cache=True, nogil=True)
def _ordered(bits):  # type: ignore[no-untyped-def]
    """The bits of a float64 as an integer that sorts like the float; its own inverse."""
    return bits ^ ((bits >> 63) & 0x7FFFFFFFFFFFFFFF)


@njit(cache=True, nogil=True)
def _argmin(values):  # type: ignore[no-untyped-def]
    """First index of the least value. A minimum of integers vectorises; one of floats, with its NaN rule, does not."""
    bits = values.view(np.int64)
    least = np.int64(0x7FFFFFFFFFFFFFFF)
    for j in range(bits.shape[0]):
        least = min(least, _ordered(bits[j]))
    least = _ordered(least)
    j = 0
    while j + BLOCK <= bits.shape[0]:  # a block without it is passed over at once: this vectorises, a search does not
        found = 0
        for k in range(j, j + BLOCK):
            found += bits[k] == least
        if found:
            break
        j += BLOCK
    while bits[j] != least:
        j += 1
    return j


@njit(cache=True, nogil=True)
def _reduce_rows(costs, v, previous, column_of, row_of, free, reduced):  # type: ignore[no-untyped-def]
    """Step 1; previous pairs that are still tight come first. Returns the number of rows written to `free`."""
    n = costs.shape[0]
    cheapest = np.empty(n, np.int64)
    for i in range(n):
        _shift(costs[i], v, reduced)
        cheapest[i] = _argmin(reduced)
        kept = previous[i]
        if 0 <= kept < n and row_of[kept] < 0 and reduced[kept] == reduced[cheapest[i]]:
            column_of[i], row_of[kept] = kept, i
    count = 0
    for i in range(n):
        if column_of[i] < 0:
            if row_of[cheapest[i]] < 0:
                column_of[i], row_of[cheapest[i]] = cheapest[i], i
            else:
                free[count] = i
                count += 1
    return count


@njit(cache=True, nogil=True)
def _bid(costs, v, column_of, row_of, free, count, reduced):  # type: ignore[no-untyped-def]
    """Step 2, with `free` as a circular queue of `count` rows. Returns the number of bids made."""
    n = costs.shape[0]
    budget = BIDS_PER_FREE_ROW * count
    head = bids = 0
    while count > 0 and bids < budget:
        i = free[head]
        head = (head + 1) % n
        count -= 1
        bids += 1
        _shift(costs[i], v, reduced)
        j = _argmin(reduced)
        cheapest = reduced[j]
        reduced[j] = np.inf
        second = _argmin(reduced)
        if cheapest < reduced[second]:
            v[j] -= reduced[second] - cheapest
        elif row_of[j] >= 0:
            j = second  # as cheap, and perhaps free
        loser = row_of[j]
        column_of[i], row_of[j] = j, i
        if loser >= 0:
            column_of[loser] = -1
            free[(head + count) % n] = loser
            count += 1
    return bids


@njit(cache=True, nogil=True)
def _relax(row, prices, shift, i, distance, reached_from):  # type: ignore[no-untyped-def]
    """Shorten the paths to all columns that are nearer through row i. The hot loop: it must stay vectorisable."""
    for j in range(row.shape[0]):
        through = row[j] - prices[j] + shift
        if through < distance[j]:
            distance[j] = through
            reached_from[j] = i


@njit(cache=True, nogil=True)
def _nearest(distance, row_of, before):  # type: ignore[no-untyped-def]
    """The nearest column. Where the search makes no headway (many ties), a free one among equals ends it."""
    j = _argmin(distance)
    if row_of[j] >= 0 and distance[j] <= before:
        for other in range(j + 1, distance.shape[0]):
            if distance[other] == distance[j] and row_of[other] < 0:
                return other
    return j


@njit(cache=True, nogil=True)
def _augment(costs, v, column_of, row_of, source, distance):  # type: ignore[no-untyped-def]
    """Step 3 for the free row `source`: assign along a shortest path to a free column. Returns the rows scanned."""
    n = costs.shape[0]
    reached_from = np.empty(n, np.int64)
    done = np.empty(n, np.int64)
    done_at = np.empty(n)
    prices = v.copy()
    distance[:] = np.inf
    i, shift, length, count = source, 0.0, np.inf, 0
    while True:
        _relax(costs[i], prices, shift, i, distance, reached_from)
        j = _nearest(distance, row_of, length)
        length = distance[j]
        if row_of[j] < 0:
            break
        done[count], done_at[count] = j, length
        count += 1
        distance[j], prices[j] = np.inf, -np.inf  # never again nearest, never again shortened
        i = row_of[j]
        shift = length - (costs[i, j] - v[j])
    for k in range(count):
        v[done[k]] -= length - done_at[k]
    i = -1
    while i != source:
        i = reached_from[j]
        row_of[j] = i
        column_of[i], j = j, column_of[i]
    return count + 1


@njit(cache=True, nogil=True)
def _solve_one(costs, v, previous):  # type: ignore[no-untyped-def]
    """Solve one problem. Moves v to optimal column duals; returns the columns, the row duals and the row scans."""
    n = costs.shape[0]
    column_of = np.full(n, -1, np.int64)
    row_of = np.full(n, -1, np.int64)
    free = np.empty(n, np.int64)
    work = np.empty(n)
    count = _reduce_rows(costs, v, previous, column_of, row_of, free, work)
    scans = n + _bid(costs, v, column_of, row_of, free, count, work)
    for i in range(n):
        if column_of[i] < 0:
            scans += _augment(costs, v, column_of, row_of, i, work)
    u = np.empty(n)
    for i in range(n):
        u[i] = costs[i, column_of[i]] - v[column_of[i]]
    return column_of, u, scans


@njit(cache=True, nogil=True)
def _improve(costs, v, previous, old):  # type: ignore[no-untyped-def]
    """`_solve_one`, and whether what it found costs less than `old`."""
    columns, _, scans = _solve_one(costs, v, previous)
    before = after = 0.0
    for i in range(columns.shape[0]):
        if columns[i] != old[i]:
            before += costs[i, old[i]]
            after += costs[i, columns[i]]
    return columns, scans, after < before


def _first_prices(costs: NDArray, columns: NDArray | None, problem: int) -> NDArray[np.float64]:
    """Column duals [n] to start one problem [n, n] from: `columns`, shifted to start at 0, or zeros (a cold start).

    Sorted optimal column duals have no gap above the range of the costs (across one, every row would prefer the
    larger side), so that theirs is below n times that range. Duals with a larger range are far from any optimum and
    would swallow the digits of the costs: the rule is to start cold. Raises OnebasinError for costs not finite.
    """
    lowest, highest = float(costs.min()), float(costs.max())
    if not highest - lowest <= LARGEST_RANGE:  # also true of NaN
        raise OnebasinError(
            f"Assignment problem {problem}: the costs run from {lowest} to {highest}, but must be finite and span "
            f"at most {LARGEST_RANGE:g}. Look for diverged weights."
        )
    if columns is None or float(columns.max()) - float(columns.min()) > len(costs) * (highest - lowest):
        return np.zeros(len(costs))
    return columns.astype(np.float64) - columns.min()


def _checked(name: str, values: NDArray, shape: tuple[int, ...]) -> NDArray:
    """`values`, if they have that shape (else ValueError) and are finite (else OnebasinError)."""
    if values.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, not {values.shape}")
    if not np.isfinite(values).all():
        raise OnebasinError(f"Assignment: the {name} to start from hold NaN or infinity. Start without them.")
    return values


def improve(
    costs: NDArray, prices: NDArray[np.float64], old: NDArray[np.int64], warm_start: bool
) -> tuple[NDArray[np.int64], int, bool]:
    """Solve one problem `[n, n]` exactly, as `solve` does, where an assignment is known.

    prices: `[n]` column duals of the last problem, which become those of this one.
    old: `[n]`, the assignment that is known.
    warm_start: start from these duals, and leave the old pairs wherever they are still tight.

    Returns the columns, the row scans, and whether they cost less (in float64) than the old ones; of equals not.
    Raises OnebasinError for costs that are not finite.
    """
    costs = np.ascontiguousarray(costs)
    v = _first_prices(costs, prices if warm_start else None, 0)
    columns, scans, better = _improve(costs, v, old if warm_start else np.full(len(old), -1), old)
    prices[:] = v
    return columns, scans, better


def solve(costs: NDArray, start: Duals | None = None, previous: NDArray | None = None, threads: int = 1) -> Assignments:
    """Solve k linear assignment problems exactly, for the least total cost (pass minus the gain to maximise it).

    costs: [k, n, n] float32 or float64, n >= 1; not copied where each [n, n] is contiguous.
    start: duals of a related problem. They change the work to be done, not the optimum; the row duals are not used
        (step 1 of the module) and column duals far beyond the costs are dropped (see `_first_prices`).
    previous: [k, n] integers, an earlier assignment; a pair stays wherever it is still tight under `start`.
    threads: problems solved at once; it changes no result.

    Raises ValueError for wrong shapes or types, OnebasinError for costs or duals that are not finite.
    """
    if costs.ndim != 3 or costs.shape[1] != costs.shape[2] or costs.shape[1] < 1:
        raise ValueError(f"costs must have shape [k, n, n] with n >= 1, not {costs.shape}")
    if costs.dtype not in (np.float32, np.float64):
        raise ValueError(f"costs must be float32 or float64, not {costs.dtype}")
    shape = costs.shape[:2]
    kept = np.full(shape, -1) if previous is None else _checked("previous", previous, shape).astype(np.int64)
    prices = None if start is None else _checked("column duals", start.columns, shape)
    if start is not None:
        _checked("row duals", start.rows, shape)
    columns, u, v, scans = np.empty(shape, np.int64), np.empty(shape), np.empty(shape), np.empty(len(costs), np.int64)

    def solve_one(k: int) -> None:
        cost = np.ascontiguousarray(costs[k])
        v[k] = _first_prices(cost, None if prices is None else prices[k], k)
        columns[k], u[k], scans[k] = _solve_one(cost, v[k], kept[k])

    if threads == 1:  # a pool costs more than a small warm solve
        for k in range(len(costs)):
            solve_one(k)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(solve_one, range(len(costs))))  # the list raises what a thread raised
    return Assignments(columns, Duals(u, v), scans)
