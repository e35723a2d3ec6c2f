"""Least squares ½‖Ax − b‖² (+ ½μ‖x‖²) with A on disk, swept once per iteration.

``Aᵀ(Ax − b) = Σᵢ Bᵢᵀ(Bᵢx − bᵢ)`` over blocks of rows Bᵢ: both products are made while a block is in
memory, so a gradient, a gradient step and a product with AᵀA take one sweep over the file each.
"""

from __future__ import annotations

import copy
import math
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import is_torch, tiny
from stepfold._checks import check_nonnegative
from stepfold.operators import OwnOperator
from stepfold.problems._blocks import RowBlocks, Work
from stepfold.problems._units import Sizes, peaks, rows_divided
from stepfold.problems.base import QuadraticProblem, check_rows
from stepfold.spectrum import Gram

MEMORY = 2**28


class BlockedMatrix(OwnOperator):
    """A matrix on disk as a linear map; every product is one sweep over its rows.

    Args:
        array: A, of shape (m, n): `numpy.memmap`, Zarr array, or anything with ``shape``, ``dtype``
            and row slices. Integers take part as float64.
        block_rows: Rows read at a time; chosen to fit ``memory`` if not given. For a chunked array
            a multiple of the chunks' rows, so that no chunk is read twice.
        memory: Most bytes for blocks: the one in use, the one read ahead, and working copies. The
            vectors of length m and n come on top.

    Raises:
        TypeError: If ``array`` is not a real array.
        ValueError: If it is empty, misses chunks or is truncated, or if a block does not fit
            ``memory``; from products, at the first entry that is not finite.

    >>> matrix = BlockedMatrix(np.array([[2.0, 0.0], [0.0, 1.0]]), memory=64)
    >>> matrix @ np.ones(2), matrix.gram_product(np.ones(2)), matrix.bytes_read
    (array([2., 1.]), array([4., 1.]), 64)
    """

    def __init__(self, array: Any, *, block_rows: int | None = None, memory: int = MEMORY) -> None:
        self._blocks = RowBlocks(array, block_rows=block_rows, memory=memory)
        self.shape = self._blocks.shape
        dtype = self._blocks.dtype
        self.dtype: np.dtype[Any] = np.dtype(np.float64) if dtype.kind in "bui" else dtype
        self._exponent = 0

    @property
    def T(self) -> _Transpose:  # noqa: N802, RUF100 (NumPy's name)
        """The transpose, which reads the same blocks."""
        return _Transpose(self)

    @property
    def block_rows(self) -> int:
        """Rows read at a time."""
        return self._blocks.block_rows

    @property
    def bytes_read(self) -> int:
        """Bytes of entries read so far, by all products together."""
        return self._blocks.bytes_read

    @property
    def largest(self) -> float | None:
        """The largest absolute value of an entry; None before a sweep has ended."""
        largest = self._blocks.largest
        return None if largest is None else math.ldexp(largest, -self._exponent)

    def divided(self, exponent: int) -> Self:
        """A twin, of the same blocks, whose entries are divided by ``2**exponent``."""
        twin = copy.copy(self)
        twin._exponent += exponent
        return twin

    def _sweep(self, work: Work, dtype: np.dtype[Any], *, tall: bool) -> None:
        self._blocks.sweep(work, dtype, tall=tall, exponent=self._exponent)

    def __matmul__(self, x: Any) -> Any:
        x = _columns(x, self.shape[1])
        dtype = self.result_type(x)
        product = np.empty((self.shape[0], *x.shape[1:]), dtype)
        x = np.asarray(x, dtype)

        def work(rows: slice, piece: NDArray[Any]) -> None:
            np.matmul(piece, x, out=product[rows])

        self._sweep(work, dtype, tall=x.ndim == 2)
        return product

    def transposed_product(self, y: Any) -> Any:
        """``Aᵀ y`` for y of shape (m,) or (m, batch), in one sweep."""
        y = _columns(y, self.shape[0])
        dtype = self.result_type(y)
        product = np.zeros((self.shape[1], *y.shape[1:]))

        def work(rows: slice, piece: NDArray[Any]) -> None:
            np.add(product, piece.T @ np.asarray(y[rows], dtype), out=product)

        self._sweep(work, dtype, tall=y.ndim == 2)
        return product.astype(dtype, copy=False)

    def gram_product(self, x: Any) -> Any:
        """``AᵀA x`` for x of shape (n,) or (n, batch), in one sweep."""
        return self.gradient(_columns(x, self.shape[1]).T, None).T

    def gradient(self, x: NDArray[Any], rhs: NDArray[Any] | None) -> NDArray[Any]:
        """``Aᵀ(Ax − b)`` for rows x of shape (n,) or (batch, n), in one sweep; b = 0 if None."""
        dtype = self.result_type(x, rhs)
        x = np.asarray(x, dtype)
        # Sums over blocks in float64: m may be large, and they cost next to nothing.
        total = np.zeros(x.shape)

        def work(rows: slice, piece: NDArray[Any]) -> None:
            residual = x @ piece.T
            if rhs is not None:
                residual -= rhs[..., rows]
            np.add(total, residual @ piece, out=total)

        self._sweep(work, dtype, tall=x.ndim == 2)
        return total.astype(dtype, copy=False)

    def result_type(self, *vectors: NDArray[Any] | None) -> np.dtype[Any]:
        """Dtype that products with ``vectors`` are made in and have."""
        given = [vector.dtype for vector in vectors if vector is not None]
        # Half precision is for storage: no BLAS multiplies it.
        return np.result_type(self.dtype, np.float32, *given)

    matvec = __matmul__  # SciPy's `aslinearoperator` asks for these names
    rmatvec = transposed_product


