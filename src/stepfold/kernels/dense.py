"""Dense least squares, ``x ← keep·x + gamma·Aᴴ(b − A x)``, in one sweep over A.

Complex matrices stored by rows need no loop of their own. A row ``a`` of 2n real numbers
(Re, Im, Re, …) gives ``a·x`` as two real products, with (Re x, −Im x, …) and (Im x, Re x, …): two
right-hand sides.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stepfold.kernels._compiler import compiled
from stepfold.kernels._threads import run, split_evenly
from stepfold.kernels.base import Sweep, combine, private, real_part

ROWS = 6  # as in `_dense_loops`, which loads numba
STEP = 32  # numbers of the narrow loop at most
# Of a matrix stored by columns a panel is as high as this allows; it stays in the outer cache.
PANEL_BYTES = 2**21
HIGHEST_PANEL = 1024


class DenseRows(Sweep):
    """Least squares with a matrix stored by rows."""

    _loop: Any = None

    def _prepare(self) -> bool:
        if self._loop is None:
            self._loop = _compiled("rows", self.matrix, self.rhs)
        return self._loop is not None

    def _sweep(self, b: Any, x: Any, out: Any, keep: float, gamma: float) -> None:
        is_complex = x.dtype.kind == "c"
        matrix, vectors, target = self.matrix, x, out
        if is_complex:
            matrix = matrix.view(real_part(matrix.dtype))
            b, vectors, target = (
                _parts(b),
                _factors(x),
                np.empty((2 * len(x), 2 * x.shape[1]), b.real.dtype),
            )
        ranges = split_evenly(len(matrix), min(self.num_threads, -(-len(matrix) // ROWS)))
        sums = [target, *(private(target.shape, target.dtype) for _ in ranges[1:])]
        calls = [
            (matrix, b, vectors, g, private((len(b) + 1, ROWS), b.dtype), start, stop)
            for g, (start, stop) in zip(sums, ranges, strict=True)
        ]
        run(self._loop, calls)
        for part in sums[1:]:
            target += part
        if is_complex:
            one, two = target[0::2], target[1::2]
            out.real = one[:, 0::2] + two[:, 1::2]
            out.imag = two[:, 0::2] - one[:, 1::2]
        combine(out, x, keep, gamma)


class DenseColumns(Sweep):
    """Least squares with a real matrix stored by columns."""

    _loop: Any = None

    def _prepare(self) -> bool:
        if self._loop is None:
            self._loop = _compiled("columns", self.matrix, self.rhs)
        return self._loop is not None

    def _sweep(self, b: Any, x: Any, out: Any, keep: float, gamma: float) -> None:
        transpose = self.matrix.T
        num_columns, num_rows = transpose.shape
        limit = PANEL_BYTES // (num_columns * transpose.itemsize)
        height = max(STEP, min(HIGHEST_PANEL, limit) // STEP * STEP)
        ranges = split_evenly(num_rows, min(self.num_threads, -(-num_rows // height)))
        sums = [out, *(private(out.shape, out.dtype) for _ in ranges[1:])]
        calls = [
            (transpose, b, x, g, private((2, len(b), height), b.dtype), start, stop)
            for g, (start, stop) in zip(sums, ranges, strict=True)
        ]
        run(self._loop, calls)
        for part in sums[1:]:
            out += part
        combine(out, x, keep, gamma)


def _compiled(name: str, matrix: Any, rhs: Any) -> Any:
    stored, number = real_part(matrix.dtype), real_part(rhs.dtype)
    read = [(stored, 2, "r"), (number, 2, "r"), (number, 2, "r")]
    scratch = {"rows": 2, "columns": 3}[name]
    written = [(number, 2), (number, scratch)]
    return compiled("_dense_loops", name, *read, *written, "intp", "intp")


def _parts(z: Any) -> Any:
    """Rows (Re z) and (Im z) for each row of z."""
    parts = np.empty((2 * len(z), z.shape[1]), z.real.dtype)
    parts[0::2], parts[1::2] = z.real, z.imag
    return parts


def _factors(x: Any) -> Any:
    """Rows (Re, −Im, Re, …) and (Im, Re, Im, …) for each row of x."""
    factors = np.empty((2 * len(x), 2 * x.shape[1]), x.real.dtype)
    factors[0::2, 0::2], factors[0::2, 1::2] = x.real, -x.imag
    factors[1::2, 0::2], factors[1::2, 1::2] = x.imag, x.real
    return factors
