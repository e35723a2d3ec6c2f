"""Compiled one-pass sweeps, reached only through problems: which matrices have one, and from where.

Below the sizes here the plain formula is as fast: the matrix is in cache, where two products cost
no more than one sweep, or calls and threads cost more than what they save.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stepfold.kernels._compiler import KernelWarning, usable
from stepfold.kernels.base import Sweep
from stepfold.kernels.dense import DenseColumns, DenseRows
from stepfold.kernels.sparse import SparseColumns, SparseRows, SparseSymmetric

__all__ = ["KernelWarning", "Sweep", "least_squares_sweep", "quadratic_sweep"]

SMALLEST_DENSE = 2**24
"""Bytes of a dense matrix from which least squares has a kernel."""
SMALLEST_SPARSE = 2**17
"""Stored entries of a sparse matrix from which it has a kernel."""
MOST_VECTORS = 8
"""Right-hand sides up to which a dense kernel beats two matrix products."""
LONGEST_ROW = 2**23
"""Bytes of a row beyond which it does not stay in cache between its two uses."""
DTYPES = ("float32", "float64", "complex64", "complex128")


def least_squares_sweep(operator: Any, rhs: Any) -> Sweep | None:
    """Kernel for ``keep·x + gamma·Aᴴ(b − A x)``, or None if the plain formula is to serve."""
    if not usable() or not isinstance(rhs, np.ndarray):
        return None
    if isinstance(operator, np.ndarray):
        if operator.nbytes < SMALLEST_DENSE or not _fits(operator, rhs):
            return None
        vectors = rhs.size // rhs.shape[-1] * (2 if rhs.dtype.kind == "c" else 1)
        if vectors > MOST_VECTORS or not _is_plain(operator):
            return None
        if operator.flags.c_contiguous and operator.strides[0] <= LONGEST_ROW:
            return DenseRows(operator, rhs)
        if (
            operator.flags.f_contiguous
            and 16 * operator.shape[1] * operator.itemsize <= 4 * LONGEST_ROW
        ):
            return DenseColumns(operator, rhs)
        return None
    if _is_sparse(operator, rhs, ("csr", "csc")):
        kind = SparseRows if operator.format == "csr" else SparseColumns
        return kind(operator, rhs)
    return None


def quadratic_sweep(operator: Any, rhs: Any) -> Sweep | None:
    """Kernel for ``keep·x + gamma·(b − A x)``, or None if the plain formula is to serve."""
    if not usable() or not isinstance(rhs, np.ndarray):
        return None
    return SparseSymmetric(operator, rhs) if _is_sparse(operator, rhs, ("csr",)) else None


def _fits(matrix: Any, rhs: Any) -> bool:
    """Both in a dtype that kernels have; the matrix may be stored in half the precision."""
    if matrix.dtype not in DTYPES or rhs.dtype not in DTYPES:
        return False
    if matrix.dtype.kind != rhs.dtype.kind or matrix.itemsize > rhs.itemsize:
        return False
    return bool(matrix.dtype.isnative and rhs.dtype.isnative)


def _is_plain(array: Any) -> bool:
    return bool(array.flags.aligned and array.dtype.isnative)


def _is_sparse(matrix: Any, rhs: Any, formats: tuple[str, ...]) -> bool:
    if getattr(matrix, "format", None) not in formats or not hasattr(matrix, "indptr"):
        return False
    if matrix.nnz < SMALLEST_SPARSE or not _fits(matrix, rhs):
        return False
    arrays = (matrix.data, matrix.indices, matrix.indptr)
    return all(_is_plain(array) and array.flags.c_contiguous for array in arrays)
