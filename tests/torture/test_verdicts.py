"""No verdict, certificate or named cause is false: kinds that were, and a sample of all kinds."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator
from verdicts import tally

from stepfold import (
    LeastSquares,
    Quadratic,
    Schedule,
    SpectralBounds,
    Status,
    chebyshev_steps,
    solve,
)
from stepfold.problems import Preconditioned


@pytest.mark.parametrize("first", [0, 33, 66])
def test_nothing_said_of_random_problems_is_false(first: int) -> None:
    counts = tally(range(first, first + 33))
    assert counts["false"] == []
    assert counts["checked"]["CONVERGED"] > 5


def _definite(eigenvalues: np.ndarray, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed).standard_normal((eigenvalues.size,) * 2)
    unitary = np.linalg.qr(random)[0]
    return unitary @ np.diag(eigenvalues) @ unitary.T


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_iterate_that_grows_is_no_stall(dtype: type) -> None:
    matrix = _definite(np.linspace(0.01, 1.0, 12)).astype(dtype)
    schedule = chebyshev_steps(SpectralBounds(0.01, 0.6), 4)
    result = solve(Quadratic(matrix, np.ones(12, dtype)), schedule, guard=None)
    assert result.status is Status.DIVERGED


def test_a_small_singular_value_is_no_stall() -> None:
    # The gradient hardly moves, but an x far away has none.
    problem = LeastSquares(np.diag([1.0, 0.5, 3e-7]), np.ones(3))
    result = solve(problem, chebyshev_steps(SpectralBounds(0.1, 1.0), 2), max_steps=400)
    assert result.status is Status.BUDGET


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.float64])
def test_steps_on_rounding_tell_nothing_of_the_spectrum(dtype: type) -> None:
    rng = np.random.default_rng(5)
    matrix = rng.standard_normal((24, 6)).astype(dtype)
    problem = LeastSquares(matrix, rng.standard_normal(24).astype(dtype))
    bounds = solve(problem, rtol=0.0, max_steps=150).bounds
    values = np.linalg.svd(matrix.astype(np.complex128), compute_uv=False) ** 2
    assert bounds.reached_upper <= values[0] * (1 + 1e-4)
    assert bounds.reached_lower >= values[-1] * (1 - 1e-4)


@pytest.mark.parametrize("unit", [1e-100, 1.0, 1e100])
def test_a_preconditioned_run_is_judged_in_one_inner_product(unit: float) -> None:
    matrix = unit * _definite(np.linspace(1.0, 30.0, 20))
    problem = Preconditioned(Quadratic(matrix, unit * np.ones(20)), np.diag(matrix).copy())
    result = solve(problem)
    assert result.converged
    np.testing.assert_allclose(result.x, np.linalg.solve(matrix / unit, np.ones(20)), rtol=1e-6)
    # With a budget that is too small nothing is said of bounds, which are those of M⁻¹H.
    short = solve(problem, chebyshev_steps(SpectralBounds(0.05, 5.0), 8), max_steps=8)
    assert "too low" not in short.advice


def test_norms_of_preconditioned_gradients_do_not_vanish() -> None:
    matrix = _definite(np.linspace(1.0, 9.0, 10))
    exact = np.linalg.solve(matrix, np.ones(10))
    problem = Preconditioned(Quadratic(matrix, 1e-250 * np.ones(10)), np.diag(matrix).copy())
    result = solve(problem)
    assert result.converged
    np.testing.assert_allclose(result.x, 1e-250 * exact, rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-118, 1e118])
def test_units_of_an_operator_without_entries_do_not_matter(unit: float) -> None:
    matrix = unit * np.random.default_rng(2).standard_normal((30, 9))
    rhs = unit * np.ones(30)
    operator = LinearOperator(
        (30, 9), matvec=lambda v: matrix @ v, rmatvec=lambda v: matrix.T @ v, dtype=float
    )
    result = solve(LeastSquares(operator, rhs))
    assert result.converged
    np.testing.assert_allclose(
        result.x, np.linalg.lstsq(matrix / unit, rhs / unit, rcond=None)[0], rtol=1e-6
    )


@pytest.mark.parametrize("has_schedule", [False, True])
def test_causes_are_told_in_the_units_of_the_problem(has_schedule: bool) -> None:
    matrix = 1e-90 * _definite(np.array([-0.5, 0.2, 0.4, 1.0]))
    schedule = chebyshev_steps(SpectralBounds(1e-91, 1e-90), 4) if has_schedule else None
    result = solve(Quadratic(matrix, np.ones(4)), schedule)
    assert "indefinite" in result.advice
    quotient = re.search(r"(?:pᵀp =|quotient is) (-[\d.e-]+\d)", result.advice)
    assert quotient
    assert -0.51e-90 < float(quotient[1]) < -1e-93


@pytest.mark.parametrize("seed", range(8))
def test_an_error_bound_takes_in_the_rounding_of_its_gradient(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix, rhs = np.diag(rng.uniform(1.0, 2.0, 3)), rng.standard_normal(3)
    steps = Schedule(1 / np.diag(matrix), bounds=SpectralBounds(1.0, 2.0))
    result = solve(Quadratic(matrix, rhs), steps, rtol=1e-16, max_steps=30)
    exact = rhs.astype(np.longdouble) / np.diag(matrix).astype(np.longdouble)
    error = np.sqrt(((result.x - exact) ** 2).sum())
    assert error <= result.error_bound <= 1e-13


def test_products_that_are_not_finite_show_no_eigenvalue() -> None:
    matrix, calls = _definite(np.linspace(1.0, 5.0, 8)), [0]

    def product(v: np.ndarray) -> np.ndarray:
        calls[0] += 1
        return matrix @ v * (np.nan if calls[0] > 9 else 1.0)

    operator = LinearOperator((8, 8), matvec=product, matmat=product, dtype=float)
    result = solve(Quadratic(operator, np.ones(8)), chebyshev_steps(SpectralBounds(1.0, 5.0), 4))
    assert result.status is Status.DIVERGED
    assert "not finite" in result.advice
    assert "eigenvalue" not in result.advice
    assert "Rayleigh" not in result.advice


def test_a_wrong_adjoint_is_not_told_to_be_posed_as_what_it_is() -> None:
    rng = np.random.default_rng(4)
    matrix = rng.standard_normal((20, 6))
    adjoint = [matrix.T]
    operator = LinearOperator(
        (20, 6), matvec=lambda v: matrix @ v, rmatvec=lambda v: adjoint[0] @ v, dtype=float
    )
    problem = LeastSquares(operator, rng.standard_normal(20))
    adjoint[0] = matrix.T + rng.standard_normal((6, 20))
    result = solve(problem, chebyshev_steps(SpectralBounds(1.0, 60.0), 8), max_steps=200)
    assert "adjoint of the operator is wrong" in result.advice
    assert "pose the system" not in result.advice
