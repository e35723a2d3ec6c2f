"""Operators and errors as the recurrences want them: NumPy, float64, checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepfold._arrays import (
    cast,
    detached,
    dtype_kind,
    from_host,
    has_double,
    is_array,
    is_foreign,
    is_sparse_tensor,
    to_host,
    without_labels,
)
from stepfold._checks import check_finite, check_square
from stepfold._typing import FloatArray
from stepfold.spectrum.exact import USE_GRAM
from stepfold.spectrum.target import has_entries


def to_numpy(name: str, array: Any) -> Any:
    """Return a dense tensor as a NumPy array, and what is no array as it is."""
    array = to_float64(without_labels(name, array))
    if is_sparse_tensor(array):
        raise TypeError(
            f"`{name}` must be a dense tensor, got layout {array.layout}; pass `{name}.to_dense()`"
        )
    return to_host(array) if is_array(array) else array


def to_float64(array: Any) -> Any:
    """Return a tensor in double precision, where it is if it can be; anything else as it is."""
    if not is_foreign(array):
        return array
    double = "complex128" if dtype_kind(array.dtype) == "c" else "float64"
    return cast(detached(array) if has_double(array) else to_host(array), double)


def check_errors(name: str, errors: Any, length: int, *, parts: bool = False) -> FloatArray:
    """Return rows of given length as float64, of shape (batch, length), largest entry 1.

    With ``parts`` they may be complex, of half the length, and become real and imaginary parts.
    """
    errors = np.asarray(to_numpy(name, errors))
    if parts and errors.ndim and errors.shape[-1] == length // 2:
        errors = np.concatenate([errors.real, errors.imag], axis=-1)
    if errors.dtype.kind not in "buif":
        raise TypeError(f"`{name}` must be real, got dtype {errors.dtype}")
    if errors.ndim not in (1, 2) or errors.shape[-1] != length or errors.size == 0:
        raise ValueError(
            f"`{name}` must have shape ({length},) or (batch, {length}) to fit the operator, "
            f"got {errors.shape}"
        )
    check_finite(name, errors)
    rows = np.atleast_2d(errors).astype(np.float64)
    peak = float(np.abs(rows).max())
    if peak == 0:
        raise ValueError(f"`{name}` must not be 0 everywhere; a zero vector has no measure")
    # In two factors, because the reciprocal of a tiny number overflows.
    half = np.ldexp(1.0, int(np.frexp(peak)[1]) // 2)
    scaled: FloatArray = rows / half / (peak / half)
    return scaled


def like(matrix: Any, rows: FloatArray) -> Any:
    """Return rows where the matrix lives: a tensor on its device if it is one."""
    return from_host(rows, matrix) if is_foreign(matrix) else rows


def check_symmetric(matrix: Any) -> None:
    """Refuse a matrix that is not square, or not symmetric as far as its entries are known."""
    check_square("hessian", matrix, USE_GRAM)
    if not has_entries(matrix):
        return  # two products more than the caller was promised; `estimate_bounds` spends them
    # Two products rather than a difference of matrices, which would take the memory of two more.
    first, second = np.random.default_rng(0x53796D).standard_normal((2, matrix.shape[0]))
    images = np.array([to_numpy("hessian", matrix @ like(matrix, v)) for v in (first, second)])
    image, other = images / (np.abs(images).max() or 1.0)
    difference = float(second @ image - first @ other)
    if abs(difference) > 1e-8 * float(np.linalg.norm(second) * np.linalg.norm(image)):
        raise ValueError(
            f"`hessian` must be symmetric: for random u and v, uᵀHv − vᵀHu = {difference:.3g}; "
            "for least squares with this matrix pass `Gram(matrix)`"
        )
