"""Bounds of complex maps are those of the spectrum that numpy.linalg finds."""

import numpy as np
import pytest
import scipy.sparse as sparse
import torch
from scipy.sparse.linalg import aslinearoperator

from stepfold import Gram, LeastSquares, chebyshev_steps, estimate_bounds, solve
from stepfold.spectrum import exact_eigenvalues

KINDS = {
    "dense": lambda matrix: matrix,
    "sparse": sparse.csr_array,
    "operator": aslinearoperator,
    "tensor": torch.from_numpy,
}


def _matrix(num_rows: int, num_columns: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    shape = (num_rows, num_columns)
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


@pytest.mark.parametrize("kind", KINDS)
def test_least_squares_bounds_hold_the_squared_singular_values(kind) -> None:
    matrix = _matrix(60, 20)
    values = np.linalg.svd(matrix, compute_uv=False) ** 2
    bounds = estimate_bounds(Gram(KINDS[kind](matrix), 0.5))
    assert values[0] + 0.5 <= bounds.upper * (1 + 1e-12)
    assert bounds.upper <= 1.03 * (values[0] + 0.5)
    assert bounds.lower <= (values[-1] + 0.5) * (1 + 1e-12)


@pytest.mark.parametrize("kind", ["dense", "sparse", "operator"])
def test_hermitian_bounds_hold_the_eigenvalues(kind) -> None:
    matrix = _matrix(40, 25)
    hermitian = matrix.conj().T @ matrix
    values = np.linalg.eigvalsh(hermitian)
    bounds = estimate_bounds(KINDS[kind](hermitian))
    assert values[-1] <= bounds.upper * (1 + 1e-12)
    assert bounds.upper <= 1.03 * values[-1]
    assert bounds.lower <= values[0] * (1 + 1e-9)


def test_a_complex_matrix_that_is_not_hermitian_is_refused() -> None:
    with pytest.raises(ValueError, match="must be symmetric"):
        estimate_bounds(_matrix(30, 30))


def test_exact_eigenvalues_are_listed_once() -> None:
    matrix = _matrix(30, 12)
    values = np.linalg.svd(matrix, compute_uv=False)[::-1] ** 2
    np.testing.assert_allclose(exact_eigenvalues(Gram(matrix)), values, rtol=1e-10)


def test_products_of_a_complex_gram_conjugate() -> None:
    matrix = _matrix(9, 4)
    x = _matrix(4, 1)[:, 0]
    expected = matrix.conj().T @ (matrix @ x) + 2 * x
    np.testing.assert_allclose(Gram(matrix, 2.0) @ x, expected, rtol=1e-12)


def test_a_large_complex_matrix_is_bounded_by_products_only() -> None:
    matrix = sparse.diags_array(np.exp(1j * np.arange(3000)) * np.linspace(1, 2, 3000)).tocsr()
    bounds = estimate_bounds(Gram(matrix))
    assert 4.0 <= bounds.upper <= 4.12
    assert 0 < bounds.lower <= 1.0


def test_complex_least_squares_are_solved_with_estimated_bounds() -> None:
    matrix = _matrix(80, 20)
    solution = _matrix(20, 1)[:, 0]
    problem = LeastSquares(matrix, matrix @ solution)
    result = solve(problem, chebyshev_steps(estimate_bounds(problem), 8), rtol=1e-12)
    assert result.converged
    np.testing.assert_allclose(result.x, solution, rtol=1e-9)
