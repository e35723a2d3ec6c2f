"""Arithmetic of rows that NumPy and torch spell differently."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

# Units of rounding by which a point may lie outside a set and still count as in it.
SLACK = 1000


def like(values: Any, rows: Any) -> Any:
    """A NumPy array in the array type, device and dtype of ``rows``."""
    if isinstance(rows, np.ndarray):
        return values.astype(rows.dtype, copy=False)
    return rows.new_tensor(values.tolist())


def fitting(name: str, values: Any, rows: Any) -> Any:
    """Numbers, one or one for each entry, like ``rows``; checked to be as many."""
    if values.ndim and values.size != rows.shape[-1]:
        raise ValueError(f"`{name}` has {values.size} entries, got rows of length {rows.shape[-1]}")
    return like(values, rows)


def largest(rows: Any) -> Any:
    """Largest entry of a vector or of each row."""
    return rows.max(-1) if isinstance(rows, np.ndarray | np.generic) else rows.amax(-1)


def rounding(rows: Any) -> float:
    """`SLACK` times the machine epsilon of the rows' dtype."""
    if isinstance(rows, np.ndarray | np.generic):
        return SLACK * float(np.finfo(rows.dtype).eps)
    # Whoever holds a tensor has imported torch.
    return SLACK * float(sys.modules["torch"].finfo(rows.dtype).eps)


def indicator(violation: Any, scale: float) -> Any:
    """0 where the violation is within rounding of numbers of size ``scale``, else infinity."""
    outside = ~(violation <= rounding(violation) * scale)  # NaN is outside
    if isinstance(violation, np.ndarray | np.generic):
        return np.where(outside, math.inf, 0.0)[()]
    return (0 * violation).masked_fill(outside, math.inf)


def namespace(rows: Any) -> Any:
    """``numpy`` or ``torch``."""
    return np if isinstance(rows, np.ndarray | np.generic) else sys.modules["torch"]
