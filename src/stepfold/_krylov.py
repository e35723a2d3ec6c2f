"""Krylov recurrences: one Lanczos, one Golub–Kahan, with or without a stored basis.

Lanczos turns a symmetric ``A`` and a start ``v`` into a tridiagonal matrix whose eigenvalues are
the Gauss quadrature nodes of the measure that ``v`` puts on the spectrum of ``A``. Golub–Kahan does
the same for ``AᵀA`` without forming it: the squared singular values of its bidiagonal matrix are
those nodes, and small ones keep their relative accuracy, which squaring would destroy.

By default every new vector is made orthogonal to all before it, which keeps them all in memory. The
three-term recurrences keep two. They lose orthogonality once a Ritz value has converged, and then
find copies of it (Paige 1976); but the recurrence itself still holds to rounding at every step, so
extreme Ritz values stay inside the spectrum and what follows from one vector's recurrence alone
(residual norms, the growth of the polynomials) stays true. Weights of a measure do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stepfold._arrays import (
    dot,
    dtype_kind,
    empty_rows,
    largest_entry,
    namespace,
    norms,
    row_put,
    same_kind_and_dtype,
)
from stepfold._typing import FloatArray

Product = Callable[[Any], Any]
"""A linear map of vectors, arrays of any library on any device."""


class Ends(NamedTuple):
    """Extreme Ritz values; an eigenvalue lies within the residual of each."""

    low: float
    high: float
    low_residual: float
    high_residual: float


@dataclass(frozen=True, eq=False)
class Tridiagonal:
    """Symmetric tridiagonal matrix from ``k`` Lanczos steps.

    ``diagonal`` has shape (k,), ``off_diagonal`` (k,): its last entry is the norm of the vector
    that the next step would have started from, 0 if the Krylov space is exhausted.
    """

    diagonal: FloatArray
    off_diagonal: FloatArray

    def eigh(self) -> tuple[FloatArray, FloatArray]:
        """Return eigenvalues (k,) ascending and orthonormal eigenvectors (k, k) as columns."""
        from scipy.linalg import eigh_tridiagonal

        values: FloatArray
        vectors: FloatArray
        values, vectors = eigh_tridiagonal(self.diagonal, self.off_diagonal[:-1])  # type: ignore[assignment]
        return values, vectors

    def dense(self) -> FloatArray:
        """The matrix with its zeros, shape (k, k)."""
        coupling = self.off_diagonal[:-1]
        matrix: FloatArray = np.diag(self.diagonal) + np.diag(coupling, 1) + np.diag(coupling, -1)
        return matrix

    def ends(self) -> Ends:
        """The smallest and the largest Ritz value; with residuals without end if any is not finite.

        >>> Tridiagonal(np.array([1.0, 3.0]), np.array([0.0, 0.5])).ends()
        Ends(low=1.0, high=3.0, low_residual=0.0, high_residual=0.5)
        """
        dense = self.dense()
        if not np.isfinite(dense).all():
            return Ends(0.0, 0.0, math.inf, math.inf)
        values, vectors = np.linalg.eigh(dense)
        last = np.abs(self.off_diagonal[-1] * vectors[-1])
        return Ends(float(values[0]), float(values[-1]), float(last[0]), float(last[-1]))


@dataclass(frozen=True, eq=False)
class Bidiagonal:
    """Upper bidiagonal matrix from ``k`` Golub–Kahan steps.

    ``diagonal`` has shape (k,), ``off_diagonal`` (k,); the last entry of the latter couples to the
    next step and is 0 if the Krylov space is exhausted.
    """

    diagonal: FloatArray
    off_diagonal: FloatArray

    def svd(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return left vectors (columns), singular values ascending, right vectors (columns)."""
        dense = np.diag(self.diagonal) + np.diag(self.off_diagonal[:-1], 1)
        left, values, right = np.linalg.svd(dense)
        return left[:, ::-1], values[::-1], right[::-1].T


