"""Sums over rows: norms and inner products, in double precision on the host; sums of vectors."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepfold._arrays.kinds import (
    REAL_NAMES,
    dtype_kind,
    has_double,
    is_numpy,
    is_torch,
    name_of,
    namespace,
)
from stepfold._arrays.making import cast, column, computed, conjugate, reshaped, to_host
from stepfold._typing import FloatArray

# Sums of squares between these have lost no digit of a norm to overflow or underflow.
_SAFE = {4: (1e-30, 1e36), 8: (1e-280, 1e300)}
# Powers of two by which numbers are scaled at most: neither they nor the results overflow.
_MAX_EXPONENT = {4: 120, 8: 1000}
# Products of float32 vectors are summed in pieces of this length: within a piece BLAS adds in
# single precision, which over ten million entries costs three digits.
_PIECE = 65536
# BLAS takes vectors of more than 10 000 entries to its threads, which then spin on the cores that
# the threads of our kernels need: an inner product of 160 000 entries took 4 ms instead of 0.05.
_BLAS_PIECE = 8192
# Entries up to which NumPy's two passes are as good, and SciPy's BLAS need not be imported.
_NUMPY_ADDS = 2**17


def all_finite(x: Any) -> bool:
    """Whether no entry is NaN or infinite; one read from the device.

    >>> all_finite(np.array([1.0, np.nan]))
    False
    """
    if is_numpy(x):
        # A finite sum has finite terms: one pass at the memory's speed, and no flags.
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(np.isfinite(x.sum())) or bool(np.isfinite(x).all())
    xp = namespace(x)
    return bool(xp.all(xp.isfinite(x)))


def largest_entry(x: Any) -> float:
    """Largest absolute value of an entry, NaN if one is; one read from the device.

    >>> largest_entry(np.array([1.0, -3.0]))
    3.0
    """
    xp = namespace(x)
    return float(xp.max(xp.abs(x)))


def row_dots(u: Any, v: Any) -> FloatArray:
    """Real part of the inner product of two vectors, shape (1,), or of rows, shape (batch,).

    Sums of halves are in single precision; long sums of singles keep seven digits.

    >>> row_dots(np.array([1j, 2.0]), np.array([1j, 1.0]))
    array([3.])
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if is_numpy(u):
            return _numpy_row_dots(u, v)
        if is_torch(u):
            return _torch_row_dots(u.detach(), v.detach())
        u, v = at_least_single(u), at_least_single(v)
        xp = namespace(u)
        if hasattr(xp, "dots"):
            found: FloatArray = xp.dots((u, v))[0]
            return found
        if dtype_kind(u.dtype) == "c":
            products = xp.real(u) * xp.real(v) + xp.imag(u) * xp.imag(v)
        else:
            products = u * v
        return _on_host(xp.sum(products, axis=-1))


def dots_together(*pairs: tuple[Any, Any]) -> list[FloatArray]:
    """`row_dots` of several pairs of arrays of one library.

    In one sum over the processes, where entries lie in several.

    >>> dots_together((np.ones(2), np.ones(2)), (np.ones(3), np.ones(3)))
    [array([2.]), array([3.])]
    """
    first = pairs[0][0]
    if not is_numpy(first) and not is_torch(first):
        together = getattr(namespace(first), "dots", None)
        if together is not None:
            found: list[FloatArray] = together(*pairs)
            return found
    return [row_dots(u, v) for u, v in pairs]


def dot(u: Any, v: Any) -> float:
    """Real part of the inner product of two vectors.

    >>> dot(np.array([1j, 2.0]), np.array([1j, 1.0]))
    3.0
    """
    if is_numpy(u) and u.dtype.char in "dD":
        return float(_sums_of_products(u, v)[0])
    return float(row_dots(u, v)[0])


def gram_matrix(vectors: Sequence[Any]) -> FloatArray:
    """Real parts of the inner products of k arrays of one shape, shape (k, k), on the host.

    In double precision where the device has it; one read.

    >>> gram_matrix([np.array([1j, 0.0]), np.array([2j, 1.0])])
    array([[1., 2.],
           [2., 5.]])
    """
    rows = namespace(vectors[0]).stack([reshaped(vector, (-1,)) for vector in vectors])
    if has_double(rows):
        rows = cast(rows, "complex128" if dtype_kind(rows.dtype) == "c" else "float64")
    gram: FloatArray = to_host(conjugate(rows) @ rows.T).real.astype(np.float64, copy=False)
    return gram


