"""The Matrix Market format, read strictly: SciPy's reader ends the process on some cut files.

References:
    Boisvert, Pozo and Remington, The Matrix Market Exchange Formats (1996), NISTIR 5935.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from stepfold.cli.formats.lines import read_lines
from stepfold.cli.formats.memory import check_room, check_room_for_problem

NUMBERS = {"real": 1, "double": 1, "integer": 1, "unsigned-integer": 1, "complex": 2, "pattern": 0}
SYMMETRIES = ("general", "symmetric", "skew-symmetric", "hermitian")
LONGEST_LINE = 1024  # the format's own limit


class _Header(NamedTuple):
    is_sparse: bool
    field: str
    symmetry: str
    shape: tuple[int, int]
    num_entries: int
    num_lines: int
    """Lines before the first entry."""


def read_mtx(path: Path) -> Any:
    """The matrix in a Matrix Market file: sparse by rows, or dense."""
    with path.open(encoding="latin-1") as text:
        return _read(text, path.stat().st_size)


def _read(text: IO[str], size: int) -> Any:
    header = _read_header(text)
    num_columns = 2 * header.is_sparse + NUMBERS[header.field]
    if size < 2 * num_columns * header.num_entries:
        raise ValueError(f"it declares {header.num_entries} entries, and has {size} bytes")
    if header.is_sparse:
        # The table of numbers, a list of entries, and rows, not all at once.
        check_room_for_problem(header.shape, (8 * num_columns + 40) * header.num_entries)
    else:
        check_room(16 * num_columns * header.num_entries + 16 * header.shape[0] * header.shape[1])
    table = read_lines(text, num_columns, header.num_lines, None)
    if len(table) != header.num_entries:
        raise ValueError(f"it declares {header.num_entries} entries, and has {len(table)}")
    return _sparse(header, table) if header.is_sparse else _dense(header, table)


def _read_header(text: IO[str]) -> _Header:
    words = text.readline(LONGEST_LINE).lower().split()
    if len(words) != 5 or words[0] != "%%matrixmarket" or words[1] != "matrix":
        raise ValueError("it does not begin with '%%MatrixMarket matrix' and three words")
    form, field, symmetry = words[2:]
    if form not in ("array", "coordinate") or field not in NUMBERS or symmetry not in SYMMETRIES:
        raise ValueError(f"its first line says {' '.join(words[2:])!r}, which is no known kind")
    is_sparse = form == "coordinate"
    if field == "pattern" and not is_sparse:
        raise ValueError("an array must hold numbers, got a pattern")
    line, num_lines = "%", 1
    while line.startswith("%") or (line and not line.strip()):
        line = text.readline()
        num_lines += 1
    sizes = line.split()
    if len(sizes) != 2 + is_sparse or not all(word.isdecimal() for word in sizes):
        raise ValueError(f"line {num_lines} must give its size, got {line.strip()[:60]!r}")
    rows, columns = int(sizes[0]), int(sizes[1])
    if symmetry != "general" and rows != columns:
        raise ValueError(f"it is {symmetry}, and its shape is {(rows, columns)}")
    if is_sparse:
        num_entries = int(sizes[2])
    elif symmetry == "general":
        num_entries = rows * columns
    else:  # the lower triangle, for skew-symmetric ones without the diagonal
        num_entries = rows * (rows + (-1 if symmetry == "skew-symmetric" else 1)) // 2
    return _Header(is_sparse, field, symmetry, (rows, columns), num_entries, num_lines)


def _values(header: _Header, table: Any) -> Any:
    if header.field == "pattern":
        return np.ones(len(table))
    values = table[:, 2 * header.is_sparse]
    return values + 1j * table[:, -1] if header.field == "complex" else values


def _mirrored(symmetry: str, values: Any) -> Any:
    if symmetry == "hermitian":
        return values.conj()
    return -values if symmetry == "skew-symmetric" else values


def _sparse(header: _Header, table: Any) -> Any:
    import scipy.sparse

    places = table[:, :2]
    with np.errstate(invalid="ignore"):  # infinity has no remainder
        wrong = (places < 1) | (places > header.shape) | (places % 1 != 0)
    if wrong.any():
        first = int(np.flatnonzero(wrong.any(1))[0])
        raise ValueError(
            f"entry {first + 1} lies at row {places[first, 0]:g} and column {places[first, 1]:g} "
            f"of a matrix of shape {header.shape}"
        )
    wide = max(header.shape) > np.iinfo(np.int32).max
    rows, columns = (places.T - 1).astype(np.int64 if wide else np.int32)
    values = _values(header, table)
    if header.symmetry != "general":
        if (rows < columns).any() and (rows > columns).any():
            raise ValueError(f"it is {header.symmetry}, and has entries of both triangles")
        off = rows != columns
        if header.symmetry == "skew-symmetric" and not off.all():
            raise ValueError("it is skew-symmetric, and has entries on its diagonal")
        values = np.concatenate([values, _mirrored(header.symmetry, values[off])])
        rows, columns = (
            np.concatenate([rows, columns[off]]),
            np.concatenate([columns, rows[off]]),
        )
    return scipy.sparse.csr_array((values, (rows, columns)), shape=header.shape)


def _dense(header: _Header, table: Any) -> Any:
    values = _values(header, table)
    if header.symmetry == "general":
        return np.ascontiguousarray(values.reshape(header.shape[::-1]).T)
    matrix = np.zeros(header.shape, values.dtype)
    # Columns of the lower triangle, which are rows of the upper one.
    rows, columns = np.triu_indices(
        header.shape[0], 1 if header.symmetry == "skew-symmetric" else 0
    )
    matrix[rows, columns] = _mirrored(header.symmetry, values)
    matrix[columns, rows] = values
    return matrix
