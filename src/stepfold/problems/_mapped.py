"""The file behind a `numpy.memmap`, read by positioned reads and not through the mapping.

Pages that a mapping has touched count as the process's memory until the system wants them back, and
a page beyond the end of a file that was truncated kills the process. A read fills memory that we
own, in one large request, and comes back short instead.
"""

from __future__ import annotations

import mmap
import os
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray


class MappedFile:
    """A file opened for reading at an offset; closed with the object."""

    def __init__(self, path: str, offset: int, num_bytes: int) -> None:
        self._path = path
        self._offset = offset
        self._end = offset + num_bytes
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def read_into(self, block: NDArray[Any], position: int) -> None:
        """Fill a C-contiguous ``block`` from ``position`` bytes after the offset.

        Raises:
            ValueError: If the file ends before the block does.
        """
        view = block.view(np.uint8).reshape(-1).data
        while len(view):
            count = os.preadv(self._descriptor, [view], self._offset + position)
            if count == 0:
                raise ValueError(
                    f"the file of `array`, {self._path!r}, must have at least {self._end} bytes, "
                    f"got {os.fstat(self._descriptor).st_size}; it has been truncated since it was "
                    "opened, write it again"
                )
            view, position = view[count:], position + count


def mapped_file(array: Any) -> MappedFile | None:
    """The file behind a row-major memmap; None where only the mapping has the entries.

    That is so for columns or strided rows, for a copy-on-write mapping, which may hold changes of
    its own, and for a file that has another name or other content by now.
    """
    mapping = getattr(array, "_mmap", None)
    if not (
        isinstance(array, np.memmap)
        and isinstance(mapping, mmap.mmap)
        and array.flags.c_contiguous
        and array.mode in ("r", "r+", "w+")
        and array.filename is not None
        and hasattr(os, "preadv")
    ):
        return None
    # A memmap keeps the offset that it was opened with, and its views keep it too.
    start = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    base = np.frombuffer(mapping, np.uint8)
    offset = start + array.ctypes.data - base.ctypes.data
    _check_size(array, start + len(mapping))
    try:
        file = MappedFile(os.fspath(array.filename), offset, array.nbytes)
    except OSError:
        return None
    # The first and the last row tell whether the name still leads to what is mapped.
    for row in (0, array.shape[0] - 1):
        found = np.empty(array.shape[1], array.dtype)
        file.read_into(found, row * found.nbytes)
        if found.tobytes() != array[row].tobytes():
            return None
    return file


def _check_size(array: Any, expected: int) -> None:
    # Before anything looks at the mapping: a page beyond the end of the file would kill us.
    try:
        size = os.stat(array.filename).st_size
    except OSError:
        return
    if size < expected:
        raise ValueError(
            f"the file of `array`, {os.fspath(array.filename)!r}, must have at least {expected} "
            f"bytes, got {size}; it has been truncated since it was opened, write it again"
        )
