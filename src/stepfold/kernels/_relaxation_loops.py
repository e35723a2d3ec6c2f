"""Compiled loop of successive over-relaxation; imported when it is first needed, not before."""

from __future__ import annotations

from typing import Any

import numpy as np

U = np.uintp


def csr_relax(
    data: Any,
    indices: Any,
    indptr: Any,
    diagonal: Any,
    b: Any,
    x: Any,
    omega: float,
    backward: bool,
) -> None:
    """``x_i += omega·(b_i − a_i·x)/a_ii`` for one i after the other, in place; b and x (k, n).

    The residual is that of the whole row, its diagonal entry included: where it is 0 nothing moves,
    so the solution of ``Ax = b`` stays put whatever ``omega`` is.
    """
    n = U(diagonal.shape[0])
    for k in range(U(x.shape[0])):
        b_, x_ = b[k], x[k]
        for t in range(n):
            i = n - U(1) - t if backward else t
            s = b_[i]
            for j in range(U(indptr[i]), U(indptr[i + U(1)])):
                s -= data[j] * x_[U(indices[j])]
            x_[i] += omega * s / diagonal[i]
