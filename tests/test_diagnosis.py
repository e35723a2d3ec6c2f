"""A cause is named where a test has shown it, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sparse
from scipy.sparse.linalg import LinearOperator

from stepfold import (
    LeastSquares,
    Quadratic,
    Schedule,
    SpectralBounds,
    Status,
    chebyshev_steps,
    solve,
)

# Words by which each cause is known.
CAUSES = (
    "not symmetric",
    "adjoint",
    "not finite, it has",
    "declares the dtype",
    "badly scaled",
    "singular",
    "ill-posed",
    "too low",
    "indefinite",
)


def named(result: Any) -> list[str]:
    return [cause for cause in CAUSES if cause in result.advice]


def numbers(*shape: int, seed: int = 0, is_complex: bool = False) -> Any:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    return values + 1j * rng.standard_normal(shape) if is_complex else values


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["general", "skew part", "complex symmetric"])
def test_a_matrix_that_is_not_symmetric_is_told(kind: str, seed: int) -> None:
    n = 12
    values = numbers(n, n, seed=seed)
    matrix: Any = values + 12 * np.eye(n)
    if kind == "skew part":
        matrix = np.eye(n) + values - values.T
    if kind == "complex symmetric":
        matrix = 12 * np.eye(n) + 1j * (values + values.T)
    rhs = numbers(n, seed=seed + 1).astype(matrix.dtype)
    result = solve(Quadratic(matrix, rhs), max_steps=200)
    assert named(result) == ["not symmetric"]
    assert "raise `max_steps`" not in result.advice


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("fault", ["sign", "factor", "another matrix", "transpose"])
def test_a_wrong_adjoint_is_told(fault: str, is_complex: bool) -> None:
    matrix = numbers(20, 10, is_complex=is_complex)
    adjoint = {
        "sign": -matrix.conj().T,
        "factor": np.diag(np.linspace(1, 2, 10)) @ matrix.conj().T,
        "another matrix": numbers(10, 20, seed=1, is_complex=is_complex),
        "transpose": matrix.T,
    }[fault]
    operator = LinearOperator(
        matrix.shape, matvec=matrix.__matmul__, rmatvec=adjoint.__matmul__, dtype=matrix.dtype
    )
    result = solve(LeastSquares(operator, numbers(20, is_complex=is_complex)), max_steps=100)
    if fault == "transpose" and not is_complex:
        assert result.converged
    else:
        assert named(result) == ["adjoint"]


def test_an_operator_that_returns_what_is_not_finite_is_told() -> None:
    matrix, calls = np.diag(np.arange(1.0, 31)), [0]

    def product(x: Any) -> Any:
        calls[0] += 1
        return matrix @ x * (np.nan if calls[0] > 3 else 1.0)

    operator = LinearOperator(matrix.shape, matvec=product, rmatvec=product, dtype=np.float64)
    result = solve(Quadratic(operator, np.ones(30)))
    assert result.status is Status.DIVERGED
    assert named(result) == ["not finite, it has"]


def test_a_right_hand_side_out_of_the_range_is_told() -> None:
    n = 40
    ring = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)).tolil()
    ring[0, -1] = ring[-1, 0] = -1.0
    rhs = numbers(n)
    result = solve(Quadratic(sparse.csr_array(ring), rhs))
    assert result.status is Status.STALLED
    assert named(result) == ["singular"]
    # What is left is what no x can reduce: the mean.
    assert result.gradient_norm == pytest.approx(abs(rhs.mean()) * np.sqrt(n), rel=1e-6)


def test_columns_in_other_units_are_told() -> None:
    matrix = numbers(60, 30) * 10.0 ** np.linspace(-5, 5, 30)
    result = solve(LeastSquares(matrix, numbers(60)), max_steps=15)
    assert result.status is Status.BUDGET
    assert "badly scaled" in named(result)


@pytest.mark.parametrize("max_steps", [400, 2000])
def test_an_ill_posed_problem_is_told(max_steps: int) -> None:
    basis = np.linalg.qr(numbers(80, 40))[0]
    other = np.linalg.qr(numbers(40, 40, seed=1))[0]
    matrix = (basis * np.geomspace(1, 1e-9, 40)) @ other
    result = solve(LeastSquares(matrix, numbers(80)), rtol=1e-14, max_steps=max_steps)
    assert result.status is not Status.CONVERGED
    assert named(result) == ["ill-posed"]


def test_an_upper_bound_that_is_too_low_is_told() -> None:
    matrix = np.diag(np.linspace(1.0, 100.0, 50))
    schedule = chebyshev_steps(SpectralBounds(1.0, 80.0), 16)
    result = solve(Quadratic(matrix, numbers(50)), schedule, guard=None)
    assert result.status is Status.DIVERGED
    assert named(result) == ["too low"]


@pytest.mark.parametrize("seed", range(20))
def test_no_cause_is_named_where_there_is_none(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, n = int(rng.integers(20, 60)), int(rng.integers(5, 20))
    is_complex = bool(seed % 2)
    matrix, rhs = numbers(m, n, seed=seed, is_complex=is_complex), numbers(m, seed=seed + 100)
    rhs = rhs.astype(matrix.dtype)
    tall = solve(LeastSquares(matrix, rhs), max_steps=2)
    gram, term = matrix.conj().T @ matrix, matrix.conj().T @ rhs
    square = solve(Quadratic((gram + gram.conj().T) / 2, term), max_steps=2)
    slow = solve(LeastSquares(matrix, rhs), Schedule([1e-4]), max_steps=5)
    for result in (tall, square, slow):
        assert result.status is Status.BUDGET
        assert named(result) == []
        assert "raise `max_steps`" in result.advice


@pytest.mark.parametrize("max_products", [5, 15, 30, 60])
def test_finding_a_cause_keeps_the_budget(max_products: int) -> None:
    calls = [0]
    matrix = numbers(12, 12) + 12 * np.eye(12)

    def product(x: Any) -> Any:
        calls[0] += 1
        return matrix @ x

    operator = LinearOperator((12, 12), matvec=product, rmatvec=product, dtype=np.float64)
    result = solve(Quadratic(operator, numbers(12)), max_products=max_products)
    assert calls[0] <= max_products
    assert result.history.num_products[-1] <= max_products
