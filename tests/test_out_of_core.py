"""Least squares on disk: the same numbers as in memory, each row read once per sweep."""

import copy
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import aslinearoperator, lsqr

from stepfold import (
    Certainty,
    LeastSquares,
    Status,
    chebyshev_steps,
    estimate_bounds,
    plan,
    solve,
)
from stepfold.problems.out_of_core import BlockedLeastSquares, BlockedMatrix
from stepfold.spectrum import Exact

SHAPE = (203, 12)
ENTRIES = np.random.default_rng(0).standard_normal(SHAPE)
NBYTES = ENTRIES.nbytes
# Room for a dozen blocks of about ten rows.
MEMORY = 4096


def rows(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def memmap(folder: Path, entries: np.ndarray, mode: Any = "r", offset: int = 0) -> np.memmap:
    path = folder / "matrix.bin"
    path.write_bytes(b"\0" * offset + entries.tobytes())
    return np.memmap(path, entries.dtype, mode, offset=offset, shape=entries.shape)


def zarr_array(folder: Path, entries: np.ndarray, **settings: Any) -> zarr.Array:
    settings = {"chunks": (8, 5), **settings}
    array = zarr.create_array(
        folder / "matrix.zarr", shape=entries.shape, dtype=entries.dtype, **settings
    )
    array[:] = entries
    return array


class CountingArray:
    """An array that counts how often each of its rows is sliced out, and by which threads."""

    def __init__(self, entries: Any) -> None:
        self.entries = entries
        self.shape, self.dtype = entries.shape, entries.dtype
        self.counts = np.zeros(entries.shape[0], dtype=int)
        self.threads: set[str] = set()

    def __getitem__(self, key: slice) -> Any:
        self.counts[key] += 1
        self.threads.add(threading.current_thread().name)
        return self.entries[key]


STORES: dict[str, Callable[[Path, np.ndarray], Any]] = {
    "memmap": memmap,
    "offset": lambda folder, a: memmap(folder, a, offset=12345),
    "view": lambda folder, a: memmap(folder, np.concatenate([a[:7], a, a]))[7 : 7 + len(a)],
    "column-major": lambda folder, a: memmap(folder, a.T.copy()).T,
    "strided": lambda folder, a: memmap(folder, np.repeat(a, 2, axis=0))[::2],
    "copy-on-write": lambda folder, a: memmap(folder, a, mode="c"),
    "zarr": zarr_array,
    "zarr shards": lambda folder, a: zarr_array(folder, a, shards=(16, 10)),
    "in memory": lambda _, a: a,
    "sliced only": lambda _, a: CountingArray(a),
}
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
    bounds = estimate_bounds(LeastSquares(ENTRIES, rows((203,))).hessian)
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
    schedule = chebyshev_steps(estimate_bounds(problem.hessian), 8)
    first, second = (solve(problem, schedule, max_steps=8) for _ in range(2))
    np.testing.assert_array_equal(first.x, second.x)


def test_bounds_take_one_sweep_a_step_and_hold_the_spectrum() -> None:
    array = CountingArray(ENTRIES)
    problem = BlockedLeastSquares(array, rows((203,)), ridge=0.25, memory=MEMORY)
    bounds = estimate_bounds(problem.hessian)
    exact = estimate_bounds(LeastSquares(ENTRIES, rows((203,)), ridge=0.25).hessian)
    assert bounds.lower <= exact.lower * (1 + 1e-12)
    assert exact.upper <= bounds.upper * (1 + 1e-12) <= 1.1 * exact.upper
    assert (array.counts == array.counts[0]).all()
    assert bounds.num_products == 2 * array.counts[0]


def test_a_ridge_is_a_lower_bound_where_none_is_found() -> None:
    entries = np.concatenate([ENTRIES, ENTRIES], axis=1)
    problem = BlockedLeastSquares(entries, rows((203,)), ridge=0.25, memory=2 * MEMORY)
    bounds = estimate_bounds(problem.hessian)
    assert bounds.lower == 0.25
    assert bounds.lower_certainty is Certainty.GUARANTEED


def test_a_plan_needs_nothing_else() -> None:
    problem = BlockedLeastSquares(ENTRIES, ENTRIES @ np.ones(12), memory=MEMORY)
    advice = plan(problem, rtol=1e-6)
    assert solve(problem, advice.schedule, rtol=1e-6).num_steps <= advice.num_steps


def test_batches_of_a_solve_are_solved_together() -> None:
    solutions = rows((4, 12))
    problem = BlockedLeastSquares(ENTRIES, solutions @ ENTRIES.T, memory=MEMORY)
    result = solve(problem, chebyshev_steps(estimate_bounds(problem.hessian), 8), rtol=1e-10)
    np.testing.assert_allclose(result.x, solutions, rtol=1e-8)


def test_entries_cannot_all_be_diagonalised() -> None:
    problem = BlockedLeastSquares(ENTRIES, rows((203,)), memory=MEMORY)
    with pytest.raises(TypeError, match=r"must be a dense or sparse matrix"):
        estimate_bounds(problem.hessian, method=Exact())


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
    assert not [t for t in threading.enumerate() if t.name.startswith("stepfold")]


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


def test_the_files_of_the_caller_are_never_written(tmp_path: Path) -> None:
    array = memmap(tmp_path, ENTRIES, mode="r+")
    problem = BlockedLeastSquares(array, ENTRIES @ np.ones(12), memory=MEMORY)
    solve(problem, chebyshev_steps(estimate_bounds(problem.hessian), 8))
    assert (tmp_path / "matrix.bin").read_bytes() == ENTRIES.tobytes()


def test_changes_to_a_copy_on_write_memmap_are_seen(tmp_path: Path) -> None:
    array = memmap(tmp_path, ENTRIES, mode="c")
    array[5] = 0.0
    image = BlockedMatrix(array, memory=MEMORY) @ np.ones(12)
    assert image[5] == 0.0


def test_a_file_of_another_content_under_the_same_name_is_not_read(tmp_path: Path) -> None:
    array = memmap(tmp_path, ENTRIES)
    (tmp_path / "other.bin").write_bytes((2 * ENTRIES).tobytes())
    os.replace(tmp_path / "other.bin", tmp_path / "matrix.bin")
    image = BlockedMatrix(array, memory=MEMORY) @ np.ones(12)
    np.testing.assert_allclose(image, ENTRIES.sum(axis=1), rtol=1e-11, atol=1e-11)


def test_a_file_that_was_deleted_is_still_read(tmp_path: Path) -> None:
    array = memmap(tmp_path, ENTRIES)
    (tmp_path / "matrix.bin").unlink()
    image = BlockedMatrix(array, memory=MEMORY) @ np.ones(12)
    np.testing.assert_allclose(image, ENTRIES.sum(axis=1), rtol=1e-11, atol=1e-11)


def test_a_file_truncated_before_it_is_posed_is_refused(tmp_path: Path) -> None:
    array = memmap(tmp_path, ENTRIES)
    os.truncate(tmp_path / "matrix.bin", NBYTES // 2)
    with pytest.raises(ValueError, match=rf"at least {NBYTES} bytes, got {NBYTES // 2}; it has be"):
        BlockedLeastSquares(array, rows((203,)), memory=MEMORY)


def test_a_file_truncated_between_sweeps_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    problem = BlockedLeastSquares(memmap(tmp_path, ENTRIES), rows((203,)), memory=MEMORY)
    problem.gradient(np.ones(12))
    os.truncate(tmp_path / "matrix.bin", NBYTES // 2)
    with pytest.raises(ValueError, match=r"the file of `array`.*matrix\.bin.* has been truncated"):
        problem.gradient(np.ones(12))


def test_a_zarr_array_with_missing_chunks_is_refused(tmp_path: Path) -> None:
    array = zarr_array(tmp_path, ENTRIES)
    (tmp_path / "matrix.zarr" / "c" / "3" / "1").unlink()
    with pytest.raises(ValueError, match=r"got 77 of 78; the missing ones would be read as .*0\.0"):
        BlockedLeastSquares(array, rows((203,)), memory=4 * MEMORY)


def test_chunks_of_zeros_are_allowed_if_they_are_stored(tmp_path: Path) -> None:
    entries = ENTRIES.copy()
    entries[:8, :5] = 0.0
    array = zarr_array(tmp_path / "a", entries)
    with pytest.raises(ValueError, match=r"got 77 of 78.*store them with Zarr's `write_empty_ch"):
        BlockedMatrix(array, memory=4 * MEMORY)
    array = zarr_array(tmp_path / "b", entries, config={"write_empty_chunks": True})
    image = BlockedMatrix(array, memory=4 * MEMORY) @ np.ones(12)
    np.testing.assert_allclose(image, entries.sum(axis=1), rtol=1e-11, atol=1e-11)


def test_a_damaged_zarr_chunk_is_an_error_that_names_the_rows(tmp_path: Path) -> None:
    problem = BlockedLeastSquares(zarr_array(tmp_path, ENTRIES), rows((203,)), memory=2 * MEMORY)
    (tmp_path / "matrix.zarr" / "c" / "3" / "1").write_bytes(b"damage")
    with pytest.raises(Exception, match=r".") as caught:  # noqa: PT011, RUF100 (Zarr's choice)
        problem.gradient(np.ones(12))
    assert any("while reading rows 16 to 31" in note for note in caught.value.__notes__)


def test_each_chunk_is_read_once(tmp_path: Path) -> None:
    problem = BlockedLeastSquares(zarr_array(tmp_path, ENTRIES), rows((203,)), memory=3 * MEMORY)
    assert problem.block_rows % 8 == 0
    with pytest.raises(ValueError, match=r"multiple of the 8 rows of a chunk.*, got 12"):
        BlockedLeastSquares(zarr_array(tmp_path / "b", ENTRIES), rows((203,)), block_rows=12)


class Failing(CountingArray):
    """Fails at a row, as many times as it is told."""

    def __init__(self, error: BaseException, at: int) -> None:
        super().__init__(ENTRIES)
        self.error, self.at, self.left = error, at, 1

    def __getitem__(self, key: slice) -> Any:
        if key.start <= self.at < key.stop and self.left:
            self.left -= 1
            raise self.error
        return super().__getitem__(key)


@pytest.mark.parametrize("at", [0, 100, 202])
def test_an_error_of_the_reader_surfaces_and_the_next_sweep_is_whole(at: int) -> None:
    problem = BlockedLeastSquares(
        Failing(OSError("the disk is gone"), at), rows((203,)), memory=MEMORY
    )
    with pytest.raises(OSError, match="the disk is gone") as caught:
        problem.gradient(np.ones(12))
    assert any("while reading rows" in note for note in caught.value.__notes__)
    expected = LeastSquares(ENTRIES, rows((203,))).gradient(np.ones(12))
    np.testing.assert_allclose(problem.gradient(np.ones(12)), expected, rtol=1e-11)


def test_an_interrupted_solve_returns_its_best_iterate_and_can_go_on() -> None:
    array = Failing(KeyboardInterrupt(), 100)
    array.left = 0
    problem = BlockedLeastSquares(array, ENTRIES @ np.ones(12), memory=MEMORY)
    schedule = chebyshev_steps(estimate_bounds(problem.hessian), 4)

    def interrupt(step: int, _: Any) -> None:
        array.left = int(step == 5)

    result = solve(problem, schedule, callback=interrupt)
    assert result.status is Status.INTERRUPTED
    assert result.x.any()
    assert solve(problem, schedule, result.x).converged


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_a_signal_in_the_middle_of_a_sweep_interrupts_it() -> None:
    class Signalling(CountingArray):
        def __getitem__(self, key: slice) -> Any:
            if key.start >= 100 and self.counts.sum() < 203:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.05)
            return super().__getitem__(key)

    problem = BlockedLeastSquares(Signalling(ENTRIES), rows((203,)), memory=MEMORY)
    with pytest.raises(KeyboardInterrupt):
        problem.gradient(np.ones(12))
    assert not [t for t in threading.enumerate() if t.name.startswith("stepfold")]


@stores
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_entries_that_are_not_finite_are_found_before_the_first_step(
    store: str, value: float, tmp_path: Path
) -> None:
    entries = ENTRIES.copy()
    entries[150, 7] = entries[180, 2] = value
    problem = BlockedLeastSquares(STORES[store](tmp_path, entries), rows((203,)), memory=3 * MEMORY)
    with pytest.raises(ValueError, match=rf"`array` must be finite, got {value} at .*\(150, 7\);"):
        solve(problem, chebyshev_steps(estimate_bounds(np.eye(2)), 4))


def test_a_memory_that_holds_no_block_is_refused(tmp_path: Path) -> None:
    message = r"`memory` must hold the block in use and the one read ahead: at least 192 bytes"
    with pytest.raises(ValueError, match=message + r" with one row each, got 191; raise `memory`$"):
        BlockedLeastSquares(ENTRIES, rows((203,)), memory=191)
    message = r"at least 3072 bytes with one chunk of 8 rows each, got 3071; raise .*smaller chunks"
    with pytest.raises(ValueError, match=message):
        BlockedLeastSquares(zarr_array(tmp_path, ENTRIES), rows((203,)), memory=3071)


def test_blocks_that_do_not_fit_the_memory_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"`block_rows` must be at most 21 .* `memory`=4096, got 2"
    ):
        BlockedLeastSquares(ENTRIES, rows((203,)), block_rows=22, memory=MEMORY)


@pytest.mark.parametrize("name", ["memory", "block_rows"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_counts_that_are_none_are_refused(name: str, value: float, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"`{name}` must be an integer"):
        BlockedLeastSquares(ENTRIES, rows((203,)), **{name: value})


@pytest.mark.parametrize("array", [3.0, None, "a", [[1.0]]])
def test_what_is_no_array_is_refused(array: object) -> None:
    with pytest.raises(TypeError, match=r"`array` must be a numpy\.memmap, a Zarr array, or anot"):
        BlockedLeastSquares(array, rows((203,)))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,), (2, 2, 2), ()])
