"""The .npz format: archives of arrays, of which SciPy's sparse ones are a kind."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from stepfold.cli.formats.memory import check_room_for_problem
from stepfold.cli.formats.npy import Header, read_header
from stepfold.operators import check_indices

SPARSE = {"data", "format", "shape"}
NAMES_SHOWN = 12


def read_npz(path: Path, name: str | None) -> Any:
    """The sparse array, the one array, or the array of that name in an archive.

    Raises:
        click.UsageError: If there are several arrays and none is named, or none has that name.
    """
    with zipfile.ZipFile(path) as archive:
        members = {
            info.filename.removesuffix(".npy"): info
            for info in archive.infolist()
            if info.filename.endswith(".npy")
        }
        if name is None and members.keys() >= SPARSE:
            return _read_sparse(_Parts(archive, members))
        if not members:
            raise ValueError("it holds no arrays")
        if name is None and len(members) == 1:
            name = next(iter(members))
        if name is None:
            raise click.UsageError(
                f"{path} holds several arrays; name one, as {path}:{next(iter(members))} "
                f"({_listed(members)})"
            )
        if name not in members:
            raise click.UsageError(f"{path} holds no array {name!r}; it holds {_listed(members)}")
        return _Parts(archive, members).array(name)


def _listed(members: Mapping[str, Any]) -> str:
    shown = ", ".join(list(members)[:NAMES_SHOWN])
    return shown if len(members) <= NAMES_SHOWN else f"{shown}, … ({len(members)} in all)"


class _Parts:
    """The arrays of an archive, looked at before they are unpacked."""

    def __init__(self, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]) -> None:
        self._archive, self._members = archive, members

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def header(self, name: str) -> Header:
        """What the header of an array declares."""
        if name not in self._members:
            raise ValueError(f"it is a sparse array without {name!r}")
        with self._archive.open(self._members[name]) as stream:
            return read_header(stream)

    def array(self, name: str) -> Any:
        """An array, to its end: what is read in full has its checksum compared."""
        self.header(name).check(self._members[name].file_size)
        with self._archive.open(self._members[name]) as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
            stream.read(1)
        return array

    def integers(self, name: str, shape: tuple[int, ...] | None = None) -> Any:
        """An array of integers, of one dimension or of that shape."""
        header = self.header(name)
        if header.dtype.kind not in "iu" or (
            header.shape != shape if shape else len(header.shape) != 1
        ):
            raise ValueError(
                f"{name!r} of a sparse array must hold integers, got {header.dtype} of shape "
                f"{header.shape}"
            )
        return self.array(name)


def _read_sparse(parts: _Parts) -> Any:
    """A sparse array by rows. SciPy's conversions trust the indices, so they are checked."""
    import scipy.sparse

    header = parts.header("format")
    if header.shape != () or header.dtype.kind not in "SU":
        raise ValueError("'format' of a sparse array must be a word")
    word = parts.array("format").item()
    form = word.decode("ascii") if isinstance(word, bytes) else word
    rows, columns = map(int, parts.integers("shape", (2,)))
    shape = (rows, columns)
    check_room_for_problem(shape)
    if parts.header("data").dtype.kind not in "buifc":
        raise ValueError(f"its entries are no numbers but {parts.header('data').dtype}")
    data = parts.array("data")
    matrix: Any
    if form in ("bsr", "csc", "csr"):
        make = getattr(scipy.sparse, f"{form}_array")
        matrix = make((data, parts.integers("indices"), parts.integers("indptr")), shape=shape)
        check_indices("its array", matrix)
    elif form == "coo":
        places = (parts.integers("row"), parts.integers("col"))
        matrix = scipy.sparse.coo_array((data, places), shape=shape)
    elif form == "dia":
        matrix = scipy.sparse.dia_array((data, parts.integers("offsets")), shape=shape)
    else:
        raise ValueError(f"its sparse format {form!r} is unknown")
    if form != "csr":
        # 64-bit indices, the longer ones, and the pointers to rows.
        check_room_for_problem(shape, matrix.nnz * (data.itemsize + 8) + 8 * rows)
    return scipy.sparse.csr_array(matrix)
