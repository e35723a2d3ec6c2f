"""Arithmetic of rows that several penalties share."""

from __future__ import annotations

import math
from typing import Any

from stepfold._arrays import epsilon, from_host, namespace

# Units of rounding by which a point may lie outside a set and still count as in it.
SLACK = 1000


def fitting(name: str, values: Any, rows: Any) -> Any:
    """Numbers, one or one for each entry, like ``rows``; checked to be as many."""
    if values.ndim and values.size != rows.shape[-1]:
        raise ValueError(f"`{name}` has {values.size} entries, got rows of length {rows.shape[-1]}")
    return from_host(values, rows)


def largest(rows: Any) -> Any:
    """Largest entry of a vector or of each row."""
    return namespace(rows).max(rows, axis=-1)


def rounding(rows: Any) -> float:
    """`SLACK` times the machine epsilon of the rows' dtype."""
    return SLACK * epsilon(rows)


def indicator(violation: Any, scale: float) -> Any:
    """0 where the violation is within rounding of numbers of size ``scale``, else infinity."""
    outside = ~(violation <= rounding(violation) * scale)  # NaN is outside
    xp = namespace(violation)
    zero = xp.zeros_like(violation)
    return xp.where(outside, zero + math.inf, zero)[()]