def lanczos(
    product: Product,
    start: Any,
    num_steps: int,
    *,
    precondition: Product | None = None,
    stop: Callable[[Tridiagonal], bool] | None = None,
    reorthogonalise: bool = True,
    basis: list[Any] | None = None,
) -> Tridiagonal:
    """Run at most ``num_steps`` Lanczos steps; fewer where the Krylov space is exhausted.

    With M⁻¹ given, the steps are those of ``M⁻¹A`` in the inner product of M, in which it is
    symmetric; vectors u and ``v = M⁻¹u`` are carried side by side, and M itself is not needed.

    A batch is one long vector to which the map applies row by row: one scalar recurrence.

    Args:
        product: ``v -> A v`` for a symmetric or Hermitian A of shape (n, n).
        start: Vector of shape (n,), real or complex: the first u. From 0, or from what is not
            finite, the matrix is one zero.
        num_steps: Most products to spend, at least 1.
        precondition: ``u -> M⁻¹u`` for a symmetric positive definite M; the identity if not given.
        stop: Asked after each step whether the matrix so far will do.
        reorthogonalise: Keep all vectors, and make each new one orthogonal to them; else two
            vectors do.
        basis: Takes the vectors v, if given.
    """
    count = min(num_steps, start.shape[0])
    diagonal, off_diagonal = np.zeros(count), np.zeros(count)
    found = Tridiagonal(np.zeros(1), np.zeros(1))
    dual, primal = _first_pair(start, precondition)
    if dual is None:
        return found
    primals = _Vectors(count, kept=reorthogonalise)
    duals = primals if precondition is None else _Vectors(count, kept=reorthogonalise)
    before: Any = None
    scale = 0.0
    for k in range(count):
        primal = primals.add(primal)
        dual = primal if precondition is None else duals.add(dual)
        if basis is not None:
            basis.append(primal)
        vector = product(primal)
        if before is not None:
            # Paige's order of operations: subtract the old vector before the inner product.
            free = not reorthogonalise and basis is None
            vector = _less(vector, off_diagonal[k - 1], before, overwrite=free)
        diagonal[k] = dot(primal, vector)
        vector = vector - float(diagonal[k]) * dual
        if reorthogonalise:
            vector = _swept(vector, primals.rows, duals.rows)
        if precondition is None:
            image, norm = vector, float(norms(vector)[0])
        else:
            image = precondition(vector)
            norm = math.sqrt(max(dot(vector, image), 0.0))
        scale = max(scale, abs(diagonal[k]), norm)
        ended = k + 1 == start.shape[0] or norm <= _rounding(start.shape[0]) * scale
        off_diagonal[k] = 0.0 if ended else norm
        found = Tridiagonal(diagonal[: k + 1], off_diagonal[: k + 1])
        if ended or not math.isfinite(norm) or (stop is not None and stop(found)):
            break
        before, dual = dual, vector / norm
        primal = dual if precondition is None else image / norm
        del vector, image  # not to be held while the next product is made
    return found


