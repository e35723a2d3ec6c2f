"""Least squares on disk: files that change, readers that fail, interruptions and bad arguments."""

import copy
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _stores import ENTRIES, MEMORY, NBYTES, STORES, CountingArray, memmap, rows, zarr_array

from stepfold import LeastSquares, Status, chebyshev_steps, estimate_bounds, solve
from stepfold.problems.out_of_core import BlockedLeastSquares, BlockedMatrix

stores = pytest.mark.parametrize("store", STORES)


def test_the_files_of_the_caller_are_never_written(tmp_path: Path) -> None:
    array = memmap(tmp_path, ENTRIES, mode="r+")
    problem = BlockedLeastSquares(array, ENTRIES @ np.ones(12), memory=MEMORY)
    solve(problem, chebyshev_steps(estimate_bounds(problem), 8))
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
    schedule = chebyshev_steps(estimate_bounds(problem), 4)

    def interrupt(step: int, _: Any) -> None:
        array.left = int(step == 5)

    result = solve(problem, schedule, callback=interrupt)
    assert result.status is Status.INTERRUPTED
    assert result.x.any()
    assert solve(problem, schedule, result.x).converged


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own handler, which is not there where a shell has started us in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
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
    assert not [t for t in threading.enumerate() if t.name.startswith("stepfold-read")]


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
