"""The assignment solver against SciPy's, its duals as a proof of optimality, and what a warm start saves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from onebasin.errors import OnebasinError
from onebasin.symmetry.assignment import Assignments, Duals, solve

FAMILIES = {
    "uniform": lambda rng, n: rng.random((n, n)),
    "gaussian": lambda rng, n: rng.standard_normal((n, n)),
    "planted": lambda rng, n: 0.2 * rng.standard_normal((n, n)) - 2 * np.eye(n)[rng.permutation(n)],
    "low rank": lambda rng, n: -rng.standard_normal((n, 3)) @ rng.standard_normal((3, n)),
    "geometric": lambda rng, n: (rng.random((n, 1)) - rng.random((1, n))) ** 2,
    "rank one": lambda rng, n: -np.outer(np.arange(1, n + 1), np.arange(1, n + 1)),
    "tied integers": lambda rng, n: rng.integers(0, 4, (n, n)),
    "equal rows": lambda rng, n: np.tile(rng.random(n), (n, 1)),
    "equal columns": lambda rng, n: np.tile(rng.random((n, 1)), n),
    "constant": lambda rng, n: np.full((n, n), -3.7),
    "zeros of both signs": lambda rng, n: np.where(rng.random((n, n)) < 0.5, 0.0, -0.0),
    "tiny": lambda rng, n: 1e-12 * rng.standard_normal((n, n)),
    "far from zero": lambda rng, n: 1e3 + rng.random((n, n)),
    "nearly tied": lambda rng, n: 1 + 1e-15 * rng.integers(0, 9, (n, n)),
    "of many scales": lambda rng, n: 10.0 ** rng.uniform(-9, 9, (n, n)),
}
STARTS = {
    "none": lambda rng, shape: None,
    "zero": lambda rng, shape: Duals(np.zeros(shape), np.zeros(shape)),
    "random": lambda rng, shape: Duals(rng.standard_normal(shape), rng.standard_normal(shape)),
    "huge": lambda rng, shape: Duals(1e12 * rng.standard_normal(shape), 1e12 * rng.standard_normal(shape)),
    "huge but level": lambda rng, shape: Duals(np.zeros(shape), np.full(shape, 1e12)),
    "largest floats": lambda rng, shape: Duals(np.zeros(shape), rng.choice([-1.7e308, 1.7e308], shape)),
    "stale": lambda rng, shape: solve(rng.standard_normal((*shape, shape[1]))).duals,
}


def make(family: str, seed: int, n: int, k: int = 1, dtype: type = np.float64) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([FAMILIES[family](rng, n) for _ in range(k)]).astype(dtype)


def drifting(n: int, steps: int) -> list[np.ndarray]:
    """Cost matrices [1, n, n] that change a little from one to the next."""
    rng = np.random.default_rng(5)
    return list(np.cumsum([rng.standard_normal((1, n, n)) * (0.01 if s else 1) for s in range(steps)], axis=0))


def total(costs: np.ndarray, columns: np.ndarray) -> float:
    return float(costs[np.arange(len(costs)), columns].sum(dtype=np.float64))


def assert_optimal(costs: np.ndarray, found: Assignments) -> None:
    n = costs.shape[1]
    for c, columns, u, v in zip(
        costs.astype(np.float64), found.columns, found.duals.rows, found.duals.columns, strict=True
    ):
        assert sorted(columns) == list(range(n))
        best = total(c, linear_sum_assignment(c)[1])
        assert total(c, columns) == pytest.approx(best, rel=1e-6, abs=1e-12 * np.abs(c).max())
        reduced = c - u[:, None] - v
        rounding = 1e-13 * n * np.abs(c).max()
        assert reduced.min() >= -rounding
        assert np.abs(reduced[np.arange(n), columns]).max() <= rounding
        assert u.sum() + v.sum() == pytest.approx(best, rel=1e-6, abs=n * rounding)


def assert_same(a: Assignments, b: Assignments) -> None:
    np.testing.assert_array_equal(a.columns, b.columns)
    np.testing.assert_array_equal(a.duals.rows, b.duals.rows)
    np.testing.assert_array_equal(a.duals.columns, b.duals.columns)
    np.testing.assert_array_equal(a.row_scans, b.row_scans)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_total_cost_is_scipys_and_the_duals_prove_it(family, dtype):
    for n in (1, 2, 3, 40, 97):
        costs = make(family, seed=n, n=n, k=2, dtype=dtype)
        assert_optimal(costs, solve(costs))


@pytest.mark.parametrize("family", ["uniform", "gaussian", "planted", "low rank", "tied integers", "constant"])
def test_large_problems_are_solved_exactly(family):
    costs = make(family, seed=0, n=1024 if family == "gaussian" else 500, dtype=np.float32)
    assert_optimal(costs, solve(costs))


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_optimum_does_not_depend_on_the_duals_it_starts_from(family, start):
    costs = make(family, seed=1, n=60, k=2)
    rng = np.random.default_rng(2)
    assert_optimal(costs, solve(costs, STARTS[start](rng, (2, 60)), rng.integers(-5, 70, (2, 60))))


@settings(max_examples=150, deadline=None)
@given(
    family=st.sampled_from(sorted(FAMILIES)),
    start=st.sampled_from(sorted(STARTS)),
    n=st.integers(1, 24),
    seed=st.integers(0, 2**32 - 1),
    single=st.booleans(),
)
def test_any_problem_from_any_start_is_solved_exactly(family, start, n, seed, single):
    costs = make(family, seed, n, dtype=np.float32 if single else np.float64)
    rng = np.random.default_rng(seed)
    assert_optimal(costs, solve(costs, STARTS[start](rng, (1, n)), rng.permutation(n)[None]))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 30), scale=st.floats(-8, 8))
def test_shifting_rows_and_columns_leaves_an_optimal_assignment_optimal(seed, n, scale):
    rng = np.random.default_rng(seed)
    costs = rng.standard_normal((1, n, n))
    shifted = costs - 10**scale * (rng.standard_normal((1, n, 1)) + rng.standard_normal((1, 1, n)))
    best = total(costs[0], linear_sum_assignment(costs[0])[1])
    assert total(costs[0], solve(shifted).columns[0]) == pytest.approx(best, rel=1e-6, abs=1e-6)


def test_a_chain_of_warm_starts_stays_exact():
    found = None
    for costs in drifting(n=80, steps=60):
        found = solve(costs, found and found.duals, found and found.columns)
        assert_optimal(costs, found)


def test_a_warm_start_needs_fewer_row_scans_than_a_cold_one():
    first, second = drifting(n=200, steps=2)
    before = solve(first)
    warm, cold = solve(second, before.duals, before.columns), solve(second)
    assert warm.row_scans[0] < 0.7 * cold.row_scans[0]


def test_solving_an_unchanged_problem_again_scans_each_row_once_and_keeps_the_assignment():
    for family in FAMILIES:
        costs = make(family, seed=3, n=50)
        before = solve(costs)
        again = solve(costs, before.duals, before.columns)
        assert total(costs[0], again.columns[0]) == pytest.approx(total(costs[0], before.columns[0]), rel=1e-12)
        if family in ("uniform", "gaussian", "tied integers", "constant", "zeros of both signs"):
            assert again.row_scans[0] <= 4 * 50  # rounding may free a row or two; never a second cold search


def test_a_tight_previous_assignment_is_kept_among_equals():
    previous = np.random.default_rng(0).permutation(30)[None]
    np.testing.assert_array_equal(solve(np.zeros((1, 30, 30)), previous=previous).columns, previous)


def test_a_planted_permutation_is_recovered():
    rng = np.random.default_rng(4)
    planted = rng.permutation(128)
    gain = np.eye(128)[planted] + 0.05 * rng.standard_normal((128, 128))
    np.testing.assert_array_equal(solve(-gain[None].astype(np.float32)).columns[0], planted)


def test_equal_costs_are_decided_by_the_lowest_index():
    np.testing.assert_array_equal(solve(np.zeros((1, 2, 2))).columns, [[0, 1]])
    costs = make("tied integers", seed=5, n=64)
    assert_same(solve(costs), solve(costs.copy()))


def test_the_sign_of_zero_decides_nothing():
    costs = make("zeros of both signs", seed=5, n=40)
    assert_same(solve(costs), solve(np.zeros_like(costs)))


@pytest.mark.parametrize("family", ["constant", "tied integers"])
def test_ties_cost_a_bounded_number_of_scans_per_row(family):
    assert solve(make(family, seed=6, n=300)).row_scans[0] < 20 * 300


def test_many_threads_and_one_give_identical_results():
    costs = make("gaussian", seed=6, n=50, k=7)
    assert_same(solve(costs, threads=1), solve(costs, threads=2))
    start = solve(make("gaussian", seed=7, n=50, k=7)).duals
    assert_same(solve(costs, start, threads=1), solve(costs, start, threads=2))


def test_each_problem_of_a_batch_is_solved_as_if_alone():
    costs = make("uniform", seed=8, n=20, k=3)
    together = solve(costs)
    for k in range(3):
        np.testing.assert_array_equal(together.columns[k], solve(costs[k : k + 1]).columns[0])


def test_single_precision_costs_are_solved_as_their_exact_double_values():
    costs = make("gaussian", seed=9, n=64, dtype=np.float32)
    assert_same(solve(costs), solve(costs.astype(np.float64)))


def test_a_strided_or_read_only_view_is_solved_and_no_input_is_changed():
    costs = make("gaussian", seed=10, n=32)
    transposed = costs.transpose(0, 2, 1)
    assert_same(solve(transposed), solve(transposed.copy()))
    start = Duals(np.ones((1, 32)), np.arange(32.0)[None])
    previous = np.arange(32)[None]
    for array in (costs, start.rows, start.columns, previous):
        array.flags.writeable = False
    assert_optimal(costs, solve(costs, start, previous))


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_costs_or_duals_that_are_not_finite_are_an_error_of_one_line(bad):
    for threads in (1, 2):
        costs = make("uniform", seed=11, n=5, k=2)
        costs[1, 3, 2] = bad
        with pytest.raises(OnebasinError, match=r"^Assignment problem 1: [^\n]*$"):
            solve(costs, threads=threads)
    costs, good, poor = make("uniform", seed=11, n=5), np.zeros((1, 5)), np.array([[0, 0, bad, 0, 0]])
    with pytest.raises(OnebasinError, match=r"^[^\n]*column duals[^\n]*$"):
        solve(costs, Duals(good, poor))
    with pytest.raises(OnebasinError, match=r"^[^\n]*row duals[^\n]*$"):
        solve(costs, Duals(poor, good))


def test_wrong_shapes_and_types_are_value_errors():
    good, costs = np.zeros((1, 3)), np.zeros((1, 3, 3))
    for wrong in (np.zeros((3, 3)), np.zeros((1, 2, 3)), np.zeros((1, 0, 0)), costs.astype(int)):
        with pytest.raises(ValueError, match="costs must"):
            solve(wrong)
    with pytest.raises(ValueError, match="row duals must have shape"):
        solve(costs, Duals(good[0], good))
    with pytest.raises(ValueError, match="column duals must have shape"):
        solve(costs, Duals(good, np.zeros((1, 4))))
    with pytest.raises(ValueError, match="previous must have shape"):
        solve(costs, previous=np.zeros((1, 4), np.int64))


def test_an_empty_batch_gives_empty_results():
    found = solve(np.empty((0, 4, 4)))
    assert found.columns.shape == found.duals.rows.shape == found.duals.columns.shape == (0, 4)
    assert found.row_scans.shape == (0,)
