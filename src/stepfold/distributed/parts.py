"""A matrix, or right-hand sides, in several files of one folder, and the list of them.

The list is ``parts.json``: the shape of the whole, its dtype, and the files with the rows that each
holds, in order. Files are ``.npy`` (dense), ``.npz`` (sparse, as SciPy saves them) or ``.zarr``
folders; a single ``.npy`` or ``.npz`` file is a list of one. Nobody reads another's rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._checks import check_count, check_items, check_path, check_text
from stepfold._extras import how_to_install
from stepfold._files import replacing, write_array
from stepfold.problems._mapped import mapped_file

FORMAT = "stepfold.parts/1"
LIST = "parts.json"
SUFFIXES = (".npy", ".npz", ".zarr")


@dataclass(frozen=True)
class Part:
    """A file.

    Args:
        path: Where.
        rows: How many rows of A, or entries of each b, it holds.
    """

    path: Path
    rows: int


@dataclass(frozen=True)
class Parts:
    """Files that are one array together.

    Args:
        path: The folder, or the file.
        shape: Of the whole: (m, n) for a matrix, (m,) or (batch, m) for right-hand sides.
        dtype: Of all files.
        parts: The files, in order.
        axis: Along which they lie: 0 for a matrix, −1 for right-hand sides.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_parts(folder, np.split(np.arange(8.0).reshape(4, 2), 2))
    ...     parts = Parts.of_matrix(folder)
    ...     parts.shape, parts.share(1, 2), parts.rows(1, 3)[:]
    ((4, 2), (2, 4), array([[2., 3.],
           [4., 5.]]))
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    parts: tuple[Part, ...]
    axis: int

    @classmethod
    def of_matrix(cls, path: str | Path) -> Parts:
        """The rows of a matrix.

        Raises:
            FileNotFoundError: If there is no list, or a file that it names is missing.
            ValueError: If the list is damaged, or does not fit the files.
        """
        return _opened(Path(path), 0)

    @classmethod
    def of_rhs(cls, path: str | Path) -> Parts:
        """Right-hand sides, by their entries.

        Raises:
            FileNotFoundError: If there is no list, or a file that it names is missing.
            ValueError: If the list is damaged, or does not fit the files.
        """
        return _opened(Path(path), -1)

    @property
    def num_rows(self) -> int:
        """m."""
        return self.shape[self.axis]

    @property
    def is_sparse(self) -> bool:
        """Whether files hold sparse matrices."""
        return any(part.path.suffix == ".npz" for part in self.parts)

    def share(self, rank: int, size: int) -> tuple[int, int]:
        """The first row of a process and the one after its last: as many for each.

        Where files are Zarr arrays, shares are whole chunks, so that none is read by two processes.

        Raises:
            ValueError: If there are fewer rows, or chunks, than processes.
        """
        unit = self._chunk_rows
        num_units = -(-self.num_rows // unit)
        if num_units < size:
            what = "rows" if unit == 1 else f"chunks of {unit} rows"
            raise ValueError(
                f"{self.path} has {num_units} {what} for {size} processes; start fewer processes"
            )
        first, stop = (num_units * place // size * unit for place in (rank, rank + 1))
        return first, min(stop, self.num_rows)

    def largest_share(self, size: int) -> int:
        """Bytes of the dense entries of the largest share."""
        most = max(stop - first for first, stop in (self.share(r, size) for r in range(size)))
        return most * (math.prod(self.shape) // self.num_rows) * self.dtype.itemsize

    @property
    def _chunk_rows(self) -> int:
        units = {_load(part.path).chunks[0] for part in self.parts if part.path.suffix == ".zarr"}
        if len(units) != 1 or any(part.rows % max(units) for part in self.parts[:-1]):
            return 1
        return int(units.pop())

    def rows(self, first: int, stop: int) -> Any:
        """Some rows of a matrix: an array with row slices that reads files, or a sparse array."""
        pieces = self._pieces(first, stop)
        if not self.is_sparse:
            return _Rows(pieces, self.shape[1], self.dtype, self._chunk_rows)
        import scipy.sparse

        return scipy.sparse.vstack([held[a:b] for held, a, b in pieces], format="csr")

    def entries(self, first: int, stop: int) -> NDArray[Any]:
        """Some entries of each right-hand side, in memory."""
        pieces = [np.asarray(held[..., a:b]) for held, a, b in self._pieces(first, stop)]
        return np.concatenate(pieces, axis=-1)

    def _pieces(self, first: int, stop: int) -> list[tuple[Any, int, int]]:
        found, start = [], 0
        for part in self.parts:
            a, b = max(first - start, 0), min(stop - start, part.rows)
            if a < b:
                found.append((_load(part.path), a, b))
            start += part.rows
        return found


class _Rows:
    """Rows in several files, as an array with row slices; a slice is read into memory."""

    def __init__(
        self, pieces: list[tuple[Any, int, int]], columns: int, dtype: np.dtype[Any], unit: int
    ) -> None:
        self._pieces, self._files = pieces, [mapped_file(held) for held, _, _ in pieces]
        self.shape = (sum(b - a for _, a, b in pieces), columns)
        self.dtype = dtype
        self.chunks = (unit, columns) if unit > 1 else None

    def __getitem__(self, key: slice) -> NDArray[Any]:
        first, stop, _ = key.indices(self.shape[0])
        block = np.empty((max(stop - first, 0), self.shape[1]), self.dtype)
        start = 0
        for (held, a, b), file in zip(self._pieces, self._files, strict=True):
            low, high = max(first - start, 0), min(stop - start, b - a)
            if low < high:
                into = block[start + low - first : start + high - first]
                if file is None:
                    into[...] = held[a + low : a + high]
                else:
                    file.read_into(into, (a + low) * self.shape[1] * self.dtype.itemsize)
            start += b - a
        return block


def write_parts(folder: str | Path, parts: Iterable[Any]) -> None:
    """Write a matrix, or right-hand sides, part by part, and the list of the files.

    Only one part is in memory at a time. The list is written last: a folder without it is not
    whole.

    Args:
        folder: Where; made if need be, and empty of parts.
        parts: Dense arrays or sparse ones of SciPy: rows (mᵢ, n) of a matrix, or entries (mᵢ,) or
            (batch, mᵢ) of right-hand sides, in order.

    Raises:
        FileExistsError: If there is a list already.
        ValueError: If there are no parts, or they do not fit each other.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_parts(folder, [np.ones((2, 3)), np.zeros((1, 3))])
    ...     Parts.of_matrix(folder).shape
    (3, 3)
    """
    folder = check_path("folder", folder)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / LIST).exists():
        raise FileExistsError(f"{folder / LIST} exists; choose another folder, or remove it")
    names = []
    for count, part in enumerate(parts):
        sparse = hasattr(part, "tocsr")
        names.append(f"part-{count:05}{'.npz' if sparse else '.npy'}")
        with replacing(folder / names[-1], prefix=".part-") as file:
            if sparse:
                import scipy.sparse

                scipy.sparse.save_npz(file, part.tocsr(), compressed=False)
            else:
                write_array(file, np.asarray(part))
    list_parts(folder, names)


def list_parts(folder: str | Path, names: Iterable[str] | None = None) -> None:
    """Write the list of files that are there already.

    Args:
        folder: Where they are, and where the list goes.
        names: The files in order; those with a known suffix, by name, if None.

    Raises:
        FileNotFoundError: If one is missing.
        ValueError: If there are none, or they do not fit each other.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "rows.npy", np.ones((2, 3)))
    ...     list_parts(folder)
    ...     Parts.of_matrix(folder).shape
    (2, 3)
    """
    folder = check_path("folder", folder)
    if names is None:
        names = sorted(path.name for path in folder.iterdir() if path.suffix in SUFFIXES)
    names = [check_text("names", name) for name in check_items("names", names, "names of files")]
    held = [(name, *_facts(folder / name)) for name in names]
    if not held:
        raise ValueError(
            f"`folder` {folder} has no parts ({', '.join(SUFFIXES)}); write some first"
        )
    _, first, dtype = held[0]
    for name, shape, kind in held:
        if len(shape) != len(first) or kind != dtype:
            raise ValueError(
                f"parts must have as many axes and one dtype, got {first} of {dtype} in "
                f"{held[0][0]} and {shape} of {kind} in {name}"
            )
    lengths = [{shape[axis] for _, shape, _ in held} for axis in range(len(first))]
    if len(first) == 2 and min(map(len, lengths)) > 1:
        raise ValueError(
            "parts must have as many columns, or be as many right-hand sides, got shapes "
            f"{', '.join(str(shape) for _, shape, _ in held)}"
        )
    record = {
        "format": FORMAT,
        "dtype": str(dtype),
        "parts": [{"file": name, "shape": list(shape)} for name, shape, _ in held],
    }
    with replacing(folder / LIST, prefix=f".{LIST}-", synced=True) as file:
        file.write(json.dumps(record, indent=1).encode())


def _opened(path: Path, axis: int) -> Parts:
    if path.is_file():
        shape, dtype = _facts(path)
        return _checked(Parts(path, shape, dtype, (Part(path, shape[axis]),), axis))
    if not (path / LIST).is_file():
        raise FileNotFoundError(
            f"{path} has no {LIST}; write one by `stepfold.distributed.list_parts(folder)`"
        )
    try:
        record = json.loads((path / LIST).read_text())
        found, dtype = record["format"], np.dtype(record["dtype"])
        listed = [
            (check_text("file", one["file"]), tuple(map(int, one["shape"])))
            for one in record["parts"]
        ]
        whole = listed[0][1]
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path / LIST} is damaged ({error!r}); write it again") from None
    if found != FORMAT:
        raise ValueError(f"{path / LIST} must be of format {FORMAT!r}, got {found!r}")
    parts: list[Part] = []
    for name, shape in listed:
        file = path / name
        if any(file == part.path for part in parts):
            raise ValueError(f"{path / LIST} must name each file once, got {name!r} twice")
        if Path(name).name != name:
            raise ValueError(f"{path / LIST} must name files beside it, got {name!r}")
        there, kind = _facts(file)
        if there != shape or kind != dtype:
            raise ValueError(
                f"{path / LIST} does not fit {file}: it says {shape} of {dtype}, and the file has "
                f"{there} of {kind}; write the list again"
            )
        rest, other = (np.delete(np.array(one), axis).tolist() for one in (whole, shape))
        if rest != other:
            raise ValueError(
                f"{path}: parts must differ along their {'rows' if axis == 0 else 'entries'} only, "
                f"got shapes {whole} and {shape}"
            )
        parts.append(Part(file, shape[axis]))
    lengths = list(whole)
    lengths[axis] = check_count("rows", sum(part.rows for part in parts))
    return _checked(Parts(path, tuple(lengths), dtype, tuple(parts), axis))


def _checked(parts: Parts) -> Parts:
    if len(parts.shape) not in ((2,) if parts.axis == 0 else (1, 2)) or 0 in parts.shape:
        what = "a matrix" if parts.axis == 0 else "right-hand sides"
        raise ValueError(f"{parts.path} must hold {what}, got shape {parts.shape}")
    return parts


def _facts(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of a file, from its header alone where that tells."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; write it again, or list the parts anew")
    try:
        held = _load(path)
    except ImportError:
        raise
    except Exception as error:  # noqa: BLE001 (what a damaged archive raises nobody has listed)
        raise ValueError(f"{path} is damaged or no array ({error}); write it again") from None
    return tuple(int(length) for length in held.shape), np.dtype(held.dtype)


def _load(path: Path) -> Any:
    if path.suffix == ".npz":
        import scipy.sparse

        with path.open("rb") as file:
            return scipy.sparse.csr_array(scipy.sparse.load_npz(file))
    if path.suffix == ".zarr":
        try:
            import zarr
        except ImportError:
            raise ImportError(f"{path} needs zarr; {how_to_install('out-of-core')}") from None
        return zarr.open_array(path, mode="r")
    if path.suffix != ".npy":
        raise ValueError(f"{path} must end in {', '.join(SUFFIXES)}")
    return np.load(path, mmap_mode="r", allow_pickle=False)
