"""Sweeps of successive over-relaxation over a CSR matrix, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepfold.kernels._compiler import compiled
from stepfold.kernels.base import as_rows


def relax_rows(
    matrix: Any, diagonal: Any, rhs: Any, x: Any, omega: float, *, backward: bool
) -> Any | None:
    """x after one sweep of over-relaxation, a new array; None if there is no usable compiler.

    Args:
        matrix: CSR array of float32 or float64.
        diagonal: Its diagonal, without zeros.
        rhs: b, shape (n,) or (batch, n), of the matrix' dtype, as are ``diagonal`` and ``x``.
        x: Of the shape of ``rhs``.
        omega: ω.
        backward: Whether the last row comes first.
    """
    number = str(matrix.dtype)
    index, pointer = str(matrix.indices.dtype), str(matrix.indptr.dtype)
    loop = compiled(
        "_relaxation_loops",
        "csr_relax",
        (number, 1, "r"),
        (index, 1, "r"),
        (pointer, 1, "r"),
        (number, 1, "r"),
        (number, 2, "r"),
        (number, 2),
        number,
        "boolean",
    )
    if loop is None:
        return None
    batch = x.size // x.shape[-1]
    moved = np.array(x, order="C")
    loop(
        matrix.data,
        matrix.indices,
        matrix.indptr,
        diagonal,
        as_rows(rhs, batch),
        moved.reshape(batch, -1),
        matrix.dtype.type(omega),
        backward,
    )
    return moved