def test_arrays_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`array` must have two dimensions and at least one row"):
        BlockedLeastSquares(np.ones(shape), rows((203,)))


@pytest.mark.parametrize("dtype", [complex, "U1", object])
def test_arrays_that_are_not_real_are_refused(dtype: Any) -> None:
    with pytest.raises(TypeError, match=r"`array` must be real, with a NumPy dtype, got"):
        BlockedLeastSquares(np.zeros((3, 3), dtype), np.ones(3))


def test_a_tensor_is_refused() -> None:
    import torch

    with pytest.raises(TypeError, match=r"with a NumPy dtype, got dtype torch\.float32"):
        BlockedLeastSquares(torch.ones(3, 3), np.ones(3))


@pytest.mark.parametrize("ridge", [-1.0, np.nan, np.inf])
def test_a_negative_or_infinite_ridge_is_refused(ridge: float) -> None:
    with pytest.raises(ValueError, match=r"`ridge` must be at least 0 and finite"):
        BlockedLeastSquares(ENTRIES, rows((203,)), ridge=ridge)


@pytest.mark.parametrize("shape", [(202,), (2, 202), (0, 203), (1, 1, 203)])
def test_right_hand_sides_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"`rhs` must have shape \(203,\) or \(batch, 203\) to fit"
    ):
        BlockedLeastSquares(ENTRIES, np.ones(shape))