def _torch_row_dots(u: Any, v: Any) -> FloatArray:
    u, v = at_least_single(u), at_least_single(v)
    products = (u.conj() * v).real if u.is_complex() else u * v
    wide = sys.modules["torch"].float64 if has_double(u) else products.dtype
    return _on_host(products.sum(-1, dtype=wide))


def _numpy_row_dots(u: Any, v: Any) -> FloatArray:
    u, v = at_least_single(u), at_least_single(v)
    length = u.shape[-1]
    if u.dtype.char not in "fF" or length <= _PIECE:
        return _sums_of_products(u, v)
    total = np.zeros(u.shape[0] if u.ndim > 1 else 1)
    for at in range(0, length, _PIECE):
        total += _sums_of_products(u[..., at : at + _PIECE], v[..., at : at + _PIECE])
    return total


def _sums_of_products(u: Any, v: Any) -> FloatArray:
    if u.ndim == 1:
        if u.size <= _BLAS_PIECE:
            return np.array([np.vdot(u, v).real], dtype=np.float64)
        pieces = range(0, u.size, _BLAS_PIECE)
        sums = [np.vdot(u[at : at + _BLAS_PIECE], v[at : at + _BLAS_PIECE]).real for at in pieces]
        return np.array([np.sum(sums, dtype=np.float64)])
    # By BLAS, in the rows' own precision; NumPy 1 has no `vecdot`.
    sums = np.vecdot(u, v) if hasattr(np, "vecdot") else np.einsum("ij,ij->i", u.conj(), v)
    dots: FloatArray = sums.real.astype(np.float64, copy=False)
    return dots


def _on_host(numbers: Any) -> FloatArray:
    """A few real numbers as a float64 NumPy array with one axis."""
    return np.atleast_1d(to_host(numbers)).astype(np.float64, copy=False)


def norms(rows: Any) -> FloatArray:
    """Euclidean norm of a vector, shape (1,), or of each row of a batch, shape (batch,).

    Squares neither overflow nor underflow; rows in which one would are scaled by a power of two. A
    batch costs one read from the device, or two if such a row is in it.

    >>> norms(np.array([[3e200, 4e200], [3e-200, 4e-200]]))
    array([5.e+200, 5.e-200])
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return _norms(rows)


def _norms(rows: Any) -> FloatArray:
    if is_numpy(rows):
        width = 4 if rows.dtype.char in "efF" else 8
        return _from_squares(rows, _numpy_row_dots(rows, rows), width)
    if is_torch(rows) and has_double(rows):
        return _checked_norms(rows, _on_host(_torch_norms(rows)))
    rows = at_least_single(rows)
    return _from_squares(rows, row_dots(rows, rows), _width(rows))


def _from_squares(rows: Any, squares: FloatArray, width: int) -> FloatArray:
    """Norms from their squares, computed again where these left the range of their dtype."""
    low, high = _SAFE[width]
    if ((squares > low) & (squares < high)).all():
        found: FloatArray = np.sqrt(squares)
        return found
    return _scaled_norms(rows)


def norms_together(*arrays: Any) -> tuple[FloatArray, ...]:
    """`norms` of several arrays of as many rows, in one read from the device for all of them.

    Or in one sum over the processes, where entries lie in several.

    >>> norms_together(np.array([3.0, 4.0]), np.array([1.0]))
    (array([5.]), array([1.]))
    """
    return tuple(numbers_and_norms([], list(arrays))[1])


def numbers_and_norms(
    values: list[Any], arrays: list[Any]
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Numbers, one for each row, and norms of rows, in one read from the device for all of them.

    Args:
        values: Arrays of real numbers of shape (), or (batch,).
        arrays: Vectors, or batches of as many rows.
    """
    if not all(is_torch(each) and has_double(each) for each in (*values, *arrays)):
        numbers = [_on_host(each) for each in values]
        if is_numpy(arrays[0]) or not hasattr(namespace(arrays[0]), "dots"):
            return numbers, [norms(rows) for rows in arrays]
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            squares = dots_together(*((rows, rows) for rows in arrays))
            pairs = zip(arrays, squares, strict=True)
            return numbers, [_from_squares(rows, each, _width(rows)) for rows, each in pairs]
    torch = sys.modules["torch"]
    stacked = [each.detach().to(torch.float64) for each in values]
    found = to_host(torch.stack([*stacked, *(_torch_norms(rows) for rows in arrays)]))
    found = found.reshape(len(found), -1)
    sizes = zip(arrays, found[len(values) :], strict=True)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return list(found[: len(values)]), [_checked_norms(rows, each) for rows, each in sizes]


