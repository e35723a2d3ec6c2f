"""Krylov recurrences, symmetric Lanczos and Golub–Kahan, with or without a stored basis.

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

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold._typing import FloatArray

Product = Callable[[Any], Any]
"""A linear map of vectors: NumPy arrays, or torch tensors on any device, in float64 either way."""


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


def _norm(vector: Any) -> float:
    if not isinstance(vector, np.ndarray):  # a tensor
        peak = float(abs(vector).max())
        return peak * float(((vector / peak) ** 2).sum()) ** 0.5 if peak > 0 else 0.0
    # BLAS scales on the way; NumPy's norm overflows from entries of 1e154 on.
    from scipy.linalg.blas import dnrm2

    return float(dnrm2(vector))


def _empty(like: Any, count: int) -> Any:
    """Room for ``count`` vectors where ``like`` lives."""
    shape = (count, like.shape[0])
    return np.empty(shape) if isinstance(like, np.ndarray) else like.new_empty(shape)


def _orthogonalise(vector: Any, basis: Any) -> Any:
    # Twice is enough (Parlett): one sweep leaves a component of the size of the cancellation.
    vector = vector - (basis @ vector) @ basis
    return vector - (basis @ vector) @ basis


def lanczos(
    product: Product,
    start: Any,
    num_steps: int,
    *,
    stop: Callable[[Tridiagonal], bool] | None = None,
    reorthogonalise: bool = True,
) -> Tridiagonal:
    """Run at most ``num_steps`` Lanczos steps; fewer where the Krylov space is exhausted.

    Args:
        product: ``v -> A v`` for a symmetric A of shape (n, n).
        start: Non-zero vector of shape (n,).
        num_steps: Most products to spend.
        stop: Asked after each step whether the matrix so far will do.
        reorthogonalise: Keep all vectors and orthogonality; else three vectors do.
    """
    num_steps = min(num_steps, start.shape[0])
    if not reorthogonalise:
        return _three_term_lanczos(product, start, num_steps, stop)
    basis = _empty(start, num_steps + 1)
    basis[0] = start / _norm(start)
    diagonal = np.zeros(num_steps)
    off_diagonal = np.zeros(num_steps)
    scale = 0.0
    for k in range(num_steps):
        vector = product(basis[k])
        diagonal[k] = float(basis[k] @ vector)
        vector = _orthogonalise(vector, basis[: k + 1])
        norm = _norm(vector)
        scale = max(scale, abs(diagonal[k]), norm)
        if norm <= start.shape[0] * np.finfo(float).eps * scale or k + 1 == start.shape[0]:
            return Tridiagonal(diagonal[: k + 1], off_diagonal[: k + 1])
        off_diagonal[k] = norm
        basis[k + 1] = vector / norm
        if stop is not None and stop(Tridiagonal(diagonal[: k + 1], off_diagonal[: k + 1])):
            return Tridiagonal(diagonal[: k + 1], off_diagonal[: k + 1])
    return Tridiagonal(diagonal, off_diagonal)


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
        transposed_product: ``u -> Aᵀ u``.
        start: Non-zero vector of shape (n,).
        num_steps: Most pairs of products to spend.
        stop: Asked after each step whether the matrix so far will do.
        reorthogonalise: Keep all vectors and orthogonality; else three vectors do.
    """
    num_steps = min(num_steps, start.shape[0])
    if not reorthogonalise:
        return _three_term_golub_kahan(product, transposed_product, start, num_steps, stop)
    right = _empty(start, num_steps + 1)
    right[0] = start / _norm(start)
    image = product(right[0])
    left = _empty(image, num_steps)
    diagonal = np.zeros(num_steps)
    off_diagonal = np.zeros(num_steps)
    scale = 0.0
    for k in range(num_steps):
        if k > 0:
            image = _orthogonalise(product(right[k]), left[:k])
        norm = _norm(image)
        scale = max(scale, norm)
        tolerance = max(image.shape[0], start.shape[0]) * np.finfo(float).eps * scale
        if norm <= tolerance:
            # A v lies in the span already: a zero singular value, which ends the recurrence.
            return Bidiagonal(diagonal[: k + 1], off_diagonal[: k + 1])
        diagonal[k] = norm
        left[k] = image / norm
        if k + 1 == start.shape[0]:
            return Bidiagonal(diagonal[: k + 1], off_diagonal[: k + 1])
        vector = _orthogonalise(transposed_product(left[k]), right[: k + 1])
        norm = _norm(vector)
        scale = max(scale, norm)
        if norm <= tolerance:
            return Bidiagonal(diagonal[: k + 1], off_diagonal[: k + 1])
        off_diagonal[k] = norm
        right[k + 1] = vector / norm
        if stop is not None and stop(Bidiagonal(diagonal[: k + 1], off_diagonal[: k + 1])):
            return Bidiagonal(diagonal[: k + 1], off_diagonal[: k + 1])
    return Bidiagonal(diagonal, off_diagonal)


def _three_term_lanczos(
    product: Product,
    start: FloatArray,
    num_steps: int,
    stop: Callable[[Tridiagonal], bool] | None,
) -> Tridiagonal:
    current = start / _norm(start)
    previous = np.zeros(0)
    diagonal = np.zeros(num_steps)
    off_diagonal = np.zeros(num_steps)
    scale = 0.0
    for k in range(num_steps):
        vector = product(current)
        if k > 0:
            # Paige's order of operations: subtract the old vector before the inner product.
            previous *= off_diagonal[k - 1]
            vector = np.subtract(vector, previous, out=previous)
        diagonal[k] = current @ vector
        vector = vector - diagonal[k] * current
        norm = _norm(vector)
        scale = max(scale, abs(diagonal[k]), norm)
        if norm <= start.size * np.finfo(float).eps * scale or k + 1 == start.size:
            return Tridiagonal(diagonal[: k + 1], off_diagonal[: k + 1])
        off_diagonal[k] = norm
        vector /= norm
        previous, current = current, vector
        if stop is not None and stop(Tridiagonal(diagonal[: k + 1], off_diagonal[: k + 1])):
            return Tridiagonal(diagonal[: k + 1], off_diagonal[: k + 1])
    return Tridiagonal(diagonal, off_diagonal)


def _three_term_golub_kahan(
    product: Product,
    transposed_product: Product,
    start: FloatArray,
    num_steps: int,
    stop: Callable[[Bidiagonal], bool] | None,
) -> Bidiagonal:
    right = start / _norm(start)
    left = np.zeros(0)
    diagonal = np.zeros(num_steps)
    off_diagonal = np.zeros(num_steps)
    scale = 0.0
    for k in range(num_steps):
        image = product(right)
        if k > 0:
            image = image - off_diagonal[k - 1] * left
        norm = _norm(image)
        scale = max(scale, norm)
        tolerance = max(image.size, start.size) * np.finfo(float).eps * scale
        if norm <= tolerance:
            return Bidiagonal(diagonal[: k + 1], off_diagonal[: k + 1])
        diagonal[k] = norm
        left = image / norm
        vector = transposed_product(left)
        vector = vector - diagonal[k] * right
        norm = _norm(vector)
        scale = max(scale, norm)
        if norm <= tolerance or k + 1 == start.size:
            return Bidiagonal(diagonal[: k + 1], off_diagonal[: k + 1])
        off_diagonal[k] = norm
        right = vector / norm
        if stop is not None and stop(Bidiagonal(diagonal[: k + 1], off_diagonal[: k + 1])):
            return Bidiagonal(diagonal[: k + 1], off_diagonal[: k + 1])
    return Bidiagonal(diagonal, off_diagonal)