class _Transpose(OwnOperator):
    """Aᵀ of a `BlockedMatrix`."""

    def __init__(self, matrix: BlockedMatrix) -> None:
        self.T = matrix
        self.shape = matrix.shape[::-1]
        self.dtype = matrix.dtype

    def __matmul__(self, y: Any) -> Any:
        return self.T.transposed_product(y)


def _columns(x: Any, length: int) -> NDArray[Any]:
    columns: NDArray[Any] = np.asarray(x)
    if columns.dtype.kind not in "buif":
        raise TypeError(f"a factor of a product must be real, got dtype {columns.dtype}")
    if columns.ndim not in (1, 2) or columns.shape[0] != length:
        raise ValueError(
            f"a factor of a product must have shape ({length},) or ({length}, batch) to fit the "
            f"matrix, got {columns.shape}"
        )
    return columns


class BlockedLeastSquares(QuadraticProblem[NDArray[Any]]):
    """Minimise ``½‖Ax − b‖² + ½μ‖x‖²`` with A larger than memory, on disk.

    `solve`, `estimate_bounds` and `plan` take it like any other problem. From x0 = 0 a run of k
    steps sweeps A k + 1 times: Aᵀb is one sweep, and is minus the gradient at 0. One that does not
    converge may sweep it five times more to find out why.

    Args:
        array: A, of shape (m, n), see `BlockedMatrix`; it is never changed.
        rhs: b, of shape (m,), or (batch, m) for as many problems with the same A; an array in
            memory or a memmap.
        ridge: μ, at least 0; the smallest eigenvalue of the Hessian is then at least μ.
        block_rows: Rows read at a time; chosen to fit ``memory`` if not given.
        memory: Most bytes for blocks: the one in use, the one read ahead, and working copies. The
            vectors of length m and n come on top.

    Raises:
        TypeError: If an argument is not real or not an array.
        ValueError: If shapes do not fit, ``ridge`` is negative, chunks are missing, the file is
            truncated, or a block does not fit ``memory``. Entries that are not finite are found in
            the first sweep, before the first step.

    >>> problem = BlockedLeastSquares(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([2.0, 3.0]))
    >>> problem.gradient(np.array([1.0, 0.0])), problem.bytes_read
    (array([ 0., -3.]), 32)
    """

    def __init__(
        self,
        array: Any,
        rhs: NDArray[Any],
        *,
        ridge: float = 0.0,
        block_rows: int | None = None,
        memory: int = MEMORY,
    ) -> None:
        self.operator = BlockedMatrix(array, block_rows=block_rows, memory=memory)
        length = self.operator.shape[0]
        self.rhs: NDArray[Any] = np.asarray(check_rows("rhs", rhs, length, "the rows of `array`"))
        if is_torch(rhs):
            raise TypeError("`rhs` must be an array of NumPy, got a tensor; pass `rhs.numpy()`")
        if self.rhs.dtype.kind == "c":
            raise TypeError(
                f"`rhs` must be real, got dtype {self.rhs.dtype}; pose its real and imaginary "
                "parts as a batch of two"
            )
        self.ridge = float(check_nonnegative("ridge", ridge))
        # Aᵀb with the b that it is of: a shallow copy with another right-hand side is a problem.
        self._linear_term: tuple[NDArray[Any], NDArray[Any]] | None = None

    @property
    def bytes_read(self) -> int:
        """Bytes of A's entries read so far; one sweep is m·n times the size of an entry."""
        return self.operator.bytes_read

    @property
    def block_rows(self) -> int:
        """Rows read at a time."""
        return self.operator.block_rows

    @property
    def hessian(self) -> Gram:
        """``AᵀA + μI``, of shape (n, n); a product with it is one sweep."""
        return Gram(self.operator, self.ridge)

    @property
    def linear_term(self) -> NDArray[Any]:
        """``Aᵀb``, read-only: one sweep the first time, none afterwards."""
        if self._linear_term is None or self._linear_term[0] is not self.rhs:
            term = self.operator.transposed_product(self.rhs.T).T
            term.flags.writeable = False
            self._linear_term = (self.rhs, term)
        return self._linear_term[1]

    def sizes(self) -> Sizes:
        """How large entries of A and b are; A's are found in the first sweep, for `linear_term`."""
        if self.operator.largest is None:
            with np.errstate(over="ignore", invalid="ignore"):
                _ = self.linear_term
        largest, like = self.operator.largest or 0.0, self.operator.result_type(self.rhs)
        return Sizes(largest, peaks(self.rhs), tiny(like.type(0)), str(like), is_squared=True)

    def divided(self, exponent: int, rhs_exponents: NDArray[np.int64]) -> BlockedLeastSquares:
        """The problem with A and b divided by powers of two, μ by the square of A's."""
        twin = copy.copy(self)
        vars(twin).pop("curvature_bound", None)
        twin.operator = self.operator.divided(exponent)
        twin.rhs = rows_divided(self.rhs, rhs_exponents)
        twin.ridge = self.ridge / 2.0**exponent / 2.0**exponent
        return twin

    @property
    def products_per_gradient(self) -> int:
        """2: one with A, one with its transpose; both in the same sweep."""
        return 2

    def gradient(self, x: NDArray[Any]) -> NDArray[Any]:
        """``Aᵀ(Ax − b) + μx``, in one sweep; at 0, where it is ``−Aᵀb``, in none."""
        x = _columns(np.asarray(x).T, self.operator.shape[1]).T
        if not x.any() and x.shape == self.linear_term.shape:
            return -self.linear_term.astype(self.operator.result_type(x, self.rhs))
        gradient = self.operator.gradient(x, self.rhs)
        return gradient + self.ridge * x if self.ridge else gradient
