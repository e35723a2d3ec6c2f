"""Smoothing steps ``x ← x + γₜ D⁻¹(b − A x)`` with a sparse matrix, in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepfold.kernels._compiler import Argument, compiled, worth_loading
from stepfold.kernels._threads import num_threads, run, split_by_weight
from stepfold.kernels.base import COMPILED, real_part

# Rows below which a second thread costs more than it saves.
LEAST_ROWS = 2**14


class DiagonalSteps:
    """T steps of one schedule with one matrix, for changing x and b.

    Args:
        matrix: A, CSR of shape (n, n), kept and never written to.
        inverse: The diagonal of D⁻¹, real, shape (n,), in the precision of A.
        steps: γ, T numbers.
    """

    def __init__(self, matrix: Any, inverse: Any, steps: Sequence[float]) -> None:
        self.matrix, self.inverse, self.steps = matrix, inverse, tuple(steps)
        num_parts = max(1, min(num_threads(), matrix.shape[0] // LEAST_ROWS))
        self._ranges = split_by_weight(matrix.indptr, num_parts)
        self._loop: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without machine code: a copy, or another process, has it from the cache."""
        return {key: {} if key in COMPILED else value for key, value in vars(self).items()}

    def __call__(self, x: Any, b: Any) -> None:
        """Take the steps; x and b are arrays of shape (n,), and x is changed."""
        steps = self.steps
        # Multigrid starts at 0 on every level but after its own corrections: a product less.
        from_zero = x[0] == 0 and not x.any()
        steps = steps[1:] if from_zero else steps
        loop = self._compiled_for(x, b, len(steps)) if steps else None
        current, spare = x, x if loop is None else np.empty_like(x)
        if from_zero:
            # Where an even number of exchanges ends in x.
            current, spare = (spare, x) if len(steps) % 2 else (x, spare)
            np.multiply(self.inverse, b, out=current)
            current *= self.steps[0]
        if loop is None:
            for gamma in steps:
                residual = self.matrix @ x
                residual = np.subtract(b, residual, out=residual)
                residual *= self.inverse
                residual *= gamma
                x += residual
            return
        number = x.real.dtype.type
        arrays = (self.matrix.data, self.matrix.indices, self.matrix.indptr, self.inverse, b)
        for gamma in steps:
            calls = [(*arrays, current, spare, number(gamma), *ends) for ends in self._ranges]
            run(loop, calls)
            current, spare = spare, current
        if current is not x:
            x[:] = current

    def _compiled_for(self, x: Any, b: Any, num_products: int) -> Any:
        """The loop for these vectors, or None if SciPy's products are to serve."""
        matrix = self.matrix
        if x.dtype != b.dtype or x.dtype.kind != matrix.dtype.kind:
            return None
        if x.dtype.itemsize < matrix.dtype.itemsize:
            return None
        if not all(a.flags.c_contiguous and a.flags.aligned for a in (x, b)):
            return None
        reads = num_products * (matrix.data.nbytes + matrix.indices.nbytes)
        if not worth_loading(reads, in_second_run=False):
            return None
        name = str(x.dtype)
        if name not in self._loop:
            read: Argument = (name, 1, "r")
            self._loop[name] = compiled(
                "_sparse_loops",
                "csr_diagonal_step",
                (str(matrix.dtype), 1, "r"),
                (str(matrix.indices.dtype), 1, "r"),
                (str(matrix.indptr.dtype), 1, "r"),
                (real_part(matrix.dtype), 1, "r"),
                read,
                read,
                (name, 1),
                real_part(x.dtype),
                "intp",
                "intp",
            )
        return self._loop[name]
