"""A schedule as a preconditioner in SciPy's own solvers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import aslinearoperator, cg

from stepfold import Schedule, SpectralBounds, chebyshev_steps, constant_steps
from stepfold.interop.scipy import as_preconditioner
from stepfold.polynomial import residual_polynomial

EIGENVALUES = np.geomspace(1.0, 400.0, 40)
BOUNDS = SpectralBounds(1.0, 400.0)
KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "dense": lambda a: a,
    "csr": sp.csr_array,
    "operator": aslinearoperator,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("period", [1, 2, 7, 16])
def test_it_is_the_polynomial_of_the_matrix(
    symmetric_with: Callable[..., np.ndarray], kind: str, period: int
) -> None:
    matrix = symmetric_with(EIGENVALUES)
    schedule = chebyshev_steps(BOUNDS, period)
    operator = as_preconditioner(KINDS[kind](matrix), schedule, bounds=BOUNDS)
    values, basis = np.linalg.eigh(matrix)
    q = (1 - residual_polynomial(schedule, values)) / values
    dense = operator @ np.eye(40)
    np.testing.assert_allclose(dense, (basis * q) @ basis.T, atol=1e-11)
    columns = np.column_stack([operator @ column for column in np.eye(40)])
    np.testing.assert_allclose(columns, dense, atol=1e-13)


@pytest.mark.parametrize("period", [1, 8, 32])
def test_it_is_symmetric_to_rounding_and_positive_definite(
    symmetric_with: Callable[..., np.ndarray], period: int
) -> None:
    matrix = symmetric_with(EIGENVALUES)
    dense = as_preconditioner(matrix, chebyshev_steps(BOUNDS, period)) @ np.eye(40)
    assert abs(dense - dense.T).max() <= 1e-13 * abs(dense).max()
    assert np.linalg.eigvalsh((dense + dense.T) / 2).min() > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("period", "share"), [(2, 0.8), (4, 0.6), (8, 0.5)])
def test_cg_takes_fewer_iterations_to_the_same_solution(
    symmetric_with: Callable[..., np.ndarray], kind: str, period: int, share: float
) -> None:
    matrix = symmetric_with(EIGENVALUES)
    b = np.random.default_rng(0).standard_normal(40)
    preconditioner = as_preconditioner(
        KINDS[kind](matrix), chebyshev_steps(BOUNDS, period), bounds=BOUNDS
    )
    counts, solutions = [], []
    for M in (None, preconditioner):
        steps: list[int] = []
        x, info = cg(matrix, b, M=M, rtol=1e-10, callback=lambda _, s=steps: s.append(1))
        assert info == 0
        counts.append(len(steps))
        solutions.append(x)
    assert counts[1] < share * counts[0]
    np.testing.assert_allclose(solutions[1], solutions[0], atol=1e-7)


def test_a_complex_hermitian_matrix_needs_bounds() -> None:
    matrix = np.array([[2.0, 1j], [-1j, 2.0]])
    schedule = chebyshev_steps(SpectralBounds(1.0, 3.0), 3)
    operator = as_preconditioner(matrix, schedule, bounds=SpectralBounds(1.0, 3.0))
    dense = operator @ np.eye(2)
    np.testing.assert_allclose(dense, dense.conj().T, atol=1e-15)
    with pytest.raises(TypeError, match=r"`bounds` must be given for a complex `A`"):
        as_preconditioner(matrix, schedule)


@pytest.mark.parametrize("dtype", ["f4", "i8", "f8"])
def test_the_dtype_is_that_of_the_system(dtype: str) -> None:
    matrix = np.diag(np.arange(1, 5)).astype(dtype)
    operator = as_preconditioner(matrix, chebyshev_steps(SpectralBounds(1.0, 4.0), 2))
    expected = np.float32 if dtype == "f4" else np.float64
    assert operator.dtype == expected
    assert (operator @ np.ones(4, expected)).dtype == expected


def test_fourth_kind_steps_need_no_lower_bound(symmetric_with: Callable[..., np.ndarray]) -> None:
    bounds = SpectralBounds(0.0, 400.0)
    operator = as_preconditioner(
        symmetric_with(EIGENVALUES), chebyshev_steps(bounds, 6, kind=4), bounds=bounds
    )
    assert np.linalg.eigvalsh(operator @ np.eye(40)).min() > 0


def test_a_schedule_for_a_smaller_interval_is_refused_with_evidence(
    symmetric_with: Callable[..., np.ndarray],
) -> None:
    schedule = chebyshev_steps(SpectralBounds(1.0, 300.0), 8)
    with pytest.raises(ValueError, match=r"`schedule` must have \|p\| < 1.*p\(400\) = \d+\.\d+"):
        as_preconditioner(symmetric_with(EIGENVALUES), schedule)


def test_steps_that_are_too_long_inside_the_interval_are_refused_too() -> None:
    # p vanishes at both ends, and |p| is largest between them.
    bounds = SpectralBounds(0.1, 4.0)
    with pytest.raises(ValueError, match=r"\|p\| < 1 on the spectrum.*p\(2\.05\d*\) = -9\."):
        as_preconditioner(np.diag([0.1, 2.0, 4.0]), Schedule([10.0, 0.25]), bounds=bounds)


def test_the_zero_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`A` must not be zero"):
        as_preconditioner(np.zeros((3, 3)), constant_steps(SpectralBounds(1.0, 2.0)))


def test_a_list_is_no_schedule() -> None:
    with pytest.raises(TypeError, match=r"`schedule` must be a Schedule, got list"):
        as_preconditioner(np.eye(2), [0.5])  # type: ignore[arg-type]


def test_a_rectangular_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`A` must be square, got shape \(2, 3\)"):
        as_preconditioner(np.ones((2, 3)), Schedule([0.5]))
