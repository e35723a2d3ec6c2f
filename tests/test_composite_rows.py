"""Batches of composite objectives: how each row ends, and what that does to the others."""

from typing import Any

import numpy as np
import pytest
import torch
from _penalties import PLAIN, SIZE, example

from stepfold import LeastSquares, Quadratic, Schedule, Status, lasso, solve
from stepfold.iterations import Fista, ProximalGradient
from stepfold.problems import Composite, Logistic
from stepfold.problems.penalties import L1


def _sparse_data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((50, 80))
    return matrix, matrix[:, :5] @ np.ones(5) + 0.1 * rng.standard_normal(50)


def _assert_steps_differ_by_a_period_at_most(together: Any, alone: Any, *, period: int) -> None:
    """Rounding may decide on which side of the tolerance a period ends."""
    for row, one in zip(together.row_num_steps, alone, strict=True):
        assert abs(row - one.num_steps) <= period


def test_each_row_tells_how_it_ended_and_after_how_many_steps() -> None:
    matrix, rhs = _sparse_data()
    batch = np.stack([rhs, 0 * rhs, 0.1 * rhs])
    schedule = Schedule(np.full(10, lasso(matrix, rhs, weight=5.0).step))
    result = solve(lasso(matrix, batch, weight=5.0), schedule, gap_atol=1e-9)
    assert result.row_statuses == (Status.CONVERGED,) * 3
    alone = [solve(lasso(matrix, row, weight=5.0), schedule, gap_atol=1e-9) for row in batch]
    _assert_steps_differ_by_a_period_at_most(result, alone, period=10)
    assert (result.row_num_steps[1], max(result.row_num_steps)) == (0, result.num_steps)
    assert (alone[0].row_statuses, alone[0].row_num_steps) == ((), ())


def test_a_row_that_is_left_when_the_budget_is_spent_says_so() -> None:
    matrix, rhs = _sparse_data()
    objective = lasso(matrix, np.stack([rhs, 0 * rhs]), weight=5.0)
    short = solve(objective, gap_atol=1e-9, max_steps=20)
    assert short.row_statuses == (Status.BUDGET, Status.CONVERGED)
    assert short.row_num_steps == (20, 0)
    schedule = Schedule(np.full(5, 3 * objective.step))
    wild = solve(objective, schedule, iteration=ProximalGradient)
    assert (wild.status, wild.row_statuses[0]) == (Status.DIVERGED, Status.DIVERGED)


@pytest.mark.parametrize("method", [Fista, ProximalGradient])
@pytest.mark.parametrize("name", PLAIN)
def test_a_row_that_is_not_finite_any_more_does_not_end_the_others(name: str, method: Any) -> None:
    rng = np.random.default_rng(2)
    matrix, rhs = rng.standard_normal((12, SIZE)), rng.standard_normal((3, 12))
    start = np.zeros((3, SIZE))
    start[1] = 1e308  # its gradient overflows
    objective = Composite(LeastSquares(matrix, rhs), example(name))
    schedule = Schedule(np.full(10, objective.step))
    result = solve(objective, schedule, start, iteration=method)
    alone = [
        solve(Composite(LeastSquares(matrix, row), objective.penalty), schedule, iteration=method)
        for row in rhs
    ]
    ends = (Status.CONVERGED, Status.DIVERGED, Status.CONVERGED)
    assert (result.status, result.row_statuses) == (Status.DIVERGED, ends)
    assert result.row_num_steps[1] == 0
    for row in (0, 2):
        assert abs(result.row_num_steps[row] - alone[row].num_steps) <= schedule.period
        np.testing.assert_allclose(result.x[row], alone[row].x, atol=1e-6)
    np.testing.assert_array_equal(result.x[1], start[1])


def test_a_row_that_a_step_throws_out_leaves_its_fellows_alone() -> None:
    # Steps beyond 2/b for the first eigenvalue only, which the second row has no part in.
    matrix, rhs = np.diag([10.0, 1.0]), np.array([[1.0, 1.0], [0.0, 1.0]])
    result = solve(
        Composite(Quadratic(matrix, rhs), L1(0.1)),
        Schedule([0.5]),
        iteration=ProximalGradient,
    )
    assert result.row_statuses == (Status.DIVERGED, Status.CONVERGED)
    np.testing.assert_allclose(result.x[1], [0.0, 0.9], atol=1e-7)
    assert np.isfinite(result.x).all()
    assert result.history.gradient_norms.shape == (len(result.history.num_steps), 2)