def test_right_hand_sides_that_are_complex_are_refused() -> None:
    with pytest.raises(TypeError, match=r"`rhs` must be real"):
        BlockedLeastSquares(ENTRIES, 1j * np.ones(203))


def test_a_copy_with_another_right_hand_side_has_its_own_linear_term() -> None:
    problem = BlockedLeastSquares(ENTRIES, rows((203,)), memory=MEMORY)
    before = problem.linear_term.copy()
    twin = copy.copy(problem)
    twin.rhs = 2 * problem.rhs
    np.testing.assert_allclose(twin.linear_term, 2 * before, rtol=1e-11, atol=1e-11)
    np.testing.assert_array_equal(problem.linear_term, before)


def test_complex_vectors_are_refused() -> None:
    with pytest.raises(TypeError, match=r"must be real, got dtype complex128"):
        BlockedMatrix(ENTRIES) @ (1j * np.ones(12))


def test_vectors_that_do_not_fit_are_refused() -> None:
    matrix = BlockedMatrix(ENTRIES)
    for product, length in ((matrix.__matmul__, 12), (matrix.T.__matmul__, 203)):
        with pytest.raises(ValueError, match=rf"must have shape \({length},\) or .*got \(5,\)"):
            product(np.ones(5))


def test_an_array_that_shrinks_is_an_error() -> None:
    array = CountingArray(ENTRIES)
    problem = BlockedLeastSquares(array, rows((203,)), memory=MEMORY)
    array.entries = ENTRIES[:100]
    with pytest.raises(ValueError, match=r"must have shape .*; the array has changed or is trunc"):
        problem.gradient(np.ones(12))


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
print(problem.bytes_read, read() - before, growth, result.num_steps)
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
    counted, by_the_system, growth, num_steps = map(int, done.stdout.split())
    size = 8 * num_rows * num_columns
    assert counted == (num_steps + 1) * size
    assert by_the_system == pytest.approx(counted, rel=1e-3)
    assert growth < memory
