"""Bounds and plans in the inner product of a preconditioner, and what is no preconditioner."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from stepfold import LeastSquares, Quadratic, estimate_bounds, plan
from stepfold.problems import Preconditioned, jacobi_preconditioner
from stepfold.spectrum import Certainty

KINDS = {"dense": np.asarray, "csr": sp.csr_array, "torch": torch.tensor}


def badly_scaled(size: int, decades: float) -> np.ndarray:
    """A second difference in units that differ by decades."""
    units = np.logspace(0, decades, size)
    matrix = 2.01 * np.eye(size) - np.eye(size, k=1) - np.eye(size, k=-1)
    return np.sqrt(units)[:, None] * matrix * np.sqrt(units)


def generalised(hessian: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    values: np.ndarray = scipy.linalg.eigh(
        hessian, np.linalg.inv(inverse), eigvals_only=True, driver="gvd"
    )
    return values


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [50, 333])
def test_jacobi_finds_both_ends_of_a_badly_scaled_matrix(kind: str, size: int) -> None:
    hessian = badly_scaled(size, 6)
    rhs = torch.ones(size, dtype=torch.float64) if kind == "torch" else np.ones(size)
    problem = Quadratic(KINDS[kind](hessian), rhs)
    bounds = estimate_bounds(Preconditioned(problem, jacobi_preconditioner(problem)))
    values = generalised(hessian, np.diag(1 / np.diag(hessian)))
    assert bounds.lower == pytest.approx(values[0], rel=1e-8)
    assert bounds.upper == pytest.approx(values[-1], rel=1e-8)
    assert bounds.lower_certainty is Certainty.GUARANTEED


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ridge", [0.0, 3.0])
@pytest.mark.parametrize("shape", [(90, 30), (20, 30), (4000, 6)])
def test_jacobi_finds_both_ends_of_least_squares(
    kind: str, ridge: float, shape: tuple[int, int]
) -> None:
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal(shape) * np.geomspace(1e-3, 1e3, shape[1])
    rhs = rng.standard_normal(shape[0])
    problem = LeastSquares(
        KINDS[kind](matrix), torch.tensor(rhs) if kind == "torch" else rhs, ridge=ridge
    )
    diagonal = jacobi_preconditioner(problem)
    bounds = estimate_bounds(Preconditioned(problem, diagonal))
    root = 1 / np.sqrt(np.asarray(diagonal))
    stacked = np.concatenate([matrix * root, np.sqrt(ridge) * np.diag(root)])
    values = np.linalg.svd(stacked, compute_uv=False) ** 2
    assert bounds.upper == pytest.approx(values[0], rel=1e-9)
    lower = values[-1] if ridge or shape[0] >= shape[1] else 0.0
    assert bounds.lower == pytest.approx(lower, rel=1e-6, abs=1e-14)


@pytest.mark.parametrize("convert", [np.asarray, sp.csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize("least_squares", [False, True])
def test_a_matrix_finds_both_ends(convert: Any, least_squares: bool) -> None:
    rng = np.random.default_rng(2)
    half = rng.standard_normal((40, 40))
    inverse = half @ half.T + 0.1 * np.eye(40)
    matrix = rng.standard_normal((60, 40))
    problem: Any = (
        LeastSquares(matrix, np.ones(60), ridge=0.5)
        if least_squares
        else Quadratic(matrix.T @ matrix, np.ones(40))
    )
    hessian = matrix.T @ matrix + (0.5 * np.eye(40) if least_squares else 0.0)
    bounds = estimate_bounds(Preconditioned(problem, convert(inverse)))
    values = generalised(hessian, inverse)
    assert bounds.lower == pytest.approx(values[0], rel=1e-7)
    assert bounds.upper == pytest.approx(values[-1], rel=1e-9)


def test_a_large_sparse_matrix_with_a_diagonal_is_bounded_from_outside() -> None:
    size = 2500
    units = np.random.default_rng(3).uniform(1.0, 1e4, size)
    second = sp.diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(size, size))
    hessian = (sp.diags_array(np.sqrt(units)) @ second @ sp.diags_array(np.sqrt(units))).tocsr()
    problem = Quadratic(hessian, np.ones(size))
    bounds = estimate_bounds(Preconditioned(problem, hessian.diagonal()))
    # Of the scaled matrix: (2.5 ∓ 2 cos(π/(n + 1)))/2.5.
    angle = 2 * np.cos(np.pi / (size + 1))
    assert bounds.lower <= (2.5 - angle) / 2.5 * (1 + 1e-12)
    assert bounds.lower > 0.1
    assert (2.5 + angle) / 2.5 <= bounds.upper <= 1.85


def _projector(size: int) -> np.ndarray:
    vector = np.arange(1.0, size + 1)
    return np.eye(size) - np.outer(vector, vector) / (vector @ vector)


NOT_DEFINITE = {
    "a zero": np.diag([1.0, 0.0, 2.0]),
    "a negative entry": np.diag([1.0, -1e-9, 2.0]),
    "a projector": _projector(3),
    "rank one": np.ones((3, 3)),
    "indefinite": np.array([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
}


@pytest.mark.parametrize("name", NOT_DEFINITE)
@pytest.mark.parametrize("kind", KINDS)
def test_a_preconditioner_that_is_not_definite_is_refused(name: str, kind: str) -> None:
    rhs = torch.ones(3, dtype=torch.float64) if kind == "torch" else np.ones(3)
    problem = Quadratic(KINDS[kind](np.eye(3)), rhs)
    with pytest.raises(ValueError, match="`preconditioner` must be positive definite"):
        Preconditioned(problem, KINDS[kind](NOT_DEFINITE[name]))


def test_a_preconditioner_that_is_not_symmetric_is_refused() -> None:
    lower = np.tril(np.full((3, 3), 0.5)) + np.eye(3)
    with pytest.raises(ValueError, match="`preconditioner` must be symmetric"):
        Preconditioned(Quadratic(np.eye(3), np.ones(3)), lower)


@pytest.mark.parametrize("name", ["a negative entry", "indefinite"])
@pytest.mark.parametrize("unit", [1.0, 1e-30, 1e30])
def test_an_operator_that_is_not_definite_is_refused_when_its_products_show_it(
    name: str, unit: float
) -> None:
    matrix = scipy.linalg.block_diag(NOT_DEFINITE[name], 3.0 * np.eye(20))
    matrix[1, 1] *= 1e9 if name == "a negative entry" else 1.0
    problem = Preconditioned(
        Quadratic(unit * np.diag(np.linspace(1.0, 3.0, 23)), np.ones(23)), aslinearoperator(matrix)
    )
    with pytest.raises(ValueError, match="`preconditioner` must be positive definite"):
        estimate_bounds(problem)


def test_units_that_differ_by_forty_decades_are_no_reason_to_refuse() -> None:
    scales = np.geomspace(1e-20, 1e20, 9)
    problem = Quadratic(np.diag(1 / scales), np.ones(9))
    bounds = estimate_bounds(Preconditioned(problem, np.diag(scales)))
    assert bounds.lower == pytest.approx(1.0, rel=1e-12)
    assert bounds.upper == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("form", ["diagonal", "matrix", "operator"])
@pytest.mark.parametrize("size", [30, 400])
def test_a_plan_for_a_preconditioned_problem_is_kept(form: str, size: int) -> None:
    hessian = badly_scaled(size, 6)
    solution = np.random.default_rng(4).standard_normal(size)
    problem = Quadratic(hessian, hessian @ solution)
    diagonal = np.diag(hessian).copy()
    preconditioner: Any = {
        "diagonal": diagonal,
        "matrix": np.diag(1 / diagonal),
        "operator": LinearOperator(
            hessian.shape, matvec=lambda v: v / diagonal, rmatvec=lambda v: v / diagonal
        ),
    }[form]
    seen = Preconditioned(problem, preconditioner)
    advice = plan(seen, rtol=1e-8)
    x = np.zeros(size)
    for _ in range(int(advice.num_steps) // advice.schedule.period):
        for gamma in advice.schedule:
            x = seen.gradient_step(x, gamma)

    def norm(point: np.ndarray) -> float:
        # Of the gradient in the inner product of M, in which the worst case is proved.
        gradient = hessian @ (point - solution)
        return float(np.sqrt(gradient @ (gradient / diagonal)))

    assert norm(x) <= 1e-8 * norm(np.zeros(size))


def test_a_masked_diagonal_is_refused() -> None:
    diagonal = np.ma.masked_array([1.0, 2.0], [False, True])
    with pytest.raises(TypeError, match="`preconditioner` must be an array without a mask"):
        Preconditioned(Quadratic(np.eye(2), np.ones(2)), diagonal)


def test_an_operator_that_returns_nan_is_told_from_one_that_is_not_definite() -> None:
    broken = LinearOperator((3, 3), matvec=lambda v: v * np.nan, dtype=float)
    problem = Preconditioned(Quadratic(np.eye(3), np.ones(3)), broken)
    with pytest.raises(ValueError, match=r"products of `preconditioner`.*must be finite"):
        estimate_bounds(problem)