@pytest.mark.parametrize("method", [Fista, ProximalGradient])
@pytest.mark.parametrize("kind", ["least squares", "quadratic", "logistic", "tensors"])
def test_rows_that_are_done_leave_the_sweep_and_the_others_do_not_notice(
    kind: str, method: Any
) -> None:
    rng = np.random.default_rng(4)
    matrix = rng.standard_normal((40, SIZE))
    rhs = rng.standard_normal((4, 40)) * np.array([[0.01], [1.0], [100.0], [0.0]])
    make: Any = {
        "least squares": lambda b: LeastSquares(matrix, b),
        "quadratic": lambda b: Quadratic(matrix.T @ matrix, b @ matrix),
        "logistic": lambda b: Logistic(matrix, np.where(b > 0, 1.0, -1.0)),
        "tensors": lambda b: LeastSquares(torch.tensor(matrix), torch.tensor(b)),
    }[kind]
    schedule = Schedule(np.full(5, Composite(make(rhs), L1(1.0)).step))
    sizes = []
    real = method.step

    def watch(self: Any, problem: Any, state: Any, *rest: Any) -> Any:
        sizes.append(len(self.iterate(state)))
        return real(self, problem, state, *rest)

    options: dict[str, Any] = {"rtol": 1e-9, "iteration": method}
    seen: list[tuple[int, ...]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method, "step", watch)
        result = solve(
            Composite(make(rhs), L1(1.0)),
            schedule,
            callback=lambda _, x: seen.append(tuple(x.shape)),
            **options,
        )
    alone = [solve(Composite(make(b), L1(1.0)), schedule, **options) for b in rhs]
    _assert_steps_differ_by_a_period_at_most(result, alone, period=5)
    for row, one in zip(np.asarray(result.x), alone, strict=True):
        expected = np.asarray(one.x)
        np.testing.assert_allclose(row, expected, atol=1e-7 * np.abs(expected).max())
    assert set(seen) == {(4, SIZE)}
    assert sizes == [sum(t < n for n in result.row_num_steps) for t in range(result.num_steps)]


class Interrupting:
    """A matrix whose product number ``at`` is interrupted."""

    def __init__(self, matrix: np.ndarray, at: int) -> None:
        self._matrix, self._left = matrix, [at]
        self.shape, self.dtype = matrix.shape, matrix.dtype

    @property
    def T(self) -> Any:
        twin = Interrupting(self._matrix.T, 0)
        twin._left = self._left
        return twin

    def __matmul__(self, x: Any) -> Any:
        self._left[0] -= 1
        if self._left[0] == 0:
            raise KeyboardInterrupt
        return self._matrix @ x


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("at", [2, 3, 4, 5])
def test_an_interrupt_before_the_first_check_returns_the_start(at: int, rows: int) -> None:
    # The first product is that of the linear term, two more look at 0, and two at the start.
    matrix, rhs = _sparse_data()
    batch, start = (rhs, np.ones(80)) if rows == 1 else (np.stack([rhs, rhs]), np.ones((2, 80)))
    operator = Interrupting(matrix, 0)
    problem = LeastSquares(operator, batch)
    problem.gradient(start)  # the first products with a batch show that the operator serves one
    operator._left[0] = at
    objective = Composite(problem, L1(5.0))
    result = solve(objective, Schedule([1e-3]), start)
    assert (result.status, result.num_steps) == (Status.INTERRUPTED, 0)
    assert result.row_statuses == (Status.INTERRUPTED,) * (rows if rows > 1 else 0)
    np.testing.assert_array_equal(result.x, start)
    assert result.x is not start
    assert result.history.gradient_norms.shape == ((0,) if rows == 1 else (0, 2))
    assert result.to_dict()["status"] == "INTERRUPTED"


def test_an_interrupt_keeps_what_has_converged() -> None:
    matrix, rhs = _sparse_data()

    def interrupt(num_steps: int, _: Any) -> None:
        if num_steps == 15:
            raise KeyboardInterrupt

    objective = lasso(matrix, np.stack([rhs, 0 * rhs]), weight=5.0)
    result = solve(objective, callback=interrupt)
    assert result.row_statuses == (Status.INTERRUPTED, Status.CONVERGED)
    assert (result.status, result.row_num_steps) == (Status.INTERRUPTED, (15, 0))


def test_no_time_at_all_is_a_spent_budget() -> None:
    matrix, rhs = _sparse_data()
    start = np.ones(80)
    result = solve(lasso(matrix, rhs, weight=5.0), x0=start, max_seconds=0.0)
    assert (result.status, result.num_steps) == (Status.BUDGET, 0)
    np.testing.assert_array_equal(result.x, start)


def test_a_row_that_stalls_leaves_the_others_time() -> None:
    matrix, rhs = _sparse_data()
    # The gap of the large row stops falling at its own rounding, which is above the tolerance.
    objective = lasso(matrix, np.stack([1e6 * rhs, rhs]), weight=5.0)
    result = solve(objective, gap_atol=1e-9, max_steps=200_000)
    assert result.row_statuses == (Status.STALLED, Status.CONVERGED)
    assert result.status is Status.STALLED
