"""Rows of a batch stop on their own and leave the sweep."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from stepfold import (
    LeastSquares,
    Quadratic,
    SpectralBounds,
    Status,
    chebyshev_steps,
    solve,
)
from stepfold.problems import QuadraticProblem

SIZE = 30
BOUNDS = SpectralBounds(1.0, 50.0 * (1 + 1e-12))
SCHEDULE = chebyshev_steps(BOUNDS, 4)
ROUNDED = 1e-8 * (1 + 1e-6)  # solve's own tolerance, and what rounding adds to it


@pytest.fixture(scope="module")
def hessian(symmetric_with: Callable[..., np.ndarray]) -> np.ndarray:
    return symmetric_with(np.linspace(1.0, 50.0, SIZE))


@pytest.fixture(scope="module")
def rhs(hessian: np.ndarray) -> np.ndarray:
    """Rows that take 0 steps, many, few, and many again at another scale."""
    vectors = np.linalg.eigh(hessian)[1]
    rng = np.random.default_rng(0)
    # p is 0 at a root of the schedule: that row is all but done after a period.
    return np.stack(
        [np.zeros(SIZE), rng.standard_normal(SIZE), vectors[:, 14], 1e-9 * vectors[:, 0]]
    )


class Widths:
    """A matrix that notes how many columns it is applied to."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = matrix
        self.shape, self.dtype = matrix.shape, matrix.dtype
        self.widths: list[int] = []

    @property
    def T(self) -> "Widths":  # noqa: N802, RUF100 (NumPy's name)
        return self

    def __matmul__(self, x: Any) -> Any:
        self.widths.append(1 if x.ndim == 1 else x.shape[1])
        return self.matrix @ x


def test_rows_that_have_converged_are_taken_out_of_the_sweep(
    hessian: np.ndarray, rhs: np.ndarray
) -> None:
    operator = Widths(hessian)
    problem = Quadratic(operator, rhs)
    problem.gradient(0 * rhs)  # the first products with a batch show that the operator serves one
    operator.widths.clear()
    result = solve(problem, SCHEDULE)
    assert result.converged
    for width in (3, 2):
        assert width in operator.widths
    assert operator.widths == sorted(operator.widths, reverse=True)
    assert operator.widths[0] == 3


def test_each_row_is_the_solution_it_would_be_alone(hessian: np.ndarray, rhs: np.ndarray) -> None:
    together = solve(Quadratic(hessian, rhs), SCHEDULE)
    alone = [solve(Quadratic(hessian, row), SCHEDULE) for row in rhs]
    assert together.num_steps == max(together.row_num_steps)
    assert together.row_statuses == tuple(result.status for result in alone)
    assert len(set(together.row_num_steps)) >= 3
    for row, result in enumerate(alone):
        # Rounding may decide on which side of the tolerance a period ends.
        assert abs(together.row_num_steps[row] - result.num_steps) <= SCHEDULE.period
        assert np.linalg.norm(hessian @ together.x[row] - rhs[row]) <= ROUNDED * np.linalg.norm(
            rhs[row]
        )


@pytest.mark.parametrize(
    "convert", [np.asarray, sp.csr_array, torch.tensor], ids=["dense", "csr", "torch"]
)
def test_every_kind_of_operator_is_cut(
    hessian: np.ndarray, rhs: np.ndarray, convert: Callable[..., Any]
) -> None:
    rows = torch.tensor(rhs) if convert is torch.tensor else rhs
    result = solve(Quadratic(convert(hessian), rows), SCHEDULE)
    assert result.converged
    np.testing.assert_allclose(result.x, np.linalg.solve(hessian, rhs.T).T, atol=1e-7)


def test_least_squares_rows_stop_on_their_own(factor_with: Callable[..., np.ndarray]) -> None:
    factor = factor_with(np.sqrt(np.linspace(1.0, 50.0, SIZE)), 40)
    rhs = np.random.default_rng(0).standard_normal((3, 40))
    rhs[1] = factor @ np.linalg.eigh(factor.T @ factor)[1][:, 14]
    result = solve(LeastSquares(factor, rhs, ridge=0.5), SCHEDULE)
    assert result.converged
    assert result.row_num_steps[1] != result.row_num_steps[0]
    augmented = np.vstack([factor, np.sqrt(0.5) * np.eye(SIZE)])
    padded = np.hstack([rhs, np.zeros((3, SIZE))])
    expected = np.linalg.lstsq(augmented, padded.T, rcond=None)[0].T
    np.testing.assert_allclose(result.x, expected, atol=1e-6)


def test_the_norms_of_a_row_that_has_ended_stay(hessian: np.ndarray, rhs: np.ndarray) -> None:
    result = solve(Quadratic(hessian, rhs), SCHEDULE)
    norms, steps = result.history.gradient_norms, result.history.num_steps
    ended = int(np.flatnonzero(steps == result.row_num_steps[2])[0])
    assert np.all(norms[ended:, 2] == norms[ended, 2])
    assert norms[ended, 2] <= 1e-8 * norms[0, 2]


