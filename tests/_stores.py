"""A small matrix in every kind of store that out-of-core problems read from."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr

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
