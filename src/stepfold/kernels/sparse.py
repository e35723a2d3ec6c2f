"""Sparse kernels: least squares by rows or columns, and ``x ← keep·x + gamma·(b − A x)``."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepfold.kernels._compiler import Argument, compiled
from stepfold.kernels._threads import run, split_by_weight
from stepfold.kernels.base import Sweep, combine, real_part


class SparseRows(Sweep):
    """Least squares with a CSR matrix: each row is multiplied and added while it is in cache."""

    _loop: Any = None

    def _prepare(self) -> bool:
        if self._loop is None:
            self._ranges = split_by_weight(self.matrix.indptr, self.num_threads)
            kinds = _kinds(self.matrix)
            number = str(self.rhs.dtype)
            arrays: list[Argument] = [(number, 2, "r"), (number, 2, "r"), (number, 2)]
            self._loop = compiled("_sparse_loops", "csr_gram", *kinds, *arrays, "intp", "intp")
        return self._loop is not None

    def _sweep(self, b: Any, x: Any, out: Any, keep: float, gamma: float) -> None:
        matrix = self.matrix
        sums = [out, *(np.empty_like(out) for _ in self._ranges[1:])]
        calls = [
            (matrix.data, matrix.indices, matrix.indptr, b, x, g, start, stop)
            for g, (start, stop) in zip(sums, self._ranges, strict=True)
        ]
        run(self._loop, calls)
        for part in sums[1:]:
            out += part
        combine(out, x, keep, gamma)


class SparseColumns(Sweep):
    """Least squares with a CSC matrix: two sweeps, because ``Aᴴr`` needs all of r first."""

    _scatter: Any = None
    _gather: Any = None

    def _prepare(self) -> bool:
        if self._gather is None:
            self._ranges = split_by_weight(self.matrix.indptr, self.num_threads)
            kinds = _kinds(self.matrix)
            number, real = str(self.rhs.dtype), real_part(self.rhs.dtype)
            read, written = (number, 2, "r"), (number, 2)
            self._scatter = compiled(
                "_sparse_loops", "csc_scatter", *kinds, read, written, "intp", "intp"
            )
            self._gather = compiled(
                "_sparse_loops",
                "csc_gather",
                *kinds,
                read,
                read,
                written,
                real,
                real,
                "intp",
                "intp",
            )
        return self._gather is not None

    def _sweep(self, b: Any, x: Any, out: Any, keep: float, gamma: float) -> None:
        arrays = (self.matrix.data, self.matrix.indices, self.matrix.indptr)
        products = [np.empty_like(b) for _ in self._ranges]
        run(
            self._scatter,
            [
                (*arrays, x, product, *ends)
                for product, ends in zip(products, self._ranges, strict=True)
            ],
        )
        residual = np.subtract(b, products[0], out=products[0])
        for part in products[1:]:
            residual -= part
        scalars = _scalars(keep, gamma, x)
        run(self._gather, [(*arrays, residual, x, out, *scalars, *ends) for ends in self._ranges])


class SparseSymmetric(Sweep):
    """A quadratic with a CSR matrix: product and step in one pass."""

    products_per_sweep = 1
    _loop: Any = None

    def _prepare(self) -> bool:
        if self._loop is None:
            self._ranges = split_by_weight(self.matrix.indptr, self.num_threads)
            kinds = _kinds(self.matrix)
            number, real = str(self.rhs.dtype), real_part(self.rhs.dtype)
            arrays: list[Argument] = [(number, 2, "r"), (number, 2, "r"), (number, 2)]
            self._loop = compiled(
                "_sparse_loops", "csr_step", *kinds, *arrays, real, real, "intp", "intp"
            )
        return self._loop is not None

    def _sweep(self, b: Any, x: Any, out: Any, keep: float, gamma: float) -> None:
        arrays = (self.matrix.data, self.matrix.indices, self.matrix.indptr)
        scalars = _scalars(keep, gamma, x)
        run(self._loop, [(*arrays, b, x, out, *scalars, *ends) for ends in self._ranges])


def _kinds(matrix: Any) -> list[Argument]:
    index = str(matrix.indices.dtype)
    return [(str(matrix.dtype), 1, "r"), (index, 1, "r"), (str(matrix.indptr.dtype), 1, "r")]


def _scalars(keep: float, gamma: float, x: Any) -> tuple[Any, Any]:
    number = x.real.dtype.type
    return number(keep), number(gamma)
