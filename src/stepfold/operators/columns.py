"""Norms of the columns of a matrix whose entries are known."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepfold._arrays import dtype_kind, is_array, is_sparse_tensor, namespace


def column_squares(operator: Any) -> Any:
    """Squared Euclidean norms of the columns, shape (n,), with no copy of a dense matrix.

    None where the entries are not known.

    >>> column_squares(np.array([[3.0, 1j], [4.0, 0.0]]))
    array([25.,  1.])
    """
    if hasattr(operator, "tocsr"):
        if not hasattr(operator, "power"):
            return None
        return np.asarray(abs(operator).power(2).sum(0)).ravel()
    if not is_array(operator) or is_sparse_tensor(operator):
        return None
    parts = (operator.real, operator.imag) if dtype_kind(operator.dtype) == "c" else (operator,)
    return sum(_sums(part) for part in parts)


def _sums(part: Any) -> Any:
    xp = namespace(part)
    # `einsum` is no part of the standard, and NumPy 1 has no `vecdot`.
    if hasattr(xp, "einsum"):
        return xp.einsum("ij,ij->j", part, part)
    return xp.vecdot(part, part, axis=0)
