"""Least squares on disk: the same numbers as in memory, each row read once per sweep."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from _stores import ENTRIES, MEMORY, NBYTES, STORES, CountingArray, rows
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import aslinearoperator, lsqr

from stepfold import LeastSquares, Status, chebyshev_steps, estimate_bounds, plan, solve
from stepfold.problems.out_of_core import BlockedLeastSquares, BlockedMatrix
from stepfold.spectrum import Certainty, Exact

stores = pytest.mark.parametrize("store", STORES)
batches = pytest.mark.parametrize("batch", [(), (1,), (3,)])


@stores
@batches
@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_the_gradient_is_that_in_memory(
    store: str, batch: tuple[int, ...], ridge: float, tmp_path: Path
) -> None:
    array, rhs, x = STORES[store](tmp_path, ENTRIES), rows((*batch, 203)), rows((*batch, 12), 2)
    problem = BlockedLeastSquares(array, rhs, ridge=ridge, memory=3 * MEMORY)
    expected = LeastSquares(ENTRIES, rhs, ridge=ridge)
    np.testing.assert_allclose(problem.gradient(x), expected.gradient(x), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(
        problem.gradient_step(x, 0.1), expected.gradient_step(x, 0.1), rtol=1e-11, atol=1e-11
    )
    np.testing.assert_allclose(problem.linear_term, expected.linear_term, rtol=1e-11, atol=1e-11)
    assert problem.bytes_read == 3 * NBYTES


@stores
def test_the_hessian_is_the_gram_matrix_in_one_sweep(store: str, tmp_path: Path) -> None:
    problem = BlockedLeastSquares(
        STORES[store](tmp_path, ENTRIES), rows((203,)), ridge=0.5, memory=3 * MEMORY
    )
    x = rows((12, 2))
    expected = ENTRIES.T @ (ENTRIES @ x) + 0.5 * x
    np.testing.assert_allclose(problem.hessian @ x, expected, rtol=1e-11, atol=1e-11)
    assert problem.bytes_read == NBYTES


@given(
    num_rows=st.integers(1, 40),
    block_rows=st.integers(1, 50),
    batch=st.sampled_from([(), (1,), (3,)]),
    dtype=st.sampled_from([np.float32, np.float64, np.int16, ">f8", np.float16]),
)
def test_blocks_of_any_height_give_the_same_products(
    num_rows: int, block_rows: int, batch: tuple[int, ...], dtype: Any
) -> None:
    entries = (8 * ENTRIES[:num_rows]).astype(dtype)
    exact = entries.astype(np.float64)
    matrix = BlockedMatrix(entries, block_rows=block_rows, memory=10**6)
    x, y = rows((12, *batch)), rows((num_rows, *batch), 2)
    np.testing.assert_allclose(matrix @ x, exact @ x, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(matrix.T @ y, exact.T @ y, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(
        matrix.gram_product(x), exact.T @ (exact @ x), rtol=1e-10, atol=1e-10
    )
    assert matrix.bytes_read == 3 * entries.nbytes


def test_a_solve_of_k_steps_reads_every_row_k_plus_1_times() -> None:
    array, solution = CountingArray(ENTRIES), rows((12,))
    problem = BlockedLeastSquares(array, ENTRIES @ solution, memory=MEMORY)
    bounds = estimate_bounds(LeastSquares(ENTRIES, rows((203,))))
    result = solve(problem, chebyshev_steps(bounds, 8), rtol=1e-10)
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(result.x, solution, rtol=1e-9)
    assert result.num_steps == 16
    assert (array.counts == result.num_steps + 1).all()
    assert problem.bytes_read == (result.num_steps + 1) * NBYTES
    assert array.threads <= {f"stepfold-read-ahead_{k}" for k in range(2)}


def test_a_zero_right_hand_side_is_solved_by_zero_after_one_sweep() -> None:
    array = CountingArray(ENTRIES)
    problem = BlockedLeastSquares(array, np.zeros(203), memory=MEMORY)
    result = solve(problem, chebyshev_steps(estimate_bounds(np.eye(2)), 4))
    assert (result.status, result.num_steps) == (Status.CONVERGED, 0)
    assert not result.x.any()
    assert (array.counts == 1).all()


def test_a_run_can_be_repeated_exactly() -> None:
    problem = BlockedLeastSquares(ENTRIES, rows((203,)), memory=MEMORY)
    schedule = chebyshev_steps(estimate_bounds(problem), 8)
    first, second = (solve(problem, schedule, max_steps=8) for _ in range(2))
    np.testing.assert_array_equal(first.x, second.x)


def test_bounds_take_one_sweep_a_step_and_hold_the_spectrum() -> None:
    array = CountingArray(ENTRIES)
    problem = BlockedLeastSquares(array, rows((203,)), ridge=0.25, memory=MEMORY)
    bounds = estimate_bounds(problem)
    exact = estimate_bounds(LeastSquares(ENTRIES, rows((203,)), ridge=0.25))
    assert bounds.lower <= exact.lower * (1 + 1e-12)
    assert exact.upper <= bounds.upper * (1 + 1e-12) <= 1.1 * exact.upper
    assert (array.counts == array.counts[0]).all()
    assert bounds.num_products == 2 * array.counts[0]


def test_a_ridge_is_a_lower_bound_where_none_is_found() -> None:
    entries = np.concatenate([ENTRIES, ENTRIES], axis=1)
    problem = BlockedLeastSquares(entries, rows((203,)), ridge=0.25, memory=2 * MEMORY)
    bounds = estimate_bounds(problem)
    assert bounds.lower == 0.25
    assert bounds.lower_certainty is Certainty.GUARANTEED


def test_a_plan_needs_nothing_else() -> None:
    problem = BlockedLeastSquares(ENTRIES, ENTRIES @ np.ones(12), memory=MEMORY)
    advice = plan(problem, rtol=1e-6)
    assert solve(problem, advice.schedule, rtol=1e-6).num_steps <= advice.num_steps


def test_batches_of_a_solve_are_solved_together() -> None:
    solutions = rows((4, 12))
    problem = BlockedLeastSquares(ENTRIES, solutions @ ENTRIES.T, memory=MEMORY)
    result = solve(problem, chebyshev_steps(estimate_bounds(problem), 8), rtol=1e-10)
    np.testing.assert_allclose(result.x, solutions, rtol=1e-8)


def test_entries_cannot_all_be_diagonalised() -> None:
    problem = BlockedLeastSquares(ENTRIES, rows((203,)), memory=MEMORY)
    with pytest.raises(TypeError, match=r"must be a dense or sparse matrix"):
        estimate_bounds(problem, method=Exact())


def test_lsqr_takes_the_matrix_and_sweeps_twice_an_iteration() -> None:
    solution = rows((12,))
    matrix = BlockedMatrix(ENTRIES, memory=MEMORY)
    found = lsqr(aslinearoperator(matrix), ENTRIES @ solution, atol=1e-12, btol=1e-12)
    np.testing.assert_allclose(found[0], solution, rtol=1e-8)
    assert matrix.bytes_read == (2 * found[2] + 1) * NBYTES


@pytest.mark.parametrize(
    ("stored", "vector", "result"),
    [
        (np.float32, np.float32, np.float32),
        (np.float32, np.float64, np.float64),
        (np.float64, np.float32, np.float64),
        (np.int32, np.float32, np.float64),
        (np.float16, np.float16, np.float32),
    ],
)
def test_dtypes_are_those_of_numpy_and_never_half(stored: Any, vector: Any, result: Any) -> None:
    entries = (8 * ENTRIES).astype(stored)
    problem = BlockedLeastSquares(entries, rows((203,)).astype(vector), memory=MEMORY)
    x = rows((12,)).astype(vector)
    assert problem.gradient(x).dtype == result
    assert problem.gradient(0 * x).dtype == result
    assert problem.gradient_step(x, 0.1).dtype == result
    assert problem.linear_term.dtype == result


def test_the_gradient_at_0_and_a_second_linear_term_cost_no_sweep() -> None:
    problem = BlockedLeastSquares(ENTRIES, rows((203,)), ridge=0.5, memory=MEMORY)
    np.testing.assert_array_equal(problem.gradient(np.zeros(12)), -problem.linear_term)
    assert problem.bytes_read == NBYTES


def test_buffers_are_made_once() -> None:
    problem = BlockedLeastSquares(ENTRIES, rows((203,)), memory=MEMORY)
    problem.gradient(np.ones(12))
    before = problem.operator._blocks._buffers
    problem.gradient(np.ones(12))
    assert problem.operator._blocks._buffers is before


def test_no_thread_is_left_after_a_sweep() -> None:
    BlockedLeastSquares(ENTRIES, rows((203,)), memory=MEMORY).gradient(np.ones(12))
    assert not [t for t in threading.enumerate() if t.name.startswith("stepfold-read")]


def test_two_threads_may_share_a_problem() -> None:
    problem = BlockedLeastSquares(ENTRIES, rows((203,)), memory=MEMORY)
    found: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: found.append(problem.gradient(np.ones(12))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = LeastSquares(ENTRIES, rows((203,))).gradient(np.ones(12))
    np.testing.assert_allclose(found, [expected] * 4, rtol=1e-11)


def test_the_next_block_is_read_while_this_one_is_computed() -> None:
    reading = {start: threading.Event() for start in range(0, 40, 4)}

    class Telling(CountingArray):
        def __getitem__(self, key: slice) -> Any:
            reading[key.start].set()
            return super().__getitem__(key)

    seen: list[bool] = []

    def work(rows: slice, _: np.ndarray) -> None:
        # Nobody reads while we wait unless a second thread does.
        seen.append(rows.stop == 40 or reading[rows.stop].wait(timeout=10))

    matrix = BlockedMatrix(Telling(ENTRIES[:40]), block_rows=4, memory=10**6)
    matrix._blocks.sweep(work, np.dtype(float))
    assert seen == [True] * 10


LARGE = """
import resource, sys
import numpy as np
from pathlib import Path
from stepfold import chebyshev_steps, SpectralBounds, solve
from stepfold.problems.out_of_core import BlockedLeastSquares

