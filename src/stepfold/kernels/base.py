"""What a problem asks of a kernel: ``keep·x + gamma·(…)`` in one sweep over the matrix."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from stepfold.kernels._compiler import usable as compiler_usable
from stepfold.kernels._compiler import worth_loading
from stepfold.kernels._threads import num_threads

# Two lines of 64 bytes: processors fetch them in pairs.
LINE_BYTES = 128
# Attributes of sweeps that hold compiled loops.
COMPILED = ("_loop", "_scatter", "_gather")


class Sweep(ABC):
    """A compiled pass over one matrix, for one right-hand side or many.

    Args:
        matrix: ndarray or sparse array, kept and never written to.
        rhs: b, shape (m,) or (batch, m), in the dtype of the iterates.

    Attributes:
        products_per_sweep: Products with A or its transpose that a sweep stands for.
    """

    products_per_sweep: ClassVar[int] = 2

    def __init__(self, matrix: Any, rhs: Any) -> None:
        self.matrix = matrix
        self.rhs = rhs
        self.num_threads = num_threads()
        self.num_calls = 0
        self._batch: tuple[int, ...] = rhs.shape[:-1]

    def __getstate__(self) -> dict[str, Any]:
        """Without machine code: a copy, or another process, has it from the cache."""
        return {key: value for key, value in vars(self).items() if key not in COMPILED}

    @property
    def name(self) -> str:
        """What runs, for people to read."""
        return type(self).__name__

    @property
    def usable(self) -> bool:
        """Whether the loops are compiled or can still be; nothing is compiled to find out."""
        return compiler_usable()

    def __call__(self, x: Any, keep: Any, gamma: Any) -> Any | None:
        """``keep·x + gamma·Aᴴ(b − A x)``, or ``keep·x + gamma·(b − A x)`` for a quadratic.

        Returns:
            A new array of the shape of ``x``, or None where the plain formula must serve: ``x`` is
            no array of the dtype and shape of the problem, ``gamma`` is not one real number of at
            most that precision, there is no usable compiler after all, or loading it does not
            pay yet.
        """
        if not isinstance(x, np.ndarray) or x.dtype != self.rhs.dtype:
            return None
        if x.shape != (*self._batch, self.matrix.shape[1]):
            return None
        if not isinstance(gamma, (int, float, np.floating)):
            return None
        if isinstance(gamma, np.floating) and np.result_type(gamma, x) != x.dtype:
            return None
        if not worth_loading(self._plain_reads) or not self._prepare():
            return None
        self.num_calls += 1
        batch = math.prod(self._batch)
        out = np.empty(x.shape, x.dtype)
        self._sweep(
            as_rows(self.rhs, batch),
            as_rows(x, batch),
            as_rows(out, batch),
            float(keep),
            float(gamma),
        )
        return out

    @property
    def _plain_reads(self) -> int:
        """Bytes of the matrix that the plain formula reads."""
        stored = (self.matrix.data, getattr(self.matrix, "indices", None))
        per_product = sum(int(array.nbytes) for array in stored if array is not None)
        return self.products_per_sweep * per_product

    @abstractmethod
    def _prepare(self) -> bool:
        """Compile what is needed; false if that cannot be done."""

    @abstractmethod
    def _sweep(self, b: Any, x: Any, out: Any, keep: float, gamma: float) -> None:
        """Write the result to ``out``; arrays of shape (batch, …), in C order."""


def as_rows(array: Any, batch: int) -> Any:
    """Two-dimensional, contiguous and aligned; a copy only where the array is not."""
    return np.require(array, requirements=("C", "A")).reshape(batch, -1)


def combine(out: Any, x: Any, keep: float, gamma: float) -> None:
    """``keep·x + gamma·out``, in ``out``."""
    out *= gamma
    if keep == 1:
        out += x
    elif keep != 0:
        out += keep * x


def private(shape: tuple[int, ...], dtype: Any) -> Any:
    """Uninitialised array that shares no cache line with another one, in whole lines.

    What one thread writes all the time must not lie beside what another one does: the line would
    travel between the cores, which cost a third of the speed of the dense sweep.
    """
    num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    buffer = np.empty(num_bytes + 3 * LINE_BYTES, np.uint8)
    start = LINE_BYTES - buffer.ctypes.data % LINE_BYTES + LINE_BYTES
    return buffer[start : start + num_bytes].view(dtype).reshape(shape)


def real_part(dtype: Any) -> str:
    """Name of the real dtype of the same precision.

    >>> real_part(np.complex64)
    'float32'
    """
    return str(np.empty(0, dtype).real.dtype)