def _torch_norms(rows: Any) -> Any:
    torch = sys.modules["torch"]
    rows = rows.detach()
    parts = torch.view_as_real(rows.resolve_conj()).flatten(-2) if rows.is_complex() else rows
    return torch.linalg.vector_norm(parts, dim=-1, dtype=torch.float64)


def _checked_norms(rows: Any, found: FloatArray) -> FloatArray:
    """Norms in double precision, computed again where their squares left its range."""
    # It holds the squares of all narrower numbers.
    if name_of(rows.dtype) not in ("float64", "complex128"):
        return found
    low, high = _SAFE[8]
    squares = found * found
    return found if ((squares > low) & (squares < high)).all() else _scaled_norms(rows)


def at_least_single(rows: Any) -> Any:
    """Halves as singles: their sums overflow at 65504, or have eight bits."""
    return cast(rows, "float32") if getattr(rows.dtype, "itemsize", 8) == 2 else rows


def _width(rows: Any) -> int:
    """Bytes of a real number of the array's dtype, 8 for long doubles."""
    name = name_of(rows.dtype)
    name = REAL_NAMES.get(name, name)
    return 4 if name == "float32" else 8


def _scaled_norms(rows: Any) -> FloatArray:
    xp = namespace(rows)
    sizes = xp.abs(at_least_single(rows))
    if sizes.ndim == 1:
        sizes = sizes[None, :]
    peaks = _on_host(xp.max(sizes, axis=-1))
    if not peaks.any():
        return peaks
    largest = _MAX_EXPONENT[_width(sizes)]
    # `frexp` says 0 of NaN and of infinity, whose norms are NaN and infinity in any scale.
    exponents = np.clip(np.frexp(peaks)[1], -largest, largest)
    scaled = sizes * column(np.ldexp(1.0, -exponents), sizes)
    found: FloatArray = np.ldexp(np.sqrt(row_dots(scaled, scaled)), exponents)
    return found


def add_scaled(y: Any, factor: Any, x: Any) -> Any:
    """``y + factor·x``, in the memory of ``y`` where that is a vector of NumPy: one pass by BLAS.

    Args:
        y: May be written to.
        factor: A number, or one for each row as `column` makes them.
        x: Of the shape of ``y``.

    >>> add_scaled(np.ones(2), 2.0, np.array([1.0, 3.0]))
    array([3., 7.])
    """
    if _blas_takes(y) and _blas_takes(x) and x.dtype == y.dtype and isinstance(factor, float):
        if y.size <= _NUMPY_ADDS:
            y += y.dtype.type(factor) * x
            return y
        axpy = _axpy(y.dtype.char)
        for at in range(0, y.size, _BLAS_PIECE):
            axpy(x[at : at + _BLAS_PIECE], y[at : at + _BLAS_PIECE], a=factor)
        return y
    return computed(y + factor * x)


def scaled(x: Any, factor: Any) -> Any:
    """``factor·x``, in the memory of ``x`` where that is a vector of NumPy."""
    if _blas_takes(x) and isinstance(factor, float):
        x *= x.dtype.type(factor)  # without BLAS's threads
        return x
    return factor * x


def _blas_takes(x: Any) -> bool:
    if not isinstance(x, np.ndarray) or x.ndim != 1 or x.dtype.char not in "fdFD":
        return False
    return bool(x.flags.c_contiguous and x.flags.writeable)


@functools.lru_cache(maxsize=4)
def _axpy(char: str) -> Any:
    from scipy.linalg.blas import get_blas_funcs

    return get_blas_funcs("axpy", dtype=np.dtype(char))
