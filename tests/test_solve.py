"""Solutions on every backend, dtype, shape and scale, against dense linear algebra."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import aslinearoperator

from stepfold import (
    Gram,
    LeastSquares,
    Quadratic,
    SpectralBounds,
    SpectralMeasure,
    Status,
    chebyshev_steps,
    constant_steps,
    estimate_bounds,
    optimal_steps,
    solve,
)
from stepfold._arrays import norms
from stepfold.problems import Composite
from stepfold.problems.penalties import L1
from stepfold.spectrum import exact_eigenvalues

BACKENDS: dict[str, Callable[[np.ndarray], Any]] = {
    "dense": lambda a: a,
    "list": lambda a: a.tolist(),
    "csr": sp.csr_array,
    "csc": sp.csc_array,
    "coo": sp.coo_array,
    "csr_matrix": sp.csr_matrix,
    "LinearOperator": aslinearoperator,
    "Fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(np.repeat(a, 2, 0), 2, 1)[::2, ::2],
}
backends = pytest.mark.parametrize("backend", BACKENDS)
batches = pytest.mark.parametrize("batch", [(), (1,), (3,)])
SINGULAR_VALUES = np.linspace(1.0, 5.0, 12)
BOUNDS = SpectralBounds(1.0, 25.0)
CHEBYSHEV = chebyshev_steps(BOUNDS, 8)


def rows(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape)


@pytest.fixture(scope="module")
def factor(factor_with: Callable[..., np.ndarray]) -> np.ndarray:
    return factor_with(SINGULAR_VALUES, 20)


@pytest.fixture(scope="module")
def hessian(symmetric_with: Callable[..., np.ndarray]) -> np.ndarray:
    return symmetric_with(np.linspace(1.0, 25.0, 12))


@backends
@batches
def test_least_squares_solutions_are_those_of_lstsq(
    factor: np.ndarray, backend: str, batch: tuple[int, ...]
) -> None:
    rhs = rows((*batch, 20))
    result = solve(LeastSquares(BACKENDS[backend](factor), rhs), CHEBYSHEV, rtol=1e-12)
    expected = np.linalg.lstsq(factor, rhs.T, rcond=None)[0].T
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(result.x, expected, atol=1e-10)


@backends
@batches
def test_quadratic_solutions_are_those_of_solve(
    hessian: np.ndarray, backend: str, batch: tuple[int, ...]
) -> None:
    rhs = rows((*batch, 12))
    result = solve(Quadratic(BACKENDS[backend](hessian), rhs), CHEBYSHEV, rtol=1e-12)
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(result.x, np.linalg.solve(hessian, rhs.T).T, atol=1e-10)


@batches
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_tensors_give_tensors_of_their_dtype(
    factor: np.ndarray, dtype: torch.dtype, rtol: float, batch: tuple[int, ...]
) -> None:
    rhs = rows((*batch, 20))
    tensors = [torch.tensor(array, dtype=dtype) for array in (factor, rhs)]
    result = solve(LeastSquares(*tensors), CHEBYSHEV, rtol=rtol)
    assert (result.status, result.x.dtype) == (Status.CONVERGED, dtype)
    expected = np.linalg.lstsq(factor, rhs.T, rcond=None)[0].T
    np.testing.assert_allclose(result.x.numpy(), expected, atol=100 * rtol)


@pytest.mark.parametrize("backend", ["dense", "csr", "LinearOperator"])
def test_float32_stays_float32(factor: np.ndarray, backend: str) -> None:
    problem = LeastSquares(
        BACKENDS[backend](factor.astype(np.float32)), rows((20,)).astype(np.float32), ridge=0.1
    )
    result = solve(problem, CHEBYSHEV, np.zeros(12, np.float32), rtol=1e-5)
    assert (result.status, result.x.dtype) == (Status.CONVERGED, np.float32)


@pytest.mark.parametrize("convert", ["to_sparse", "to_sparse_csr", "to_sparse_csc"])
@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.filterwarnings("ignore:Sparse .* beta state:UserWarning")
def test_sparse_tensors_are_solved_as_dense_ones(
    factor: np.ndarray, convert: str, batch: tuple[int, ...]
) -> None:
    rhs = rows((*batch, 20))
    operator = getattr(torch.tensor(factor), convert)()
    problem = LeastSquares(operator, torch.tensor(rhs))
    bounds = estimate_bounds(problem)
    result = solve(problem, chebyshev_steps(bounds, 16), rtol=1e-12)
    expected = np.linalg.lstsq(factor, rhs.T, rcond=None)[0].T
    np.testing.assert_allclose(result.x.numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("size", [3, 100])
@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("pose", [LeastSquares, Quadratic])
@pytest.mark.parametrize("rtol", [1e-2, 1e-8])
def test_float16_is_solved_to_its_digits(
    pose: Callable[..., Any], size: int, batch: tuple[int, ...], rtol: float
) -> None:
    diagonal = np.linspace(1, 3, size).astype(np.float16)
    rhs = np.full((*batch, size), 30.0, np.float16)
    result = solve(
        pose(np.diag(diagonal), rhs), chebyshev_steps(SpectralBounds(1.0, 9.01), 8), rtol=rtol
    )
    assert result.x.dtype == np.float16
    assert result.status is Status.CONVERGED or rtol == 1e-8
    assert result.status in (Status.CONVERGED, Status.STALLED)
    np.testing.assert_allclose(result.x.astype(float), rhs / diagonal, rtol=0.03)


def test_norms_of_float16_do_not_overflow_in_half_precision() -> None:
    rows = np.full((2, 10_000), 300.0, np.float16)
    assert norms(rows) == pytest.approx(30_000.0, rel=1e-5)
    assert norms(rows[0]) == pytest.approx(30_000.0, rel=1e-5)
    assert norms(np.full(4, 6e-8, np.float16)) == pytest.approx(2 * float(np.float16(6e-8)))


def _tracked(place: str) -> tuple[Any, Any, Any]:
    data = {"operator": torch.eye(2), "rhs": torch.ones(2), "x0": torch.zeros(2)}
    data[place].requires_grad_()
    return tuple(data.values())


@pytest.mark.parametrize("place", ["operator", "rhs", "x0"])
@pytest.mark.parametrize("pose", [LeastSquares, Quadratic])
@pytest.mark.parametrize("run", [solve])
def test_tensors_that_require_derivatives_are_refused(
    run: Callable[..., Any], pose: Callable[..., Any], place: str
) -> None:
    operator, rhs, x0 = _tracked(place)
    problem = pose(operator, rhs)
    args = [problem, CHEBYSHEV] if run is solve else [Composite(problem, L1(1.0))]
    name = "x0" if place == "x0" else "problem"
    with pytest.raises(ValueError, match=rf"`{name}` must hold no tensor .* `tensor.detach\(\)`"):
        run(*args, x0=x0)


@pytest.mark.parametrize("place", ["operator", "rhs", "x0"])
def test_tensors_that_require_derivatives_pass_where_none_are_recorded(place: str) -> None:
    operator, rhs, x0 = _tracked(place)
    with torch.no_grad():
        result = solve(Quadratic(operator, rhs), CHEBYSHEV, x0)
    assert not result.x.requires_grad
    assert result.status is Status.CONVERGED


@pytest.mark.parametrize("run", [solve])
@pytest.mark.parametrize(("of", "start"), [(np.eye(2), torch.ones(2)), (torch.eye(2), np.ones(2))])
def test_a_start_of_another_library_is_refused(
    run: Callable[..., Any], of: Any, start: Any
) -> None:
    problem = LeastSquares(of, of[0])
    args = [problem, CHEBYSHEV] if run is solve else [Composite(problem, L1(1.0))]
    with pytest.raises(TypeError, match=r"`x0` and the data of the problem must be of one library"):
        run(*args, x0=start)


@pytest.mark.parametrize("run", [solve])
def test_a_start_of_another_dtype_is_refused_if_it_is_a_tensor(run: Callable[..., Any]) -> None:
    problem = LeastSquares(torch.eye(2), torch.ones(2))
    args = [problem, CHEBYSHEV] if run is solve else [Composite(problem, L1(1.0))]
    message = r"`x0` and the data of the problem must be of one dtype, .* `x0.to\(torch.float32\)`"
    with pytest.raises(TypeError, match=message):
        run(*args, x0=torch.ones(2, dtype=torch.float64))


def test_integers_are_converted() -> None:
    matrix, rhs = np.array([[2, 1], [1, 3]]), np.array([3, 4])
    result = solve(Quadratic(matrix, rhs), chebyshev_steps(SpectralBounds(1, 4), 4), [0, 0])
    np.testing.assert_allclose(result.x, [1.0, 1.0], atol=1e-7)


@pytest.mark.parametrize("ridge", [0.1, 3.0])
def test_a_ridge_term_solves_the_augmented_least_squares_problem(
    factor: np.ndarray, ridge: float
) -> None:
    rhs = rows((20,))
    problem = LeastSquares(factor, rhs, ridge=ridge)
    result = solve(problem, chebyshev_steps(estimate_bounds(problem), 8), rtol=1e-12)
    augmented = np.vstack([factor, np.sqrt(ridge) * np.eye(12)])
    expected = np.linalg.lstsq(augmented, np.append(rhs, np.zeros(12)), rcond=None)[0]
    np.testing.assert_allclose(result.x, expected, atol=1e-10)


def test_a_singular_consistent_problem_gives_the_solution_of_least_norm(
    factor_with: Callable[..., np.ndarray],
) -> None:
    factor = factor_with([1.0, 2.0, 3.0, 4.0, 5.0], 9).T  # 5 × 9: a kernel of dimension 4
    rhs = rows((5,))
    result = solve(LeastSquares(factor, rhs), CHEBYSHEV, rtol=1e-12)
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(result.x, np.linalg.pinv(factor) @ rhs, atol=1e-10)


def test_a_rank_deficient_inconsistent_problem_gives_the_solution_of_least_norm(
    factor_with: Callable[..., np.ndarray],
) -> None:
    factor = factor_with([0.0, 1.0, 2.0, 5.0], 9)
    rhs = rows((9,))
    result = solve(LeastSquares(factor, rhs), CHEBYSHEV, rtol=1e-12)
    np.testing.assert_allclose(result.x, np.linalg.pinv(factor) @ rhs, atol=1e-10)


def test_the_component_of_the_start_in_the_kernel_stays(
    factor_with: Callable[..., np.ndarray],
) -> None:
    factor, start = factor_with([1.0, 2.0, 5.0], 6).T, rows((6,))
    pseudoinverse = np.linalg.pinv(factor)
    rhs = rows((3,))
    result = solve(LeastSquares(factor, rhs), CHEBYSHEV, start, rtol=1e-12)
    expected = pseudoinverse @ rhs + start - pseudoinverse @ (factor @ start)
    np.testing.assert_allclose(result.x, expected, atol=1e-10)


@pytest.mark.parametrize("scale", [1e-150, 1e-100, 1e100, 1e150])
@pytest.mark.parametrize("which", ["operator", "rhs", "both"])
def test_data_of_any_scale_are_solved(factor: np.ndarray, scale: float, which: str) -> None:
    operator_scale = scale if which != "rhs" else 1.0
    # Both at 1e150 make Aᵀb as large as 1e300: within the floats, and so is its norm.
    rhs_scale = scale if which != "operator" else 1.0
    rhs = rows((20,))
    problem = LeastSquares(operator_scale * factor, rhs_scale * rhs)
    steps = chebyshev_steps(SpectralBounds(operator_scale**2, 25 * operator_scale**2), 8)
    result = solve(problem, steps)
    assert result.status is Status.CONVERGED
    expected = np.linalg.lstsq(factor, rhs, rcond=None)[0]
    np.testing.assert_allclose(result.x / rhs_scale * operator_scale, expected, atol=1e-7)


@pytest.mark.parametrize("exponent", [-30, -36, 30])
def test_float32_data_near_the_ends_of_the_range_are_solved(exponent: int) -> None:
    rhs = np.array([1.0, 3.0], np.float32) * np.float32(10.0**exponent)
    result = solve(
        Quadratic(np.diag([1, 3]).astype(np.float32), rhs),
        chebyshev_steps(SpectralBounds(1.0, 3.0), 4),
        rtol=1e-5,
    )
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(result.x / rhs[0], [1.0, 1.0], rtol=1e-4)


@pytest.mark.parametrize("value", [1e-300, 1.0, 1e300])
def test_a_problem_with_one_unknown_is_solved_in_one_step(value: float) -> None:
    result = solve(Quadratic([[value]], [value]), constant_steps(SpectralBounds(value, value)))
    assert (result.status, result.num_steps) == (Status.CONVERGED, 1)
    assert result.x.tolist() == pytest.approx([1.0], rel=1e-15)


@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_optimal_steps_as_many_as_eigenvalues_solve_in_one_period(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((size + 10, size))
    rhs = rng.standard_normal(size + 10)
    measure = SpectralMeasure.from_eigenvalues(exact_eigenvalues(Gram(matrix)))
    result = solve(LeastSquares(matrix, rhs), optimal_steps(measure, size))
    assert (result.status, result.num_steps) == (Status.CONVERGED, size)


@given(st.integers(1, 40), st.floats(1.0, 500.0), st.integers(0, 2**32 - 1))
def test_any_problem_within_the_bounds_converges(period: int, kappa: float, seed: int) -> None:
    eigenvalues = np.random.default_rng(seed).uniform(1.0, kappa, 6)
    rhs = np.random.default_rng(seed).standard_normal(6)
    schedule = chebyshev_steps(SpectralBounds(1.0, kappa), period)
    result = solve(Quadratic(np.diag(eigenvalues), rhs), schedule)
    assert result.status is Status.CONVERGED
    assert np.linalg.norm(eigenvalues * result.x - rhs) <= 1e-8 * np.linalg.norm(rhs) * (1 + 1e-9)


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def test_read_only_arrays_are_solved_and_nothing_of_the_caller_s_is_written(
    factor: np.ndarray,
) -> None:
    arrays = [read_only(factor), read_only(rows((3, 20))), read_only(rows((3, 12)))]
    result = solve(LeastSquares(*arrays[:2], ridge=0.1), CHEBYSHEV, arrays[2])
    assert result.status is Status.CONVERGED
    assert [a.tobytes() for a in arrays] == [
        a.tobytes() for a in (factor, rows((3, 20)), rows((3, 12)))
    ]


@pytest.mark.parametrize("step", [-1, 2, -3])
def test_rows_that_are_not_contiguous_are_solved(hessian: np.ndarray, step: int) -> None:
    rhs = np.repeat(rows((12,)), abs(step))[::step]
    start = np.repeat(rows((12,)), abs(step))[::step]
    assert rhs.shape == (12,)
    result = solve(Quadratic(hessian, rhs), CHEBYSHEV, start, rtol=1e-12)
    np.testing.assert_allclose(result.x, np.linalg.solve(hessian, rhs), atol=1e-10)


def test_tensors_of_the_caller_s_are_not_written(hessian: np.ndarray) -> None:
    tensors = [torch.tensor(a) for a in (hessian, rows((12,)), np.ones(12))]
    versions = [tensor._version for tensor in tensors]
    solve(Quadratic(*tensors[:2]), CHEBYSHEV, tensors[2])
    assert [tensor._version for tensor in tensors] == versions


@pytest.mark.parametrize("convert", [np.array, torch.tensor])
def test_the_result_shares_no_memory_with_the_start(convert: Callable[..., Any]) -> None:
    start = convert([1.0, 1.0])
    result = solve(
        Quadratic(convert([[1.0, 0.0], [0.0, 2.0]]), convert([1.0, 2.0])), CHEBYSHEV, start
    )
    assert result.num_steps == 0
    result.x[0] = 7.0
    assert start.tolist() == [1.0, 1.0]
