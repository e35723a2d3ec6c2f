"""Preconditioners: the same minimiser, the spectrum of M⁻¹H."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import aslinearoperator

from stepfold import (
    LeastSquares,
    Quadratic,
    SpectralBounds,
    chebyshev_steps,
    estimate_bounds,
    solve,
)
from stepfold.problems import Preconditioned, jacobi_preconditioner
from stepfold.spectrum import Exact, Lanczos

SIZE = 50
RHS = np.random.default_rng(0).standard_normal(SIZE)
SCALES = np.geomspace(1.0, 1e8, SIZE)


@pytest.fixture(scope="module")
def scaled(symmetric_with: Callable[..., np.ndarray]) -> np.ndarray:
    """Well conditioned but for its units."""
    return np.sqrt(SCALES)[:, None] * symmetric_with(np.linspace(1.0, 10.0, SIZE)) * np.sqrt(SCALES)


@pytest.fixture(scope="module")
def hessian(symmetric_with: Callable[..., np.ndarray]) -> np.ndarray:
    return symmetric_with(np.linspace(1.0, 100.0, SIZE))


@pytest.fixture(scope="module")
def inverse(symmetric_with: Callable[..., np.ndarray]) -> np.ndarray:
    """M⁻¹ for an M that has nothing to do with the Hessian, of condition number 20."""
    return symmetric_with(np.linspace(0.05, 1.0, SIZE), 7)


def spectrum(problem: Any, inverse: np.ndarray) -> np.ndarray:
    values: np.ndarray = scipy.linalg.eigh(problem, np.linalg.inv(inverse), eigvals_only=True)
    return values


@pytest.mark.parametrize(
    "convert", [np.asarray, sp.csr_array, torch.tensor], ids=["dense", "csr", "torch"]
)
def test_jacobi_s_preconditioner_undoes_bad_units(
    scaled: np.ndarray, convert: Callable[..., Any]
) -> None:
    rhs = torch.tensor(RHS) if convert is torch.tensor else RHS
    plain = Quadratic(convert(scaled), rhs)
    problem = Preconditioned(plain, jacobi_preconditioner(plain))
    bounds = estimate_bounds(problem)
    assert bounds.condition_number < 100
    result = solve(problem, chebyshev_steps(bounds, 16), rtol=1e-12)
    assert result.converged
    np.testing.assert_allclose(np.asarray(result.x), np.linalg.solve(scaled, RHS), rtol=1e-9)


def test_jacobi_s_bounds_hold_the_spectrum(scaled: np.ndarray) -> None:
    diagonal = jacobi_preconditioner(Quadratic(scaled, RHS))
    np.testing.assert_allclose(diagonal, np.diag(scaled))
    bounds = estimate_bounds(Preconditioned(Quadratic(scaled, RHS), diagonal))
    values = spectrum(scaled, np.diag(1 / diagonal))
    # The oracle rounds, too: it is the spectrum of a matrix that is not symmetric.
    assert bounds.lower <= values[0] * (1 + 1e-13)
    assert values[-1] * (1 - 1e-13) <= bounds.upper <= 1.05 * values[-1]


@pytest.mark.parametrize("ridge", [0.0, 2.0])
@pytest.mark.parametrize(
    "convert",
    [np.asarray, sp.csr_array, sp.csr_matrix, torch.tensor],
    ids=["dense", "csr", "csr_matrix", "torch"],
)
def test_the_diagonal_of_a_least_squares_hessian(
    factor_with: Callable[..., np.ndarray], ridge: float, convert: Callable[..., Any]
) -> None:
    factor = factor_with(np.linspace(1.0, 3.0, 6), 9)
    rhs = torch.ones(9, dtype=torch.float64) if convert is torch.tensor else np.ones(9)
    diagonal = jacobi_preconditioner(LeastSquares(convert(factor), rhs, ridge=ridge))
    assert diagonal.shape == (6,)
    np.testing.assert_allclose(np.asarray(diagonal), np.diag(factor.T @ factor) + ridge, rtol=1e-12)


def test_the_method_that_is_asked_for_bounds_a_preconditioned_problem(
    scaled: np.ndarray, hessian: np.ndarray, inverse: np.ndarray
) -> None:
    by_diagonal = Preconditioned(Quadratic(scaled, RHS), np.diag(scaled))
    expected = estimate_bounds(scaled / np.sqrt(np.outer(np.diag(scaled), np.diag(scaled))))
    bounds = estimate_bounds(by_diagonal, method=Lanczos(max_steps=SIZE))
    assert bounds.method.endswith("Lanczos steps")
    assert expected.upper * (1 - 1e-9) <= bounds.upper <= 1.1 * expected.upper
    by_products = Preconditioned(Quadratic(hessian, RHS), aslinearoperator(inverse))
    bounds = estimate_bounds(by_products, method=Lanczos(max_steps=5), seed=3)
    assert (bounds.num_products, bounds.seed) == (5, 3)
    with pytest.raises(TypeError, match=r"`method` must be None or `Lanczos\(...\)`.*got Exact"):
        estimate_bounds(by_products, method=Exact())


@pytest.mark.parametrize("convert", [np.asarray, aslinearoperator, sp.csr_array])
def test_an_operator_s_bounds_hold_the_spectrum_and_lead_to_the_solution(
    hessian: np.ndarray, inverse: np.ndarray, convert: Callable[..., Any]
) -> None:
    problem = Preconditioned(Quadratic(hessian, RHS), convert(inverse))
    values = spectrum(hessian, inverse)
    bounds = estimate_bounds(problem)
    assert 0 < bounds.lower <= values[0] * (1 + 1e-12)
    assert values[-1] * (1 - 1e-12) <= bounds.upper <= 1.1 * values[-1]
    result = solve(problem, chebyshev_steps(bounds, 32), rtol=1e-12)
    assert result.converged
    assert result.events == ()
    np.testing.assert_allclose(result.x, np.linalg.solve(hessian, RHS), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("period", [1, 16, 256, 1024])
@pytest.mark.parametrize("kind", ["diagonal", "operator"])
@pytest.mark.parametrize("shape", [(SIZE,), (3, SIZE)])
def test_half_the_upper_bound_of_a_preconditioned_operator_is_mended(
    hessian: np.ndarray, inverse: np.ndarray, period: int, kind: str, shape: tuple[int, ...]
) -> None:
    inverse = np.diag(np.linspace(0.05, 1.0, SIZE)) if kind == "diagonal" else inverse
    preconditioner = 1 / np.diag(inverse) if kind == "diagonal" else inverse
    rhs = np.random.default_rng(1).standard_normal(shape)
    problem = Preconditioned(Quadratic(hessian, rhs), preconditioner)
    values = spectrum(hessian, inverse)
    schedule = chebyshev_steps(SpectralBounds(values[0], values[-1] / 2), period)
    result = solve(problem, schedule)
    assert result.converged
    assert result.events[-1].end == "upper"
    assert values[-1] <= result.events[-1].new.upper <= 1.1 * values[-1]
    np.testing.assert_allclose(
        result.x, np.linalg.solve(hessian, rhs.T).T, atol=1e-6 * np.abs(result.x).max()
    )


@pytest.mark.parametrize("kind", ["diagonal", "operator"])
def test_right_bounds_of_a_preconditioned_operator_are_never_moved(
    hessian: np.ndarray, inverse: np.ndarray, kind: str
) -> None:
    inverse = np.diag(np.linspace(0.05, 1.0, SIZE)) if kind == "diagonal" else inverse
    preconditioner = 1 / np.diag(inverse) if kind == "diagonal" else inverse
    problem = Preconditioned(Quadratic(hessian, RHS), preconditioner)
    values = spectrum(hessian, inverse)
    schedule = chebyshev_steps(SpectralBounds(values[0], values[-1] * (1 + 1e-12)), 16)
    guarded = solve(problem, schedule, rtol=1e-10)
    trusted = solve(problem, schedule, rtol=1e-10, guard=None)
    assert guarded.events == ()
    assert guarded.x.tobytes() == trusted.x.tobytes()


def test_the_gradient_is_affine_with_the_hessian_and_the_linear_term(
    hessian: np.ndarray, inverse: np.ndarray
) -> None:
    x = np.random.default_rng(2).standard_normal((3, SIZE))
    problem = Preconditioned(Quadratic(hessian, np.stack([RHS] * 3)), inverse)
    expected = (problem.hessian @ x.T).T - problem.linear_term
    np.testing.assert_allclose(problem.gradient(x), expected, atol=1e-11)
    np.testing.assert_allclose(problem.gradient_step(x, 0.5), x - 0.5 * expected, atol=1e-11)
    assert (problem.hessian @ x[0]).shape == (SIZE,)
    with pytest.raises(
        TypeError, match=r"not symmetric; take its bounds from `estimate_bounds\(problem\)`"
    ):
        _ = problem.hessian.T


def test_a_wide_diagonal_does_not_widen_the_iterate(scaled: np.ndarray) -> None:
    problem = Preconditioned(
        Quadratic(scaled.astype(np.float32), RHS.astype(np.float32)), np.diag(scaled)
    )
    result = solve(problem, chebyshev_steps(estimate_bounds(problem), 8), rtol=1e-4)
    assert (result.converged, result.x.dtype) == (True, np.float32)


@pytest.mark.parametrize(
    ("preconditioner", "message"),
    [
        (np.ones(SIZE - 1), r"must have shape \(50,\) to be a diagonal, got \(49,\)"),
        (np.zeros(SIZE), r"must be positive and finite, got 0\.0 at index 0; a row or column"),
        ([-1.0] * SIZE, r"must be positive and finite, got -1\.0 at index 0"),
        (np.full(SIZE, np.nan), r"must be positive and finite, got nan at index 0"),
        (
            np.full(SIZE, 7e-314),
            r"positive and finite, got 7e-314 at index 0, whose reciprocal over",
        ),
        (np.ones((3, 3)), r"must have shape \(50, 50\) or \(50,\), got \(3, 3\)"),
        (np.full((SIZE, SIZE), np.nan), "`preconditioner` must be finite"),
    ],
)
def test_a_preconditioner_that_is_none_is_refused(
    hessian: np.ndarray, preconditioner: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Preconditioned(Quadratic(hessian, RHS), preconditioner)


def test_no_error_is_certain_in_the_inner_product_of_m(hessian: np.ndarray) -> None:
    problem = Preconditioned(Quadratic(hessian, RHS), np.ones(SIZE))
    schedule = chebyshev_steps(SpectralBounds(1.0, 101.0), 16)
    assert solve(problem, schedule).error_bound is None
    with pytest.raises(ValueError, match="`error_rtol` needs a Hessian that is symmetric"):
        solve(problem, schedule, error_rtol=1e-3)


def test_a_problem_is_preconditioned_once(hessian: np.ndarray) -> None:
    once = Preconditioned(Quadratic(hessian, RHS), np.ones(SIZE))
    with pytest.raises(
        TypeError, match="must be a QuadraticProblem that is not preconditioned yet"
    ):
        Preconditioned(once, np.ones(SIZE))
    with pytest.raises(
        TypeError, match="must be a QuadraticProblem that is not preconditioned yet"
    ):
        Preconditioned(hessian, np.ones(SIZE))  # type: ignore[arg-type]


def test_the_diagonal_of_an_unknown_operator_is_asked_for(hessian: np.ndarray) -> None:
    with pytest.raises(TypeError, match="`jacobi_preconditioner` needs the entries"):
        jacobi_preconditioner(Quadratic(aslinearoperator(hessian), RHS))


def test_a_column_of_zeros_has_no_scale() -> None:
    with pytest.raises(ValueError, match=r"got 0\.0 at index 1; a row or column of zeros"):
        jacobi_preconditioner(LeastSquares(np.array([[1.0, 0.0], [2.0, 0.0]]), np.ones(2)))
