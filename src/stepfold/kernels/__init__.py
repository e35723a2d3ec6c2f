"""Compiled one-pass sweeps, reached only through problems: which matrices have one, and from where.

Below the sizes here the plain formula is as fast: the matrix is in cache, where two products cost
no more than one sweep, or calls and threads cost more than what they save.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stepfold.kernels._compiler import (
    KernelWarning,
    is_loaded,
    load,
    note_run,
    usable,
    worth_loading,
)
from stepfold.kernels.base import Sweep
from stepfold.kernels.conjugate import ConjugateBlock, Steps
from stepfold.kernels.dense import DenseColumns, DenseRows
from stepfold.kernels.sparse import SparseColumns, SparseRows, SparseSymmetric

__all__ = [
    "ConjugateBlock",
    "KernelWarning",
    "Steps",
    "Sweep",
    "conjugate_block",
    "is_loaded",
    "least_squares_sweep",
    "load",
    "note_run",
    "quadratic_sweep",
]

SMALLEST_DENSE = 2**24
"""Bytes of a dense matrix from which least squares has a kernel."""
SMALLEST_SPARSE = 2**19
"""Stored entries of a sparse matrix from which it has a kernel."""
SMALLEST_BLOCK = 2**12
"""Stored entries from which steps of conjugate gradients are made in blocks, once numba is there:
what a step saves is Python's own time."""
MOST_VECTORS = {"rows": 8, "columns": 4}
"""Right-hand sides up to which a dense kernel beats two matrix products, which reuse more of what
is in registers; a complex one counts twice."""
LONGEST_ROW = 2**20
"""Bytes of a row up to which twelve of them stay in cache between their two uses."""
MOST_COLUMNS = 2**12
"""Columns up to which the panels of a matrix stored by columns are high enough to read fast."""
SHORTEST_ROW = 2**7
"""Bytes of x from which the vector loops have anything to do."""
DTYPES = ("float32", "float64", "complex64", "complex128")


def least_squares_sweep(operator: Any, rhs: Any) -> Sweep | None:
    """Kernel for ``keep·x + gamma·Aᴴ(b − A x)``, or None if the plain formula is to serve."""
    if not usable() or not isinstance(rhs, np.ndarray):
        return None
    if isinstance(operator, np.ndarray):
        return _dense_sweep(operator, rhs)
    if _is_sparse(operator, rhs, ("csr", "csc"), SMALLEST_SPARSE):
        kind = SparseRows if operator.format == "csr" else SparseColumns
        return kind(operator, rhs)
    return None


def quadratic_sweep(operator: Any, rhs: Any) -> Sweep | None:
    """Kernel for ``keep·x + gamma·(b − A x)``, or None if the plain formula is to serve."""
    if not usable() or not isinstance(rhs, np.ndarray):
        return None
    if not _is_sparse(operator, rhs, ("csr",), SMALLEST_SPARSE):
        return None
    return SparseSymmetric(operator, rhs)


def conjugate_block(operator: Any, x: Any) -> ConjugateBlock | None:
    """Kernel for steps of conjugate gradients from x, or None if the plain ones are to serve."""
    if not usable() or not isinstance(x, np.ndarray) or x.ndim != 1 or x.dtype.kind != "f":
        return None
    if not _is_sparse(operator, x, ("csr",), SMALLEST_BLOCK):
        return None
    is_counted = operator.nnz >= SMALLEST_SPARSE  # by the sweep
    reads = 0 if is_counted else operator.data.nbytes + operator.indices.nbytes
    if not worth_loading(reads, in_second_run=is_counted):
        return None
    return ConjugateBlock.of(operator, x)


def _dense_sweep(matrix: Any, rhs: Any) -> Sweep | None:
    if matrix.nbytes < SMALLEST_DENSE or not _fits(matrix, rhs) or not _is_plain(matrix):
        return None
    is_complex = rhs.dtype.kind == "c"
    if rhs.dtype == np.complex128:
        return None  # two real products for each row cost more than the second sweep saves
    num_vectors = rhs.size // rhs.shape[-1] * (2 if is_complex else 1)
    num_columns = matrix.shape[1]
    if num_columns * rhs.real.itemsize < SHORTEST_ROW:
        return None
    if matrix.flags.c_contiguous and num_columns * matrix.itemsize <= LONGEST_ROW:
        return DenseRows(matrix, rhs) if num_vectors <= MOST_VECTORS["rows"] else None
    if matrix.flags.f_contiguous and num_columns <= MOST_COLUMNS and not is_complex:
        return DenseColumns(matrix, rhs) if num_vectors <= MOST_VECTORS["columns"] else None
    return None


def _fits(matrix: Any, rhs: Any) -> bool:
    """Both in a dtype that kernels have; the matrix may be stored in half the precision."""
    if matrix.dtype not in DTYPES or rhs.dtype not in DTYPES:
        return False
    if matrix.dtype.kind != rhs.dtype.kind or matrix.dtype.itemsize > rhs.dtype.itemsize:
        return False
    return bool(matrix.dtype.isnative and rhs.dtype.isnative)


def _is_plain(array: Any) -> bool:
    return bool(array.flags.aligned and array.dtype.isnative)


def _is_sparse(matrix: Any, rhs: Any, formats: tuple[str, ...], smallest: int) -> bool:
    if getattr(matrix, "format", None) not in formats or not hasattr(matrix, "indptr"):
        return False
    if matrix.nnz < smallest or not _fits(matrix, rhs):
        return False
    arrays = (matrix.data, matrix.indices, matrix.indptr)
    return all(_is_plain(array) and array.flags.c_contiguous for array in arrays)
