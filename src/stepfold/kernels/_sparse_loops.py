"""Compiled loops for sparse matrices; imported when a kernel is first needed, not before.

Indices are read as unsigned: numba wraps negative ones, and the compare and move that it takes make
a loop over rows of five entries four times slower.
"""

from __future__ import annotations

from typing import Any

import numpy as np

U = np.uintp


def csr_step(
    data: Any,
    indices: Any,
    indptr: Any,
    b: Any,
    x: Any,
    out: Any,
    keep: float,
    gamma: float,
    start: int,
    stop: int,
) -> None:
    """``out = keep·x + gamma·(b − A x)`` for rows ``start <= i < stop``; b, x, out (k, n)."""
    for k in range(U(x.shape[0])):
        x_, b_, out_ = x[k], b[k], out[k]
        j = U(indptr[U(start)])
        for i in range(U(start), U(stop)):
            end = U(indptr[i + U(1)])
            s = x.dtype.type(0)
            while j < end:
                s += data[j] * x_[U(indices[j])]
                j += U(1)
            out_[i] = keep * x_[i] + gamma * (b_[i] - s)


def csr_diagonal_step(
    data: Any,
    indices: Any,
    indptr: Any,
    inverse: Any,
    b: Any,
    x: Any,
    out: Any,
    gamma: float,
    start: int,
    stop: int,
) -> None:
    """``out = x + gamma·D⁻¹(b − A x)`` for rows ``start <= i < stop``; b, x, out (n,)."""
    j = U(indptr[U(start)])
    for i in range(U(start), U(stop)):
        end = U(indptr[i + U(1)])
        s = x.dtype.type(0)
        while j < end:
            s += data[j] * x[U(indices[j])]
            j += U(1)
        out[i] = x[i] + gamma * inverse[i] * (b[i] - s)


def csr_gram(
    data: Any, indices: Any, indptr: Any, b: Any, x: Any, g: Any, start: int, stop: int
) -> None:
    """``g = ∑ āᵢ (bᵢ − aᵢ·x)`` for rows ``start <= i < stop``; b (k, m), x and g (k, n)."""
    g[:] = 0
    for k in range(U(x.shape[0])):
        # Views in one dimension: the compiler cannot know that the strides stay as they are.
        b_, x_, g_ = b[k], x[k], g[k]
        j = U(indptr[U(start)])
        for i in range(U(start), U(stop)):
            first, end = j, U(indptr[i + U(1)])
            s = x.dtype.type(0)
            while j < end:
                s += data[j] * x_[U(indices[j])]
                j += U(1)
            s = b_[i] - s
            while first < end:
                g_[U(indices[first])] += s * np.conj(data[first])
                first += U(1)


def csc_scatter(
    data: Any, indices: Any, indptr: Any, x: Any, product: Any, start: int, stop: int
) -> None:
    """``product = A x`` of columns ``start <= c < stop``; x (k, n), product (k, m)."""
    product[:] = 0
    for k in range(U(x.shape[0])):
        x_, product_ = x[k], product[k]
        j = U(indptr[U(start)])
        for c in range(U(start), U(stop)):
            end = U(indptr[c + U(1)])
            factor = x_[c]
            while j < end:
                product_[U(indices[j])] += factor * data[j]
                j += U(1)


def csc_gather(
    data: Any,
    indices: Any,
    indptr: Any,
    residual: Any,
    x: Any,
    out: Any,
    keep: float,
    gamma: float,
    start: int,
    stop: int,
) -> None:
    """``out = keep·x + gamma·Aᴴ residual`` for columns ``start <= c < stop``; residual (k, m)."""
    for k in range(U(x.shape[0])):
        residual_, x_, out_ = residual[k], x[k], out[k]
        j = U(indptr[U(start)])
        for c in range(U(start), U(stop)):
            end = U(indptr[c + U(1)])
            s = x.dtype.type(0)
            while j < end:
                s += np.conj(data[j]) * residual_[U(indices[j])]
                j += U(1)
            out_[c] = keep * x_[c] + gamma * s