path, kind, num_rows, num_columns, memory = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
if kind == "zarr":
    import zarr
    array = zarr.open_array(path, mode="r")
    np.asarray(array[:1])
else:
    array = np.memmap(path, np.float64, "r", shape=(num_rows, num_columns))
rhs = np.ones(num_rows)

def read():
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(lines[0].split()[1])

problem = BlockedLeastSquares(array, rhs, memory=memory)
before, peak = read(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
result = solve(problem, chebyshev_steps(SpectralBounds(0.8 * num_rows, 1.2 * num_rows), 4),
               max_steps=4)
growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024
print(problem.bytes_read, read() - before, growth, result.num_steps,
      result.history.num_products[-1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="needs Linux's counters")
@pytest.mark.parametrize("kind", ["memmap", "zarr"])
def test_a_gigabyte_is_swept_in_a_tenth_of_the_memory(kind: str, tmp_path: Path) -> None:
    num_rows, num_columns, memory = 125_000, 1_000, 100_000_000
    path, rng = tmp_path / "matrix", np.random.default_rng(0)
    if kind == "zarr":
        target: Any = zarr.create_array(
            path, shape=(num_rows, num_columns), chunks=(500, 1_000), dtype=float, compressors=None
        )
    else:
        target = np.memmap(path, np.float64, "w+", shape=(num_rows, num_columns))
    for start in range(0, num_rows, 2_500):
        target[start : start + 2_500] = rng.standard_normal((2_500, num_columns))
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(path), kind, *map(str, (num_rows, num_columns, memory))],
        capture_output=True,
        text=True,
        check=True,
    )
    counted, by_the_system, growth, num_steps, num_products = map(int, done.stdout.split())
    size = 8 * num_rows * num_columns
    # A run that is cut short may spend ten products, of two a sweep, on finding out why.
    assert num_steps + 1 <= counted // size <= num_steps + 6
    assert counted // size == num_products // 2 + 1
    assert by_the_system == pytest.approx(counted, rel=1e-3)
    assert growth < memory