def golub_kahan(
    product: Product,
    transposed_product: Product,
    start: Any,
    num_steps: int,
    *,
    stop: Callable[[Bidiagonal], bool] | None = None,
    reorthogonalise: bool = True,
) -> Bidiagonal:
    """Run at most ``num_steps`` Golub–Kahan steps from the right vector ``start``.

    Args:
        product: ``v -> A v`` for an A of shape (m, n).
        transposed_product: ``u -> Aᵀ u``; of a complex A, its adjoint.
        start: Non-zero vector of shape (n,), real or complex.
        num_steps: Most pairs of products to spend, at least 1.
        stop: Asked after each step whether the matrix so far will do.
        reorthogonalise: Keep all vectors, and make each new one orthogonal to them; else two
            vectors do.
    """
    count = min(num_steps, start.shape[0])
    diagonal, off_diagonal = np.zeros(count), np.zeros(count)
    lefts, rights = (_Vectors(count, kept=reorthogonalise) for _ in range(2))
    right = start / float(norms(start)[0])
    found, scale = Bidiagonal(diagonal, off_diagonal), 0.0
    for k in range(count):
        right = rights.add(right)
        image = lefts.orthogonal(product(right), off_diagonal[k - 1])
        norm = float(norms(image)[0])
        scale = max(scale, norm)
        rounding = _rounding(max(image.shape[0], start.shape[0])) * scale
        found = Bidiagonal(diagonal[: k + 1], off_diagonal[: k + 1])
        if norm <= rounding:
            # A v lies in the span already: a zero singular value, which ends the recurrence.
            break
        diagonal[k] = norm
        if k + 1 == start.shape[0]:
            break
        left = lefts.add(image / norm)
        del image  # not to be held while products are made
        vector = rights.orthogonal(transposed_product(left), norm)
        norm = float(norms(vector)[0])
        scale = max(scale, norm)
        if norm <= rounding:
            break
        off_diagonal[k] = norm
        if stop is not None and stop(found):
            break
        right = vector / norm
        del vector
    return found


class _Vectors:
    """Orthonormal vectors of a recurrence: all of them, or the last one."""

    def __init__(self, count: int, *, kept: bool) -> None:
        self._room, self._kept = count, kept
        self._all: Any = None
        self._last: Any = None
        self._size = 0

    def add(self, vector: Any) -> Any:
        """Take in the next one; it comes back as it is stored."""
        if self._kept:
            if self._all is None:
                self._all = empty_rows(self._room, vector)
            self._all = row_put(self._all, self._size, vector)
            vector = self._all[self._size, ...]
        self._last = vector
        self._size += 1
        return vector

    @property
    def rows(self) -> Any:
        """All so far, of shape (k, n)."""
        return self._all[: self._size, ...]

    def orthogonal(self, vector: Any, coefficient: float) -> Any:
        """The part of a vector outside them, given its inner product with the last one."""
        if self._last is None:
            return vector
        if self._kept:
            return _swept(vector, self.rows, self.rows)
        return vector - float(coefficient) * self._last


def _swept(vector: Any, primals: Any, duals: Any) -> Any:
    # Twice is enough (Parlett): one sweep leaves a component of the size of the cancellation.
    for _ in range(2):
        vector = vector - _coefficients(primals, vector) @ duals
    return vector


def _coefficients(rows: Any, vector: Any) -> Any:
    """Inner products of rows with a vector, with no conjugate of the rows stored."""
    if dtype_kind(rows.dtype) != "c":
        return rows @ vector
    xp = namespace(rows)
    return xp.conj(rows @ xp.conj(vector))


def _first_pair(start: Any, precondition: Product | None) -> tuple[Any, Any]:
    """``u`` and ``v = M⁻¹u`` of norm 1; two None where there is no such pair."""
    if precondition is None:
        norm = float(norms(start)[0])
        if not 0 < norm < math.inf:
            return None, None
        vector = start / norm
        return vector, vector
    # A gradient that grew may be so large that its square is not a float.
    peak = largest_entry(start)
    if not 0 < peak < math.inf:
        return None, None
    dual = start / peak
    primal = precondition(dual)
    norm = math.sqrt(max(dot(dual, primal), 0.0))
    return (dual / norm, primal / norm) if 0 < norm < math.inf else (None, None)


def _less(vector: Any, factor: float, other: Any, *, overwrite: bool) -> Any:
    """``vector − factor·other``, in the memory of ``other`` if nobody needs it any more."""
    if not (overwrite and same_kind_and_dtype(vector, other)):
        return vector - float(factor) * other
    other *= -float(factor)
    other += vector
    return other


def _rounding(length: int) -> float:
    """Relative size below which a vector of given length is rounding."""
    return length * float(np.finfo(np.float64).eps)
