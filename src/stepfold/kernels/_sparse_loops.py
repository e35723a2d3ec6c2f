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
    zero = x.dtype.type(0)
    if x.shape[0] == 1:
        x_, b_, out_ = x[0], b[0], out[0]
        j = U(indptr[U(start)])
        for i in range(U(start), U(stop)):
            end = U(indptr[i + U(1)])
            s = zero
            while j < end:
                s += data[j] * x_[U(indices[j])]
                j += U(1)
            out_[i] = keep * x_[i] + gamma * (b_[i] - s)
        return
    for i in range(U(start), U(stop)):
        first, end = U(indptr[i]), U(indptr[i + U(1)])
        for k in range(U(x.shape[0])):
            s = zero
            for j in range(first, end):
                s += data[j] * x[k, U(indices[j])]
            out[k, i] = keep * x[k, i] + gamma * (b[k, i] - s)


def csr_gram(
    data: Any, indices: Any, indptr: Any, b: Any, x: Any, g: Any, start: int, stop: int
) -> None:
    """``g = ∑ āᵢ (bᵢ − aᵢ·x)`` for rows ``start <= i < stop``; b (k, m), x and g (k, n)."""
    g[:] = 0
    for i in range(U(start), U(stop)):
        first, end = U(indptr[i]), U(indptr[i + U(1)])
        for k in range(U(x.shape[0])):
            s = x.dtype.type(0)
            for j in range(first, end):
                s += data[j] * x[k, U(indices[j])]
            s = b[k, i] - s
            for j in range(first, end):
                g[k, U(indices[j])] += s * np.conj(data[j])


def csc_scatter(
    data: Any, indices: Any, indptr: Any, x: Any, product: Any, start: int, stop: int
) -> None:
    """``product = A x`` of columns ``start <= c < stop``; x (k, n), product (k, m)."""
    product[:] = 0
    for c in range(U(start), U(stop)):
        first, end = U(indptr[c]), U(indptr[c + U(1)])
        for k in range(U(x.shape[0])):
            factor = x[k, c]
            for j in range(first, end):
                product[k, U(indices[j])] += factor * data[j]


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
    for c in range(U(start), U(stop)):
        first, end = U(indptr[c]), U(indptr[c + U(1)])
        for k in range(U(x.shape[0])):
            s = x.dtype.type(0)
            for j in range(first, end):
                s += np.conj(data[j]) * residual[k, U(indices[j])]
            out[k, c] = keep * x[k, c] + gamma * s
