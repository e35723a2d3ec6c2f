"""All eigenvalues of small matrices, and the messages for matrices that have no such spectrum.

Those of ``AᵀA`` are squared singular values of A. A tall A is first reduced, block by block, to a
triangular factor of its shorter side (QR), so that the work takes the memory of that factor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold._arrays import dtype_kind
from stepfold._checks import check_matrix, check_square
from stepfold._typing import FloatArray, Operator
from stepfold.spectrum.bounds import Certainty, SpectralBounds
from stepfold.spectrum.gram import Gram
from stepfold.spectrum.target import Target, has_entries, on_host

# From this many multiplications on it pays to try AᵀA first: one pass at the speed of a product.
SQUARED_FROM = 1e8
# AᵀA is believed if its smallest eigenvalue exceeds the rounding of its entries by this factor.
RESOLVED = 1e4
# A relative error of the lower end below this is not worth a correction.
NEGLIGIBLE = 1e-9


def exact_eigenvalues(hessian: Operator) -> FloatArray:
    """All eigenvalues of a symmetric or Hermitian semidefinite map, ascending, of shape (n,).

    For a `Gram` they are squared singular values of its factor, hence accurate where they are
    small. They have the units of the map. What rounding leaves of a zero eigenvalue is returned
    as 0.

    Raises:
        TypeError: If the entries of ``hessian`` are not known (a matrix-free operator).
        ValueError: If the matrix is not square, not symmetric, or has a negative eigenvalue; or if
            the eigenvalues of a `Gram` overflow or underflow.

    >>> exact_eigenvalues(np.diag([2.0, 1.0]))
    array([1., 2.])
    """
    if not isinstance(hessian, Gram):
        hessian = check_matrix("hessian", hessian, allow_complex=True)
        check_square("hessian", hessian, USE_GRAM)
    return _spectrum(hessian)[0]


@dataclass(frozen=True, slots=True)
class Exact:
    """All eigenvalues, by dense factorisation: O(n³) work, no random start.

    An end is moved outwards by the rounding of the factorisation where that is more than 1e-9 of
    it. A lower end that rounding hides is 0: guaranteed for a `Gram`, else assumed, because an
    eigenvalue of that size may be negative.

    >>> from stepfold.spectrum import estimate_bounds
    >>> estimate_bounds(np.diag([1.0, 0.0]), method=Exact()).method
    'all eigenvalues (singular: rank 1 of 2 to rounding)'
    """

    def bounds(self, target: Target) -> SpectralBounds:
        """Bounds equal to the extreme eigenvalues."""
        hessian, num_passes = target.hessian, 1
        found = _squared_spectrum(hessian) if isinstance(hessian, Gram) else None
        if found is None:
            found, num_passes = _spectrum(hessian), 1 + _is_worth_squaring(hessian)
        values, rounding = found
        upper = float(values[-1])
        lower = reached = float(values[0])
        if rounding > NEGLIGIBLE * lower:
            lower, reached = max(lower - rounding, 0.0), min(lower + rounding, upper)
        rank = int((values > 0).sum())
        if rank < values.size:
            reached = 0.0
        singular = f" (singular: rank {rank} of {values.size} to rounding)" if reached == 0 else ""
        sure = lower > 0 or isinstance(hessian, Gram)
        return SpectralBounds(
            lower,
            upper,
            Certainty.GUARANTEED if sure else Certainty.ASSUMED,
            Certainty.GUARANTEED,
            method="all eigenvalues" + singular,
            num_products=num_passes,
            reached_lower=reached,
            reached_upper=upper,
        )


def check_range(norm: float, square: float) -> None:
    """Raise if ``norm²`` left the range of floating point on the way to an eigenvalue of AᵀA."""
    if norm > 0 and not np.finfo(np.float64).tiny <= square < np.inf:
        raise ValueError(
            f"`factor` has norm {norm:.3g}, whose square is outside the range of float64; "
            "divide the matrix by its norm first"
        )


USE_GRAM = "; for least squares with this matrix pass `Gram(matrix)`"
"""What to do with a Hessian that is not square."""


def not_symmetric(evidence: str) -> ValueError:
    """Error for a Hessian that is not symmetric."""
    return ValueError(
        f"`hessian` must be symmetric: {evidence}; "
        "for least squares with this matrix pass `Gram(matrix)`"
    )


class NotSemidefiniteError(ValueError):
    """A symmetric Hessian has a negative eigenvalue, and rounding cannot be the cause.

    Args:
        eigenvalue: The smallest eigenvalue is at most this.
        rounding: What rounding can make of an eigenvalue 0, in the same units.
    """

    def __init__(self, eigenvalue: float, rounding: float) -> None:
        self.eigenvalue = float(eigenvalue)
        self.rounding = float(rounding)
        super().__init__(
            "`hessian` must be positive semidefinite, but it has an eigenvalue of at most "
            f"{self.eigenvalue:.6g}, and rounding explains {self.rounding:.2g} at most; "
            "for least squares with this matrix pass `Gram(matrix)`"
        )

    def __reduce__(self) -> tuple[type[NotSemidefiniteError], tuple[float, float]]:
        return NotSemidefiniteError, (self.eigenvalue, self.rounding)


def _spectrum(hessian: Any) -> tuple[FloatArray, float]:
    """All eigenvalues, ascending, and what rounding can have done to the smallest."""
    if isinstance(hessian, Gram):
        return _gram_spectrum(hessian)
    matrix, eps = _entries("hessian", hessian)
    matrix = _widened(matrix.toarray() if hasattr(matrix, "toarray") else matrix)
    scale = np.abs(matrix).max()
    asymmetry = np.abs(matrix - matrix.conj().T).max()
    # √eps: computed inverses and products are symmetric to rounding times their conditioning.
    if asymmetry > np.sqrt(eps) * scale:
        raise not_symmetric(f"entries differ from the transpose's by up to {asymmetry:.3g}")
    values = np.linalg.eigvalsh(matrix)
    rounding = _rank_tolerance(matrix.shape, eps) * float(np.abs(values).max())
    if values[0] < -rounding:
        raise NotSemidefiniteError(float(values[0]), rounding)
    values[values <= rounding] = 0.0
    return np.asarray(values, dtype=np.float64), rounding


def _gram_spectrum(gram: Gram) -> tuple[FloatArray, float]:
    factor, eps = _entries("factor", gram.factor)
    values = np.asarray(np.linalg.svd(_reduced(factor), compute_uv=False), dtype=np.float64)[::-1]
    rounding = _rank_tolerance(factor.shape, eps) * float(values[-1])
    values[values <= rounding] = 0.0
    with np.errstate(over="ignore", under="ignore"):
        squares = values**2
    check_range(float(values[-1]), float(squares[-1]))
    padding = np.zeros(factor.shape[1] - values.size)
    if padding.size or values[0] == 0:
        return np.concatenate([padding, squares]) + gram.shift, 0.0
    # Errors of sums are independent of each other, other than those that a rank must allow for.
    slack = eps * math.sqrt(max(factor.shape)) * float(values[-1])
    return squares + gram.shift, slack * (2 * float(values[0]) + slack)


def _rank_tolerance(shape: tuple[int, int], eps: float) -> float:
    """What of the largest eigenvalue, or singular value, counts as 0: as much as rounding leaves.

    In double precision the usual ε times the longer side. Rounding of the entries themselves, which
    narrower types bring, is independent from entry to entry and grows as the root of the shorter.
    """
    double = float(np.finfo(np.float64).eps)
    smaller, larger = sorted(shape)
    return max(larger * double, min(smaller, 4 * math.sqrt(smaller)) * eps if eps > double else 0.0)


def _is_worth_squaring(hessian: Any) -> bool:
    if not isinstance(hessian, Gram):
        return False
    smaller, larger = sorted(hessian.factor.shape)
    return bool(has_entries(hessian.factor) and smaller * smaller * larger >= SQUARED_FROM)


def _squared_spectrum(gram: Gram) -> tuple[FloatArray, float] | None:
    """Eigenvalues from AᵀA itself, or AAᵀ; None if small, or if squaring hides the smallest."""
    if not _is_worth_squaring(gram):
        return None
    factor, eps = _entries("factor", gram.factor)
    tall = _tall(factor)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if hasattr(tall, "tocsr"):
            tall = _widened(tall)
            square = (tall.conj().T @ tall).toarray()
        else:
            square = sum(block.conj().T @ block for block in _row_blocks(tall))
        trace = float(np.trace(square).real)
    if not 1e-250 < trace < 1e250:
        return None
    # Sums of m terms, whose rounding errors are independent.
    rounding = float(np.finfo(np.float64).eps) * math.sqrt(tall.shape[0]) * trace
    values = np.linalg.eigvalsh(square)
    # What `_gram_spectrum` takes for 0.
    hidden = _rank_tolerance(factor.shape, eps) ** 2 * values[-1]
    if values[0] < max(RESOLVED * rounding, hidden):
        return None
    padding = np.zeros(factor.shape[1] - values.size)
    return np.concatenate([padding, values]) + gram.shift, 0.0 if padding.size else rounding


def _reduced(factor: Any) -> Any:
    """A dense matrix with the singular values of the factor, not much larger than square."""
    tall = _tall(factor)
    num_rows, num_columns = tall.shape
    if num_rows <= (2 if hasattr(tall, "tocsr") else 8) * num_columns:
        return next(_row_blocks(tall, num_rows))
    blocks = _row_blocks(tall)
    triangle = np.linalg.qr(next(blocks), mode="r")
    for block in blocks:
        triangle = np.linalg.qr(np.concatenate([triangle, block]), mode="r")
    return triangle


def _tall(factor: Any) -> Any:
    """The factor or its transpose, whichever has more rows; ready for slices of rows."""
    tall = factor if factor.shape[0] >= factor.shape[1] else factor.T
    return tall.tocsr() if hasattr(tall, "tocsr") else tall


def _row_blocks(tall: Any, rows: int | None = None) -> Iterator[Any]:
    """Blocks of rows, dense, in double precision: a few times as large as a square one."""
    num_rows, num_columns = tall.shape
    rows = rows or max(4 * num_columns, 2**16 // num_columns)
    for start in range(0, num_rows, rows):
        block = tall[start : start + rows]
        yield _widened(block.toarray() if hasattr(block, "toarray") else block)


def _widened(matrix: Any) -> Any:
    """The same entries in double precision."""
    is_complex = dtype_kind(matrix.dtype) == "c"
    return matrix.astype(np.complex128 if is_complex else np.float64, copy=False)


def _entries(name: str, matrix: Any) -> tuple[Any, float]:
    """The matrix of NumPy or SciPy, and the precision that its entries came in."""
    if not has_entries(matrix):
        raise TypeError(
            f"`{name}` must be a dense or sparse matrix to have all its eigenvalues computed, got "
            f"{type(matrix).__name__}; `estimate_bounds` needs products only"
        )
    matrix, eps = on_host(matrix)
    return matrix, max(eps, float(np.finfo(np.float64).eps))
