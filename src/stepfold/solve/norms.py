"""Norms of rows, without overflow and without temporaries where neither is near."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from stepfold._typing import FloatArray

# Squares of entries between these lose no digit that a norm of float32 or float64 could hold.
_SAFE = {4: (1e-30, 1e36), 8: (1e-280, 1e300)}


def norms(rows: Any) -> FloatArray:
    """Euclidean norm of a vector, shape (1,), or of each row of a batch, shape (batch,)."""
    if isinstance(rows, np.ndarray):
        if rows.dtype == np.float16:
            rows = rows.astype(np.float32)  # sums of halves overflow at 65504
        low, high = _SAFE[4 if rows.dtype in (np.float32, np.complex64) else 8]
        if rows.ndim == 1:
            squares = np.array([np.vdot(rows, rows).real], dtype=np.float64)
        else:
            wide = np.complex128 if rows.dtype.kind == "c" else np.float64
            squares = np.einsum("ij,ij->i", rows.conj(), rows, dtype=wide).real
        if np.all((squares > low) & (squares < high)):
            return np.sqrt(squares)
    return _scaled_norms(rows)


def _scaled_norms(rows: Any) -> FloatArray:
    sizes: Any = abs(rows)
    if sizes.ndim == 1:
        sizes = sizes[None]
    if not isinstance(sizes, np.ndarray) and sizes.dtype.itemsize < 4:
        sizes = sizes.float()  # a bfloat16 has eight bits: its sums would have none
    peaks: Any = sizes.max(1) if isinstance(sizes, np.ndarray) else sizes.amax(1)
    peak = np.asarray(peaks.tolist(), dtype=np.float64)
    # Not times 1 / peak, which overflows float32 for a subnormal peak.
    safe = peaks + (peaks == 0)
    if isinstance(sizes, np.ndarray):
        sizes /= safe[:, None]  # a start of 0 comes here, and need not take two vectors more
        wide = np.result_type(sizes, np.float64)  # of long doubles it is theirs
        squares = np.einsum("ij,ij->i", sizes, sizes, dtype=wide).astype(np.float64)
    else:
        scaled = sizes / safe[:, None]
        squares = np.asarray((scaled * scaled).sum(1).tolist(), dtype=np.float64)
    result: FloatArray = peak * np.sqrt(squares)
    return result


def column(sizes: FloatArray, like: Any) -> Any:
    """Norms as a divisor of the rows of ``like``; 1 in place of 0."""
    sizes = np.where(sizes > 0, sizes, 1.0)
    if like.ndim == 1:
        return float(sizes[0])
    if isinstance(like, np.ndarray):
        return sizes.astype(np.abs(like[:1]).dtype)[:, None]
    return like.new_tensor(sizes.tolist())[:, None]


def epsilon(rows: Any) -> float:
    """Machine epsilon of the dtype of ``rows``."""
    if isinstance(rows, np.ndarray):
        return float(np.finfo(rows.dtype).eps)
    # Whoever holds a tensor has imported torch.
    return float(sys.modules["torch"].finfo(rows.dtype).eps)


def put_rows(full: Any, places: Any, rows: Any) -> Any:
    """Return a copy of ``full`` with ``rows`` at ``places``."""
    copy = 1 * full
    copy[places.tolist()] = rows
    return copy
