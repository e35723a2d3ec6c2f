"""How large the numbers of a problem are, and the problem with its numbers divided.

Units are powers of two, so that dividing by them costs no digit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import (
    column,
    is_array,
    is_sparse_tensor,
    largest_entry,
    namespace,
    tiny,
    to_host,
)
from stepfold._typing import FloatArray

# Entries that are looked at to find out the units of a matrix.
NUM_SAMPLES = 4096


@dataclass(frozen=True, eq=False)
class Sizes:
    """About how large the numbers of a quadratic problem are.

    Args:
        matrix: The largest entry of the matrix, from a sample; 0 where entries are not known.
        rhs: The largest entry of each right-hand side.
        tiny: The smallest normal number of the dtype.
        dtype: Its name.
        is_squared: Whether the Hessian is ``AᵀA`` and not A.
    """

    matrix: float
    rhs: FloatArray
    tiny: float
    dtype: str
    is_squared: bool

    @classmethod
    def of(cls, matrix: Any, rhs: Any, *, is_squared: bool) -> Sizes:
        """Those of arrays or operators."""
        dtype = str(rhs.dtype).removeprefix("torch.")
        return cls(size_of_entries(matrix), peaks(rhs), tiny(rhs), dtype, is_squared)


def exponent_of(size: float) -> int:
    """The power of two above a number; 0 for 0 and for what is no number."""
    # 2¹⁰²⁴ is no number.
    return min(math.frexp(size)[1], 1023) if 0 < size < math.inf else 0


def peaks(rows: Any) -> FloatArray:
    """The largest absolute value of a vector or of each row."""
    xp = namespace(rows)
    found: FloatArray = np.atleast_1d(to_host(xp.max(xp.abs(rows), axis=-1)))
    return found.astype(np.float64)


def size_of_entries(matrix: Any) -> float:
    """About the largest entry, from a sample; 0 where entries are not known."""
    entries = matrix.data if hasattr(matrix, "tocsr") else matrix
    if isinstance(entries, np.ndarray):
        flat = entries.reshape(-1, order="A") if entries.flags.forc else entries[:64].reshape(-1)
        sample = flat[:: max(1, flat.size // NUM_SAMPLES)]
        largest = float(abs(sample).max(initial=0.0))
        return largest if largest > 0 else float(abs(flat).max(initial=0.0))
    if is_array(matrix):
        values = matrix.values() if is_sparse_tensor(matrix) else matrix
        return largest_entry(values) if math.prod(values.shape) else 0.0
    return 0.0


def divided(values: Any, exponent: int) -> Any:
    """``values/2**exponent``, in two halves: the power may be out of range."""
    half = exponent // 2
    dtype = getattr(values, "dtype", None)
    is_narrow = isinstance(dtype, np.dtype) and dtype.kind == "f"
    for part in (half, exponent - half):
        power = 2.0**-part
        values = values * (dtype.type(power) if is_narrow else power)  # type: ignore[union-attr]
    return values


def rows_divided(rows: Any, exponents: NDArray[np.int64]) -> Any:
    """Each row divided by its power of two, in two halves."""
    half = exponents // 2
    for part in (half, exponents - half):
        rows = rows * column(np.ldexp(1.0, -part), rows)
    return rows
