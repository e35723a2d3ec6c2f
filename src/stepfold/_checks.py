"""Checks of arguments: each message names the argument, the rule, the value and the remedy."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from stepfold._typing import FloatArray


def check_count(name: str, value: int, *, minimum: int = 1) -> int:
    """Return ``value`` as an ``int`` of at least ``minimum``; NumPy integers pass, 2.0 does not."""
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an integer, got {value!r}") from None
    if isinstance(value, bool) or count < minimum:
        raise ValueError(f"`{name}` must be an integer of at least {minimum}, got {value!r}")
    return count


def check_vector(name: str, values: Any) -> FloatArray:
    """Return a float64 copy of a non-empty, finite, real, one-dimensional array."""
    array = np.asarray(values)
    if array.dtype.kind not in "buif":
        raise TypeError(f"`{name}` must hold real numbers, got dtype {array.dtype}")
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"`{name}` must be a one-dimensional array of at least one number, "
            f"got shape {array.shape}"
        )
    check_finite(name, array)
    return array.astype(np.float64)


def check_finite(name: str, array: Any) -> None:
    """Raise if a NumPy array holds NaN or infinity, naming the place of the first one."""
    finite = np.isfinite(array)
    if not finite.all():
        index = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), finite.shape))
        place = index[0] if len(index) == 1 else index
        raise ValueError(
            f"`{name}` must be finite, got {array[index]} at index {place}; "
            "remove or replace the missing and infinite entries first"
        )


def check_matrix(name: str, matrix: Any) -> Any:
    """Return a real linear map ready for products; array-likes of integers become float64.

    Entries are looked at where they are known (ndarray, sparse array, torch tensor); a matrix-free
    operator is taken at its word.
    """
    if isinstance(matrix, (list, tuple, np.matrix)):
        # Products of an `np.matrix`, which `todense` of a sparse matrix returns, stay matrices.
        matrix = np.asarray(matrix)
    shape = getattr(matrix, "shape", None)
    if shape is None or not hasattr(matrix, "__matmul__"):
        raise TypeError(
            f"`{name}` must be a matrix or a linear operator with a shape and products `@`, "
            f"got {type(matrix).__name__}"
        )
    if len(shape) != 2 or 0 in shape:
        raise ValueError(
            f"`{name}` must have two dimensions and at least one row and column, "
            f"got shape {tuple(shape)}"
        )
    kind = getattr(getattr(matrix, "dtype", None), "kind", "f")  # torch's dtypes have no kind
    if kind not in "buif":
        raise TypeError(f"`{name}` must be real, got dtype {matrix.dtype}")
    is_sparse = hasattr(matrix, "tocsr")
    if is_sparse and matrix.format not in ("csr", "csc"):
        matrix = matrix.tocsr()
    if kind in "bui" and (is_sparse or isinstance(matrix, np.ndarray)):
        matrix = matrix.astype(np.float64)
    if is_sparse:
        check_finite(f"{name}.data", matrix.data)
    elif isinstance(matrix, np.ndarray):
        check_finite(name, matrix)
    elif hasattr(matrix, "isfinite") and not bool(matrix.isfinite().all()):
        raise ValueError(
            f"`{name}` must be finite, got a NaN or infinite entry; "
            "remove or replace the missing and infinite entries first"
        )
    return matrix
