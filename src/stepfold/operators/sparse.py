"""Sparse tensors of torch: stored by rows, with 32-bit indices, beside their adjoint.

A product with CSR of 32-bit indices takes a third of the time of one with 64-bit indices, and a
small part of that with coordinates. torch multiplies by the transpose of CSR, and so goes backward
through a product, many times slower than by a CSR tensor; so the adjoint is stored as one.
"""

from __future__ import annotations

import functools
import sys
import warnings
from typing import Any

from stepfold._arrays import requires_derivatives

LONGEST = 2**31 - 1
"""Entries and columns that 32-bit indices count."""


def stored_by_rows(matrix: Any) -> Any:
    """A sparse tensor of any layout as CSR, sharing its values where it is one already."""
    if hasattr(matrix, "stored_adjoint"):
        return matrix
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse (CSR|invariant)", UserWarning)
        if "bs" in str(matrix.layout):  # blocks
            matrix = matrix.to_sparse_coo()
        rows = matrix.to_sparse_csr()
        if rows.requires_grad:
            return rows  # entries that are trained, which a stored adjoint would not follow
        index = "int32" if max(rows.values().shape[0], *rows.shape) <= LONGEST else "int64"
        index = getattr(sys.modules["torch"], index)
        return sys.modules["torch"].sparse_csr_tensor(
            rows.crow_indices().to(index),
            rows.col_indices().to(index),
            rows.values(),
            tuple(rows.shape),
        )


def stored_adjoint(matrix: Any) -> Any:
    """The conjugate transpose of CSR as CSR, made when it is first asked for, and kept with it."""
    if matrix.requires_grad:
        return matrix.mH
    adjoint = getattr(matrix, "stored_adjoint", None)
    if adjoint is None:
        adjoint = stored_by_rows(matrix.detach().t())
        if adjoint.dtype.is_complex:
            adjoint = _with_values(adjoint, adjoint.values().clone().conj().resolve_conj())
        matrix.stored_adjoint, adjoint.stored_adjoint = adjoint, matrix
    return adjoint


def _with_values(matrix: Any, values: Any) -> Any:
    make = sys.modules["torch"].sparse_csr_tensor
    return make(matrix.crow_indices(), matrix.col_indices(), values, tuple(matrix.shape))


def sparse_product(matrix: Any, x: Any) -> Any:
    """Product of CSR with a vector or columns, whose derivative is one with the stored adjoint."""
    if requires_derivatives(x) and not matrix.requires_grad:
        return _function().apply(x, matrix)
    return matrix @ x


@functools.cache
def _function() -> Any:
    autograd = sys.modules["torch"].autograd

    class Product(autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(x: Any, matrix: Any) -> Any:
            return matrix @ x

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG004
            ctx.matrix = inputs[1]

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> tuple[Any, None]:
            return sparse_product(stored_adjoint(ctx.matrix), gradient), None

    return Product
