"""Kernels inside `solve`: a twin with another right-hand side has a kernel of its own."""

import numpy as np
import pytest
import scipy.sparse as sparse

from stepfold import LeastSquares, Quadratic, SpectralBounds, chebyshev_steps, solve


def _large_symmetric(size: int) -> sparse.csr_array:
    """Eigenvalues in [1, 9], enough entries for a kernel."""
    ring = sparse.diags_array([-2.0, 5.0, -2.0], offsets=[-1, 0, 1], shape=(size, size))
    return sparse.csr_array(ring)


def test_a_twin_does_not_step_with_the_old_right_hand_side() -> None:
    matrix = _large_symmetric(200_000)
    rng = np.random.default_rng(0)
    old, new, x = rng.standard_normal((3, 200_000))
    problem = Quadratic(matrix, old)
    assert problem.kernel == "SparseSymmetric"
    twin = problem.with_rhs(new)
    np.testing.assert_allclose(twin.gradient_step(x, 0.1), x - 0.1 * (matrix @ x - new), atol=1e-12)
    np.testing.assert_allclose(problem.gradient(x), matrix @ x - old, rtol=1e-9, atol=1e-12)


def test_rows_of_a_batch_keep_their_kernel() -> None:
    rng = np.random.default_rng(1)
    matrix, rhs = rng.standard_normal((5000, 500)), rng.standard_normal((4, 5000))
    problem = LeastSquares(matrix, rhs)
    assert problem.kernel == "DenseRows"
    some = problem.rows_of([1, 3])
    assert some is not None
    assert some.kernel == "DenseRows"
    x = rng.standard_normal((2, 500))
    expected = (x @ matrix.T - rhs[[1, 3]]) @ matrix
    np.testing.assert_allclose(some.gradient(x), expected, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_low_precision_steps_of_a_kernel_reach_the_solution(dtype) -> None:
    matrix = _large_symmetric(200_000)
    solution = np.random.default_rng(2).standard_normal(200_000)
    problem = Quadratic(matrix, matrix @ solution)
    low = Quadratic(matrix.astype(dtype), problem.rhs.astype(dtype))
    assert low.kernel == "SparseSymmetric"
    schedule = chebyshev_steps(SpectralBounds(1.0, 9.0), 16)
    result = solve(problem, schedule, rtol=1e-12, low_precision=low)
    assert result.converged
    np.testing.assert_allclose(result.x, solution, atol=1e-10)


def test_a_batch_whose_rows_end_apart_is_solved_with_kernels() -> None:
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((5000, 500))
    rhs = rng.standard_normal((3, 500)) @ matrix.T
    x0 = np.zeros((3, 500))
    x0[1] = np.linalg.lstsq(matrix, rhs[1])[0]
    values = np.linalg.svd(matrix, compute_uv=False) ** 2
    schedule = chebyshev_steps(SpectralBounds(values[-1], values[0]), 4)
    result = solve(LeastSquares(matrix, rhs), schedule, x0, rtol=1e-10)
    assert result.converged
    assert result.row_num_steps[1] < result.row_num_steps[0]
    expected = np.linalg.lstsq(matrix, rhs.T)[0].T
    np.testing.assert_allclose(result.x, expected, rtol=1e-7, atol=1e-9)
