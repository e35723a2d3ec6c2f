"""Row blocks of a matrix on disk, each read once per sweep, by a thread that is one block ahead.

A sweep hands every row to the caller exactly once, in order. While the caller computes with one
block the next one is read into a second buffer, so a sweep takes the longer of the two times and
not their sum. Two buffers are all there is, however large the matrix.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._checks import check_count
from stepfold.problems._mapped import MappedFile, mapped_file

# Two such blocks stay in the last cache from the read to the product: from the page cache, 4 MiB
# sweep at 11 GB/s where 16 MiB do at 6 (1 GB file, 2 cores). Devices read no faster in larger ones.
BLOCK_BYTES = 4 * 2**20
# Blocks are worked through in pieces, which stay in the cache between the two products. Products
# with many vectors are bound by arithmetic and want taller ones: 64 vectors run at 2 GFlop/s with
# the small ones and at 20 with the large.
PIECE_BYTES = 2**20
TALL_PIECE_BYTES = 2**22

Work = Callable[[slice, NDArray[Any]], None]


class RowBlocks:
    """A matrix of shape (m, n) on disk as blocks of rows.

    Args:
        array: `numpy.memmap`, Zarr array, or anything with ``shape``, ``dtype`` and row slices.
        block_rows: Rows read at a time; chosen to fit ``memory`` if not given.
        memory: Most bytes for blocks and their working copies.
    """

    def __init__(self, array: Any, *, block_rows: int | None, memory: int) -> None:
        _check_array(array)
        memory = check_count("memory", memory)
        self.shape: tuple[int, int] = (int(array.shape[0]), int(array.shape[1]))
        self.dtype = np.dtype(array.dtype)
        self._source = _source(array, self.dtype)
        multiple = self._source.multiple
        row_bytes = self.shape[1] * self.dtype.itemsize
        wide_row = 8 * self.shape[1]
        native = self.dtype == np.float64 and self.dtype.isnative
        self._piece_rows, self._tall_piece_rows = (
            max(1, min(size, memory // 8) // wide_row) for size in (PIECE_BYTES, TALL_PIECE_BYTES)
        )
        scratch = 0 if native else self._tall_piece_rows * wide_row
        copies = self._source.copies
        self.block_rows = _block_rows(
            block_rows, self.shape[0], multiple, copies, row_bytes, scratch, memory
        )
        self.bytes_read = 0
        self._is_known_finite = False
        self._largest = 0.0
        self._buffers: list[NDArray[Any]] | None = None
        self._scratch: NDArray[Any] | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Without buffers and the lock, which belong to one process."""
        own = {"_buffers": None, "_scratch": None, "_lock": None}
        return {**vars(self), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def sweep(
        self, work: Work, dtype: np.dtype[Any], *, tall: bool = False, exponent: int = 0
    ) -> None:
        """Call ``work(rows, piece)`` for all rows in order; pieces come in ``dtype``.

        ``tall`` pieces suit products with many vectors. A piece is overwritten once ``work``
        returns. Entries are divided by ``2**exponent``. The first sweep that ends looks at every
        entry, and raises for one that is not finite.
        """
        piece_rows = self._tall_piece_rows if tall else self._piece_rows
        with self._lock, ThreadPoolExecutor(1, "stepfold-read-ahead") as reader:
            buffers = self._take_buffers()
            start, ahead = 0, self._submit(reader, 0, buffers[0])
            for count in range(1, self._num_blocks + 1):
                block = ahead.result()
                self.bytes_read += block.nbytes
                if count < self._num_blocks:
                    ahead = self._submit(reader, start + self.block_rows, buffers[count % 2])
                self._work_through(work, start, block, dtype, piece_rows, exponent)
                start += self.block_rows
            # Given back only now: a sweep that was interrupted may leave a read under way, which
            # must not write into the buffers of the next one.
            self._buffers = buffers
            self._is_known_finite = True

    @property
    def largest(self) -> float | None:
        """The largest absolute value; None before a sweep has ended."""
        return self._largest if self._is_known_finite else None

    @property
    def _num_blocks(self) -> int:
        return -(-self.shape[0] // self.block_rows)

    def _take_buffers(self) -> list[NDArray[Any]]:
        buffers, self._buffers = self._buffers, None
        if buffers is None:
            shape = (self.block_rows, self.shape[1])
            buffers = [self._source.buffer(shape) for _ in range(2)]
        return buffers

    def _submit(
        self, reader: ThreadPoolExecutor, start: int, buffer: NDArray[Any]
    ) -> Future[NDArray[Any]]:
        return reader.submit(self._read, start, min(start + self.block_rows, self.shape[0]), buffer)

    def _read(self, start: int, stop: int, buffer: NDArray[Any]) -> NDArray[Any]:
        try:
            return self._source.read(start, stop, buffer)
        except Exception as error:
            error.add_note(f"while reading rows {start} to {stop - 1} of `array` ahead")
            raise

    def _work_through(
        self,
        work: Work,
        start: int,
        block: NDArray[Any],
        dtype: np.dtype[Any],
        piece_rows: int,
        exponent: int,
    ) -> None:
        for first in range(0, block.shape[0], piece_rows):
            piece = block[first : first + piece_rows]
            rows = slice(start + first, start + first + piece.shape[0])
            if not self._is_known_finite:
                self._largest = max(self._largest, _largest(piece, rows.start))
            if piece.dtype != dtype or exponent:
                piece = self._converted(piece, dtype, exponent)
            work(rows, piece)

    def _converted(self, piece: NDArray[Any], dtype: np.dtype[Any], exponent: int) -> NDArray[Any]:
        if self._scratch is None or self._scratch.dtype != dtype:
            rows = min(self._tall_piece_rows, self.block_rows)
            self._scratch = np.empty((rows, self.shape[1]), dtype)
        scratch = self._scratch[: piece.shape[0]]
        scratch[...] = piece
        if exponent:
            np.ldexp(scratch, -exponent, out=scratch)
        return scratch


class _Source(ABC):
    """Where blocks come from. ``copies`` is how many of them exist at a time, at most."""

    copies: int
    multiple: int

    @abstractmethod
    def buffer(self, shape: tuple[int, int]) -> NDArray[Any]:
        """Memory to read a block into."""

    @abstractmethod
    def read(self, start: int, stop: int, buffer: NDArray[Any]) -> NDArray[Any]:
        """Rows ``start`` to ``stop - 1``, in ``buffer`` or in an array of their own."""


class _FileSource(_Source):
    """A row-major memmap, read by positioned reads: pages that are only mapped would stay."""

    copies = 2
    multiple = 1

    def __init__(self, file: MappedFile, dtype: np.dtype[Any]) -> None:
        self._file = file
        self._dtype = dtype

    def buffer(self, shape: tuple[int, int]) -> NDArray[Any]:
        return np.empty(shape, self._dtype)

    def read(self, start: int, stop: int, buffer: NDArray[Any]) -> NDArray[Any]:
        block = buffer[: stop - start]
        self._file.read_into(block, start * buffer.shape[1] * self._dtype.itemsize)
        return block


class _SliceSource(_Source):
    """Anything with row slices. What is no array of its own is copied, in the reader's thread."""

    def __init__(self, array: Any, dtype: np.dtype[Any]) -> None:
        self._array = array
        self._dtype = dtype
        chunk = _chunk_rows(array)
        self.multiple = min(chunk or 1, int(array.shape[0]))
        # A chunked array decodes into pieces before it puts the block together.
        self.copies = 4 if chunk else 2

    def buffer(self, shape: tuple[int, int]) -> NDArray[Any]:
        # Pages of `empty` that are never written take no memory: views alone are copied into them.
        return np.empty(shape, self._dtype)

    def read(self, start: int, stop: int, buffer: NDArray[Any]) -> NDArray[Any]:
        block = np.asarray(self._array[start:stop])
        expected = (stop - start, buffer.shape[1])
        if block.shape != expected or block.dtype != self._dtype:
            raise ValueError(
                f"`array[{start}:{stop}]` must have shape {expected} and dtype {self._dtype}, got "
                f"{block.shape} and {block.dtype}; the array has changed or is truncated"
            )
        if block.flags.owndata and block.flags.c_contiguous:
            return block
        buffer = buffer[: stop - start]
        buffer[...] = block
        return buffer


def _source(array: Any, dtype: np.dtype[Any]) -> _Source:
    file = mapped_file(array)
    return _SliceSource(array, dtype) if file is None else _FileSource(file, dtype)


def _chunk_rows(array: Any) -> int | None:
    """Rows of a chunk of a chunked array (Zarr, HDF5); None for what has no chunks."""
    chunks = getattr(array, "chunks", None)
    try:
        return check_count("chunks", chunks[0]) if chunks else None
    except TypeError:  # chunks of unequal sizes have no common multiple worth keeping
        return None


def _check_array(array: Any) -> None:
    shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", None)
    if shape is None or dtype is None or not hasattr(array, "__getitem__"):
        raise TypeError(
            "`array` must be a numpy.memmap, a Zarr array, or another array with row slices, got "
            f"{type(array).__name__}; a matrix in memory goes into `LeastSquares`"
        )
    if len(shape) != 2 or 0 in shape:
        raise ValueError(
            "`array` must have two dimensions and at least one row and column, "
            f"got shape {tuple(shape)}"
        )
    try:
        kind = np.dtype(dtype).kind
    except TypeError:  # another package's dtype
        kind = ""
    if kind not in ("b", "u", "i", "f"):
        raise TypeError(f"`array` must be real, with a NumPy dtype, got dtype {dtype}")
    stored, expected = getattr(array, "nchunks_initialized", None), getattr(array, "nchunks", None)
    if stored is not None and expected is not None and stored < expected:
        raise ValueError(
            f"`array` must have all its chunks stored, got {stored} of {expected}; the missing "
            f"ones would be read as {getattr(array, 'fill_value', 0)!r}. Write them again, or, if "
            "they are meant, store them with Zarr's `write_empty_chunks`"
        )


def _block_rows(
    wanted: int | None,
    num_rows: int,
    multiple: int,
    copies: int,
    row_bytes: int,
    scratch: int,
    memory: int,
) -> int:
    """Rows of a block, or an error that says what would fit."""
    per_row = copies * row_bytes
    most = max(0, memory - scratch) // per_row
    if most < multiple:
        unit = "one row" if multiple == 1 else f"one chunk of {multiple} rows"
        remedy = "raise `memory`" if multiple == 1 else "raise `memory` or store smaller chunks"
        raise ValueError(
            f"`memory` must hold the block in use and the one read ahead: at least "
            f"{multiple * per_row + scratch} bytes with {unit} each, got {memory}; {remedy}"
        )
    if wanted is None:
        most = min(most, max(multiple, BLOCK_BYTES // row_bytes))
        return min(most // multiple * multiple, -(-num_rows // multiple) * multiple)
    wanted = check_count("block_rows", wanted)
    wanted = min(wanted, -(-num_rows // multiple) * multiple)
    if wanted % multiple:
        raise ValueError(
            f"`block_rows` must be a multiple of the {multiple} rows of a chunk, so that each "
            f"chunk is read once, got {wanted}"
        )
    if wanted > most:
        raise ValueError(
            f"`block_rows` must be at most {most // multiple * multiple} to fit "
            f"`memory`={memory}, got {wanted}; lower it or raise `memory`"
        )
    return wanted


def _largest(piece: NDArray[Any], start: int) -> float:
    """The largest absolute value of a piece, which must be finite."""
    largest = max(-float(piece.min()), float(piece.max()))
    if not math.isfinite(largest):
        finite = np.isfinite(piece)
        row, column = divmod(int(np.argmin(finite)), piece.shape[1])
        raise ValueError(
            f"`array` must be finite, got {piece[row, column]} at index {(start + row, column)}; "
            "remove or replace the missing and infinite entries first"
        )
    return largest
