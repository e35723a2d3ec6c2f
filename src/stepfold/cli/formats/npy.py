"""The .npy format: the header is compared with what follows and with the memory there is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from stepfold.cli.formats.memory import check_room

LONGEST_HEADER = 10_000


class Header(NamedTuple):
    """What a .npy header declares."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    """Where the entries begin."""

    def check(self, size: int) -> None:
        """Raise unless ``size`` bytes in all hold the array and there is memory for it.

        Raises:
            ValueError: If the file is shorter than declared, or its shape is no shape.
            MemoryError: If there is not so much memory.
        """
        if any(length < 0 for length in self.shape):
            raise ValueError(f"its header declares the shape {self.shape}")
        if self.dtype.hasobject:
            return  # refused by NumPy's reader
        if self.dtype.itemsize == 0:
            raise ValueError(f"its entries, of dtype {self.dtype}, have no size")
        declared = math.prod(self.shape) * self.dtype.itemsize
        if declared > size - self.offset:
            raise ValueError(
                f"its header declares {declared} bytes of shape {self.shape}, and "
                f"{size - self.offset} follow"
            )
        # Numbers that are no floats are turned into float64.
        copy = 0 if self.dtype.kind in "fc" else 8 * math.prod(self.shape)
        check_room(declared + copy)


def read_npy(path: Path) -> Any:
    """The array in a .npy file."""
    with path.open("rb") as file:
        read_header(file).check(path.stat().st_size)
        file.seek(0)
        # `np.load` would take an archive or a pickle under this ending, too.
        return np.lib.format.read_array(file, allow_pickle=False)


def read_header(stream: IO[bytes]) -> Header:
    """The header at the beginning of a stream."""
    version = np.lib.format.read_magic(stream)
    start = stream.tell()
    length = int.from_bytes(stream.read(2 if version == (1, 0) else 4), "little")
    if length > LONGEST_HEADER:
        raise ValueError(f"its header declares its own length as {length} bytes")
    stream.seek(start)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    else:  # 3.0 differs in the names of fields only
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    return Header(shape, dtype, stream.tell())
