"""Arithmetic of rows that several penalties share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepfold._arrays import (
    dtype_kind,
    epsilon,
    from_host,
    is_numpy,
    is_torch,
    namespace,
    without_labels,
)
from stepfold._checks import check_nonnegative, check_unmasked

# Units of rounding by which a point may lie outside a set and still count as in it.
SLACK = 1000


def fitting(name: str, values: Any, rows: Any) -> Any:
    """Numbers, one or one for each entry, like ``rows``; checked to be as many."""
    if values.ndim and values.size != rows.shape[-1]:
        raise ValueError(f"`{name}` has {values.size} entries, got rows of length {rows.shape[-1]}")
    return from_host(values, rows)


def check_weight(name: str, value: Any) -> Any:
    """Return a weight: one number of at least 0 as it is, or one for each entry as an array.

    A list becomes a float64 array; a tensor stays what it is, for it may be trained.
    """
    value = without_labels(name, value)
    if isinstance(value, list | tuple):
        value = np.asarray(value)
    if math.prod(getattr(value, "shape", ())) == 1:
        return check_nonnegative(name, value)
    check_unmasked(name, value)
    if dtype_kind(getattr(value, "dtype", None)) not in ("b", "u", "i", "f"):
        found = f"dtype {value.dtype}" if hasattr(value, "dtype") else type(value).__name__
        raise TypeError(f"`{name}` must hold real numbers, got {found}")
    shape = tuple(value.shape)
    if len(shape) != 1 or shape[0] == 0:
        raise ValueError(f"`{name}` must be a number, or one for each entry, got shape {shape}")
    bad = np.flatnonzero(~np.array(((value >= 0) & (value < math.inf)).tolist()))
    if bad.size:
        raise ValueError(
            f"`{name}` must be at least 0 and finite, got {float(value[int(bad[0])])!r} at index "
            f"{bad[0]}"
        )
    return value if is_torch(value) else np.array(value, dtype=np.float64)


def weights_of(name: str, weight: Any, rows: Any) -> Any:
    """A checked weight as a factor of ``rows``, in their precision but real."""
    if math.prod(getattr(weight, "shape", ())) == 1:
        return weight
    if weight.shape[0] != rows.shape[-1]:
        raise ValueError(
            f"`{name}` has {weight.shape[0]} entries, got rows of length {rows.shape[-1]}"
        )
    if is_numpy(weight):  # which torch's compiler takes for tensors, but for this question
        return from_host(weight, abs(rows[..., :1]))
    if epsilon(weight) < epsilon(rows):
        kind = abs(rows[..., :1]).dtype
        raise TypeError(
            f"`{name}` must be no more precise than the vectors, which are of {rows.dtype}, or "
            f"torch widens those, got {weight.dtype}; pass `{name}.to({kind})`, or make the "
            f"network with `dtype={kind}`"
        )
    return weight


def is_positive(weight: Any) -> bool:
    """Whether a weight is above 0 in every entry."""
    above = weight > 0
    return bool(above.all()) if hasattr(above, "all") else bool(above)


def top(weight: Any) -> float:
    """The largest entry of a weight."""
    return float(weight.max()) if hasattr(weight, "max") else float(weight)


def check_is_real(kind: str, rows: Any) -> None:
    """Raise for complex rows, which no set defined by an order can hold."""
    if dtype_kind(rows.dtype) == "c":
        raise TypeError(
            f"`v` must be real for {kind}, got dtype {rows.dtype}: complex numbers have no "
            "order; pose the problem in real and imaginary parts"
        )


def real_products(u: Any, v: Any) -> Any:
    """``Re uᴴv`` of vectors or of rows, in their library and with their derivatives."""
    if dtype_kind(u.dtype) == "c" or dtype_kind(v.dtype) == "c":
        return (u.conj() * v).real.sum(-1)
    return (u * v).sum(-1)


def squares(rows: Any) -> Any:
    """``|vᵢ|²`` of every entry."""
    return (rows.conj() * rows).real if dtype_kind(rows.dtype) == "c" else rows * rows


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
