"""What SciPy's iterative solvers take, made ready for arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from stepfold._arrays import without_labels
from stepfold._checks import check_entries, check_finite, check_nonnegative, check_unmasked

Problem = TypeVar("Problem")

_FLOATING = "fdFD"


def system_dtype(*dtypes: Any) -> np.dtype[Any]:
    """Common type of a system, as SciPy's solvers choose it.

    float32, float64, complex64 and complex128 stay; every other real type counts as float64, every
    other complex one as complex128.

    >>> system_dtype(np.dtype("f4"), np.dtype("i8")).name
    'float64'
    """
    known = [np.dtype(d) for d in dtypes if d is not None]
    plain = [d if d.char in _FLOATING else np.dtype("D" if d.kind == "c" else "d") for d in known]
    return np.result_type(*plain)


def convert(matrix: Any, dtype: np.dtype[Any]) -> Any:
    """The matrix with entries of ``dtype``, once, so that no product has to convert them."""
    if hasattr(matrix, "astype") and matrix.dtype != dtype:
        return matrix.astype(dtype)
    return matrix


def posed(pose: Callable[[Any, Any], Problem], matrix: Any, rhs: Any) -> Problem:
    """``pose(matrix, rhs)``; what is wrong with entries of the matrix is said of `A`."""
    try:
        return pose(matrix, rhs)
    except ValueError:
        check_entries("A", matrix)
        raise


def as_vector(name: str, values: Any, length: int, dtype: Any = None) -> Any:
    """A copy of shape (length,) of a finite vector of shape (length,) or (length, 1)."""
    check_unmasked(name, values)
    array = np.asarray(without_labels(name, values))
    if array.dtype.kind not in "buifc":
        raise TypeError(f"`{name}` must hold numbers, got dtype {array.dtype}")
    if array.shape not in ((length,), (length, 1)):
        raise ValueError(
            f"`{name}` must have shape ({length},) or ({length}, 1) to fit `A`, got {array.shape}"
        )
    check_finite(name, array)
    if dtype is None:
        dtype = system_dtype(array.dtype)
    elif array.dtype.kind == "c" and np.dtype(dtype).kind != "c":
        raise TypeError(f"`{name}` must be real for a real system, got dtype {array.dtype}")
    return array.astype(dtype).ravel()


def check_tolerance(name: str, value: Any, *, allow_infinite: bool = False) -> float:
    """Return a tolerance as a ``float``, at least 0; finite unless infinity means "any"."""
    if value is None or isinstance(value, str):  # SciPy's words for defaults that it had once
        raise ValueError(f"`{name}` must be a number of at least 0, got {value!r}; leave it out")
    return float(check_nonnegative(name, value, allow_infinite=allow_infinite))
