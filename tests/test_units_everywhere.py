"""Units do not matter, whatever kind of problem holds the data; what is out of range is refused."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse
from _groups import together
from numpy.typing import NDArray

from stepfold import LeastSquares, Status, chebyshev_steps, estimate_bounds, lasso, solve
from stepfold.distributed import Group, Layout, ShardedLeastSquares, ShardedQuadratic, gathered
from stepfold.problems import Composite
from stepfold.problems.out_of_core import BlockedLeastSquares
from stepfold.problems.penalties import L1

RNG = np.random.default_rng(5)
A, B = RNG.standard_normal((90, 12)), RNG.standard_normal((2, 90))
C = RNG.standard_normal((90, 12))
UNITS = [
    ("float32", 1e-25, 1e-25),
    ("float32", 1e-25, 1.0),
    ("float32", 1e22, 1e22),
    ("float32", 1e-38, 1e-38),
    ("float32", 1.0, 1e-30),
    ("float64", 1e-140, 1e-130),
    ("float64", 1e150, 1e140),
]
COMPLEX_UNITS = [("complex64", 1e-25, 1e-25), ("complex64", 1e21, 1e18)]


def answers(found: list[Any]) -> list[Any]:
    for one in found:
        if isinstance(one, Exception):
            raise one
    return found


def rows_of(group: Group) -> NDArray[np.int64]:
    return np.array_split(np.arange(90), group.size)[group.rank]


@pytest.mark.parametrize("known", [False, True], ids=["automatic", "known steps"])
@pytest.mark.parametrize(("dtype", "unit", "rhs_unit"), UNITS + COMPLEX_UNITS)
def test_rows_over_processes_in_any_units_have_the_solution(
    dtype: str, unit: float, rhs_unit: float, known: bool
) -> None:
    matrix = A + 1j * C if dtype.startswith("c") else A
    held, rhs = (unit * matrix).astype(dtype), (rhs_unit * B).astype(dtype)

    def program(group: Group) -> Any:
        rows = rows_of(group)
        problem = ShardedLeastSquares(held[rows], rhs[:, rows], group)
        schedule = chebyshev_steps(estimate_bounds(problem), 8) if known else None
        return solve(problem, schedule)

    results = answers(together(2, program))
    expected = np.linalg.lstsq(matrix, B.T, rcond=None)[0].T
    for result in results:
        assert result.converged
        assert result.x.dtype == dtype
        x = result.x.astype(matrix.dtype) * unit / rhs_unit
        np.testing.assert_allclose(x, expected, rtol=0, atol=2e-3 * abs(expected).max())
        np.testing.assert_array_equal(result.x, results[0].x)


def test_the_largest_shard_decides_the_units_of_all() -> None:
    scales = np.r_[np.full(45, 1e-38), np.full(45, 1e-25)]
    held = (scales[:, None] * A).astype("float32")
    rhs = (scales * B[0]).astype("float32")

    def program(group: Group) -> Any:
        rows = rows_of(group)
        return solve(ShardedLeastSquares(held[rows], rhs[rows], group))

    expected = np.linalg.lstsq(A[45:], B[0, 45:], rcond=None)[0]
    for result in answers(together(2, program)):
        assert result.converged
        np.testing.assert_allclose(result.x, expected, rtol=0, atol=1e-2 * abs(expected).max())


@pytest.mark.parametrize(("dtype", "unit", "rhs_unit"), UNITS)
def test_unknowns_over_processes_in_any_units_have_the_solution(
    dtype: str, unit: float, rhs_unit: float
) -> None:
    matrix = scipy.sparse.diags_array([2.5, -1.0, -1.0], offsets=[0, 1, -1], shape=(90, 90))
    held = scipy.sparse.csr_array((unit * matrix).astype(dtype))
    rhs = (rhs_unit * B).astype(dtype)

    def program(group: Group) -> Any:
        layout = Layout.even(90, group)
        problem = ShardedQuadratic(held[layout.own], rhs[:, layout.own], layout, group)
        result = solve(problem)
        return result.converged, gathered(result.x)

    expected = np.linalg.solve(matrix.toarray(), B.T).T
    for converged, x in answers(together(2, program)):
        assert converged
        scaled = x.astype("float64") * unit / rhs_unit
        np.testing.assert_allclose(scaled, expected, rtol=0, atol=2e-3 * abs(expected).max())


@pytest.mark.parametrize("known", [False, True], ids=["automatic", "known steps"])
@pytest.mark.parametrize(("dtype", "unit", "rhs_unit"), UNITS)
def test_rows_on_disk_in_any_units_have_the_solution(
    tmp_path: Any, dtype: str, unit: float, rhs_unit: float, known: bool
) -> None:
    np.save(tmp_path / "A.npy", (unit * A).astype(dtype))
    held = np.load(tmp_path / "A.npy", mmap_mode="r")
    problem = BlockedLeastSquares(held, (rhs_unit * B).astype(dtype), memory=8192)
    schedule = chebyshev_steps(estimate_bounds(problem), 8) if known else None
    before = problem.bytes_read
    result = solve(problem, schedule)
    assert result.converged
    expected = np.linalg.lstsq(A, B.T, rcond=None)[0].T
    scaled = result.x.astype("float64") * unit / rhs_unit
    np.testing.assert_allclose(scaled, expected, rtol=0, atol=2e-3 * abs(expected).max())
    # The scaled twin reads the same file, and its reads are booked where the caller looks.
    assert (problem.bytes_read - before) % held.nbytes == 0
    assert problem.bytes_read - before >= result.num_steps * held.nbytes


def test_a_matrix_of_zeros_on_disk_has_the_solution_zero(tmp_path: Any) -> None:
    problem = BlockedLeastSquares(np.zeros((20, 3), np.float32), np.ones(20, np.float32))
    result = solve(problem)
    assert result.status is Status.CONVERGED
    np.testing.assert_array_equal(result.x, np.zeros(3))


@pytest.mark.parametrize(
    ("unit", "rhs_unit"), [(1e-25, 1e-25), (1e-38, 1.0), (1e22, 1.0), (1e12, 1e-38), (1e-17, 1e22)]
)
@pytest.mark.parametrize("sharded", [False, True], ids=["one process", "shards"])
def test_a_lasso_whose_numbers_are_out_of_range_is_refused(
    unit: float, rhs_unit: float, sharded: bool
) -> None:
    held, rhs = (unit * A).astype("float32"), (rhs_unit * B[0]).astype("float32")
    weight = unit * rhs_unit
    problem = (
        Composite(ShardedLeastSquares(held, rhs), L1(weight))
        if sharded
        else lasso(held, rhs, weight=weight)
    )
    with pytest.raises(ValueError, match=r"that float32 can hold.*divide each by its largest"):
        solve(problem)


def test_a_solution_that_overflows_is_refused_by_all_processes() -> None:
    def program(group: Group) -> Any:
        rows = rows_of(group)
        held, rhs = (1e-20 * A).astype("float32"), (1e20 * B[0]).astype("float32")
        return solve(ShardedLeastSquares(held[rows], rhs[rows], group))

    for found in together(2, program):
        with pytest.raises(ValueError, match="must have a solution that float32 can hold"):
            raise found


def test_an_absolute_tolerance_is_in_the_units_of_the_data() -> None:
    problem = LeastSquares((1e-25 * A).astype("float32"), (1e-25 * B[0]).astype("float32"))
    largest = 1e-50 * float(np.linalg.norm(A.T @ B[0]))
    assert solve(problem, rtol=0.0, atol=1.01 * largest).num_steps == 0
    assert solve(problem, rtol=0.0, atol=1e-3 * largest).num_steps > 0


def test_without_steps_even_a_hessian_beyond_all_numbers_does_no_harm() -> None:
    problem = ShardedLeastSquares(1e-200 * A, 1e-190 * B[0])
    result = solve(problem)
    assert result.converged
    expected = 1e10 * np.linalg.lstsq(A, B[0], rcond=None)[0]
    np.testing.assert_allclose(result.x, expected, rtol=1e-6, atol=1e4)
    with pytest.raises(ValueError, match="Hessian within the range of float64"):
        estimate_bounds(problem)


@pytest.mark.parametrize("sharded", [False, True], ids=["one process", "shards"])
def test_extended_precision_has_units(sharded: bool) -> None:
    pose: Any = ShardedLeastSquares if sharded else LeastSquares
    problem = pose(A.astype(np.longdouble), B[0].astype(np.longdouble))
    result = solve(problem)
    assert result.converged
    expected = np.linalg.lstsq(A, B[0], rcond=None)[0]
    np.testing.assert_allclose(result.x.astype(np.float64), expected, atol=1e-6)