def test_the_callback_and_the_iterates_see_the_whole_batch(
    hessian: np.ndarray, rhs: np.ndarray
) -> None:
    seen: dict[int, Any] = {}
    result = solve(Quadratic(hessian, rhs), SCHEDULE, callback=seen.__setitem__, keep_iterates=True)
    assert {x.shape for x in seen.values()} == {rhs.shape}
    iterates = result.history.iterates
    assert iterates is not None
    assert len(iterates) == len(result.history.num_steps)
    assert iterates[-1].tolist() == seen[result.num_steps].tolist() == result.x.tolist()


def test_rows_end_differently_and_the_worst_end_is_the_run_s(
    symmetric_with: Callable[..., np.ndarray],
) -> None:
    hessian = symmetric_with([1.0, 2.0, 30.0])
    vectors = np.linalg.eigh(hessian)[1]
    problem = Quadratic(hessian, vectors[:, [1, 0, 2]].T.copy())
    # Steps that kill the second eigenvalue, converge slowly on the first, and diverge on the third.
    schedule = chebyshev_steps(SpectralBounds(2.0, 2.0), 1)
    result = solve(problem, schedule, guard=None, rtol=1e-10, max_steps=12)
    assert result.row_statuses == (Status.CONVERGED, Status.BUDGET, Status.DIVERGED)
    assert result.status is Status.DIVERGED
    assert result.row_num_steps[0] < result.row_num_steps[2] < result.row_num_steps[1] == 12
    assert not result.x[2].any()
    record = json.loads(json.dumps(result.to_dict()))
    assert record["row_statuses"] == ["CONVERGED", "BUDGET", "DIVERGED"]


def test_an_interruption_keeps_what_had_converged(hessian: np.ndarray, rhs: np.ndarray) -> None:
    def callback(count: int, x: Any) -> None:
        if count == 30:
            raise KeyboardInterrupt

    result = solve(Quadratic(hessian, rhs), SCHEDULE, callback=callback)
    assert result.status is Status.INTERRUPTED
    assert result.row_statuses[0] is Status.CONVERGED
    assert result.row_statuses[1] is Status.INTERRUPTED


def test_a_single_problem_has_no_rows(hessian: np.ndarray, rhs: np.ndarray) -> None:
    result = solve(Quadratic(hessian, rhs[1]), SCHEDULE)
    assert (result.row_statuses, result.row_num_steps) == ((), ())


def test_a_batch_of_one_is_solved_like_its_row(hessian: np.ndarray, rhs: np.ndarray) -> None:
    one = solve(Quadratic(hessian, rhs[1:2]), SCHEDULE)
    assert one.x.shape == (1, SIZE)
    alone = solve(Quadratic(hessian, rhs[1]), SCHEDULE)
    assert (one.row_statuses, one.status) == ((alone.status,), alone.status)
    assert abs(one.row_num_steps[0] - alone.num_steps) <= SCHEDULE.period
    np.testing.assert_allclose(one.x[0], alone.x, atol=1e-7 * np.abs(alone.x).max())


class Foreign(QuadraticProblem[np.ndarray]):
    """A family that cannot be cut: its rows stay in the sweep."""

    def __init__(self, inner: QuadraticProblem[np.ndarray]) -> None:
        self.inner = inner

    hessian = property(lambda self: self.inner.hessian)  # type: ignore[assignment]
    linear_term = property(lambda self: self.inner.linear_term)  # type: ignore[assignment]
    products_per_gradient = 1  # type: ignore[assignment]

    def gradient(self, x: np.ndarray) -> np.ndarray:
        return self.inner.gradient(x)

    def gradient_step(self, x: np.ndarray, gamma: Any) -> np.ndarray:
        return self.inner.gradient_step(x, gamma)


@pytest.mark.parametrize("upper", [50.0 * (1 + 1e-12), 25.0])
def test_a_family_that_cannot_be_cut_still_stops_each_row(
    hessian: np.ndarray, rhs: np.ndarray, upper: float
) -> None:
    problem = Foreign(Quadratic(hessian, rhs))
    assert problem.rows_of([0]) is None
    result = solve(problem, chebyshev_steps(SpectralBounds(1.0, upper), 4))
    assert result.converged
    assert result.row_num_steps[0] == 0
    steps, norms = result.history.num_steps, result.history.gradient_norms
    for row, end in enumerate(result.row_num_steps):
        assert np.unique(norms[steps >= end, row]).size == 1
        assert (norms[steps < end, row] > 1e-8 * norms[0, row]).all()
    np.testing.assert_allclose(result.x, np.linalg.solve(hessian, rhs.T).T, atol=1e-7)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_bounds_are_those_of_a_row_that_may_end_before_others(order: list[int]) -> None:
    eigenvalues = np.linspace(0.1, 8.0, 60)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((60, 60)))[0]
    matrix = (basis * eigenvalues) @ basis.T
    # Right-hand sides that take about 60, 20 and 5 steps.
    rows = np.random.default_rng(1).standard_normal((3, 60))
    rows[1, 20:] = rows[2, 5:] = 0
    result = solve(Quadratic((matrix + matrix.T) / 2, (rows @ basis.T)[order]))
    assert result.converged
    assert result.bounds is not None
    assert result.bounds.lower >= 0.05
    assert result.bounds.upper <= 8.5
    again = solve(Quadratic((matrix + matrix.T) / 2, rows @ basis.T), result.schedule)
    assert again.converged
