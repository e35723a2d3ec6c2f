"""SciPy's solvers through one adapter: our problems, our records, counted products."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import (
    aslinearoperator,
    bicgstab,
    cg,
    cgs,
    gmres,
    lsmr,
    lsqr,
    minres,
)

from stepfold import LeastSquares, Quadratic, Status
from stepfold.interop.scipy import solve_with

SQUARE = {f.__name__: f for f in (cg, minres, bicgstab, cgs)}
TALL = {f.__name__: f for f in (lsqr, lsmr)}
KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "dense": lambda a: a,
    "csr": sp.csr_array,
    "operator": aslinearoperator,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SQUARE)
def test_square_solvers_solve_quadratics(
    symmetric_with: Callable[..., np.ndarray], name: str, kind: str
) -> None:
    matrix = symmetric_with(np.linspace(1.0, 20.0, 25))
    b = np.arange(25.0)
    result = solve_with(SQUARE[name], Quadratic(KINDS[kind](matrix), b), rtol=1e-9)
    assert result.status in (Status.CONVERGED, Status.STALLED)  # minres has its own rule
    np.testing.assert_allclose(result.x, np.linalg.solve(matrix, b), rtol=1e-6)
    assert result.schedule.name == f"scipy.{name}"


@pytest.mark.parametrize("ridge", [0.0, 3.0])
@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("name", [*SQUARE, *TALL])
def test_every_solver_solves_least_squares_with_our_ridge(
    factor_with: Callable[..., np.ndarray], name: str, ridge: float, start: bool
) -> None:
    matrix = factor_with(np.linspace(1.0, 5.0, 12), 20)
    b = np.arange(20.0)
    x0 = np.full(12, 3.0) if start else None
    result = solve_with((SQUARE | TALL)[name], LeastSquares(matrix, b, ridge=ridge), x0, rtol=1e-9)
    assert result.status in (Status.CONVERGED, Status.STALLED)
    expected = np.linalg.solve(matrix.T @ matrix + ridge * np.eye(12), matrix.T @ b)
    np.testing.assert_allclose(result.x, expected, atol=1e-5)


@pytest.mark.parametrize("consistent", [False, True])
@pytest.mark.parametrize("name", TALL)
@pytest.mark.parametrize("rtol", [1e-3, 1e-10])
def test_our_tolerance_is_met_by_the_least_squares_solvers(
    factor_with: Callable[..., np.ndarray], name: str, rtol: float, consistent: bool
) -> None:
    matrix = factor_with(np.geomspace(1.0, 30.0, 20), 40)
    b = matrix @ np.ones(20) if consistent else np.arange(40.0)
    problem = LeastSquares(matrix, b)
    result = solve_with(TALL[name], problem, rtol=rtol)
    assert result.status is Status.CONVERGED
    reference = np.linalg.norm(problem.gradient(np.zeros(20)))
    assert np.linalg.norm(problem.gradient(result.x)) <= rtol * reference


@pytest.mark.parametrize("name", ["cg", "lsqr", "lsmr"])
def test_products_and_steps_are_counted(
    factor_with: Callable[..., np.ndarray], counting: Any, name: str
) -> None:
    matrix = factor_with(np.linspace(1.0, 5.0, 12), 20)
    operator = counting(matrix)
    problem = LeastSquares(operator, np.arange(20.0))
    result = solve_with((SQUARE | TALL)[name], problem, rtol=1e-6)
    history = result.history
    assert history.num_steps[-1] == result.num_steps
    assert history.num_products[0] == 0
    own = 1 + 2 * len(history.num_steps)  # Aᵀb for cg and the gradients of the records
    spent = operator.counter[0] - history.num_products[-1]
    assert own <= spent <= own + 2
    assert history.num_products[-1] >= 2 * result.num_steps
    assert np.all(np.diff(history.seconds) >= 0)


def test_the_history_of_cg_has_every_iteration(symmetric_with: Callable[..., np.ndarray]) -> None:
    matrix = symmetric_with(np.linspace(1.0, 20.0, 25))
    problem = Quadratic(matrix, np.ones(25))
    result = solve_with(cg, problem)
    assert result.history.num_steps.tolist() == list(range(result.num_steps + 1))
    assert result.history.num_products.tolist() == list(range(result.num_steps + 1))
    norm = np.linalg.norm(problem.gradient(result.x))
    assert result.history.gradient_norms[-1] == pytest.approx(norm)
    assert set(result.to_dict()) >= {"x", "status", "history"}


@pytest.mark.parametrize("name", ["cg", "lsqr", "lsmr"])
@pytest.mark.parametrize("max_steps", [0, 3])
def test_the_budget_is_kept(
    factor_with: Callable[..., np.ndarray], name: str, max_steps: int
) -> None:
    problem = LeastSquares(factor_with(np.geomspace(1.0, 100.0, 12), 20), np.arange(20.0))
    result = solve_with((SQUARE | TALL)[name], problem, max_steps=max_steps)
    assert (result.status, result.num_steps) == (Status.BUDGET, max_steps)


@pytest.mark.parametrize("name", [*SQUARE, *TALL])
def test_an_exact_start_takes_no_step(name: str) -> None:
    problem = LeastSquares(np.eye(3), np.ones(3))
    result = solve_with((SQUARE | TALL)[name], problem, np.ones(3))
    assert (result.status, result.num_steps, result.x.tolist()) == (
        Status.CONVERGED,
        0,
        [1.0, 1.0, 1.0],
    )


def test_an_indefinite_system_is_not_claimed_to_be_solved(
    symmetric_with: Callable[..., np.ndarray],
) -> None:
    matrix = symmetric_with(np.r_[np.linspace(-3.0, -1.0, 10), np.linspace(1.0, 9.0, 10)])
    result = solve_with(cg, Quadratic(matrix, np.ones(20)), max_steps=5)
    assert not result.converged


def test_an_interruption_returns_the_last_iterate(
    symmetric_with: Callable[..., np.ndarray],
) -> None:
    calls = [0]
    matrix = symmetric_with(np.linspace(1.0, 20.0, 25))

    class Interrupting:
        shape = matrix.shape
        dtype = matrix.dtype

        @property
        def T(self) -> Any:
            return self

        def __matmul__(self, x: Any) -> Any:
            calls[0] += 1
            if calls[0] == 8:
                raise KeyboardInterrupt
            return matrix @ x

    result = solve_with(cg, Quadratic(Interrupting(), np.ones(25)))
    assert result.status is Status.INTERRUPTED
    assert result.num_steps == 3


@pytest.mark.parametrize(
    ("method", "problem", "message"),
    [
        (lsqr, Quadratic(np.eye(2), np.ones(2)), r"`lsqr` solves least squares; pose .*Quadratic"),
        (cg, np.eye(2), r"`problem` must be a QuadraticProblem, got ndarray"),
        (gmres, Quadratic(np.eye(2), np.ones(2)), r"`method` must be a solver with the parameters"),
        (np.dot, Quadratic(np.eye(2), np.ones(2)), r"`method` must be a solver"),
        (cg, Quadratic(torch.eye(2), torch.ones(2)), r"`problem` must hold NumPy arrays.*Tensor"),
    ],
)
def test_what_does_not_fit_is_refused(method: Any, problem: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        solve_with(method, problem)


def test_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one right-hand side.*a batch of 3"):
        solve_with(cg, Quadratic(np.eye(2), np.ones((3, 2))))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"x0": np.ones(3)}, r"`x0` must have shape \(2,\)"),
        ({"rtol": -1.0}, r"`rtol` must be at least 0"),
        ({"atol": np.inf}, r"`atol` must be at least 0"),
        ({"max_steps": -1}, r"`max_steps` must be an integer of at least 0"),
    ],
)
def test_what_is_out_of_range_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solve_with(cg, Quadratic(np.eye(2), np.ones(2)), **settings)
