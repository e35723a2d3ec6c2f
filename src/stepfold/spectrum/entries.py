"""Guaranteed bounds from entries: Gershgorin's discs, and norms.

For any positive x every eigenvalue of H is at most ``max_i (|H|x)ᵢ/xᵢ`` in absolute value: with
x = 1 Gershgorin's bound, else Gershgorin's for ``D⁻¹HD``, D = diag(x) (Collatz–Wielandt). For
``AᵀA`` the same holds with ``|A|ᵀ|A|``, without forming it, and is never above ‖A‖₁‖A‖∞.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold._arrays import dtype_kind
from stepfold._checks import check_count
from stepfold._typing import FloatArray
from stepfold.spectrum.bounds import Certainty, SpectralBounds
from stepfold.spectrum.exact import NotSemidefiniteError, check_range, not_symmetric
from stepfold.spectrum.target import Target, has_entries, on_host

# Entries read at a time: the absolute values of a block are all the memory that is needed.
BLOCK = 2**20
# No weight of a rescaled disc falls below this: a row of zeros must not get weight 0.
SMALLEST_WEIGHT = 1e-8


@dataclass(frozen=True, slots=True)
class Gershgorin:
    """Discs of H, or of ``|A|ᵀ|A|`` for a `Gram`, rescaled ``sweeps − 1`` times.

    Tight for grids, graphs and positive kernels; useless for dense matrices of random signs. The
    lower end is proved where H is diagonally dominant, and above 0 where it is strictly so;
    otherwise it is 0, on the assumption that H is semidefinite.

    Args:
        sweeps: Passes over the entries (two passes each for a `Gram`). After the first, each
            rescales with the row sums of the one before; the best bound of all is returned.

    Raises:
        TypeError: From `estimate_bounds`, if the entries are not known.
        ValueError: From `estimate_bounds`, if H is not symmetric or has a negative diagonal entry.

    References:
        Horn and Johnson, Matrix Analysis (2013), sections 6.1 and 8.1.

    >>> from stepfold.spectrum import estimate_bounds
    >>> bounds = estimate_bounds(np.array([[2.0, -1.0], [-1.0, 3.0]]), method=Gershgorin())
    >>> bounds.lower, bounds.upper, str(bounds.upper_certainty)
    (1.0, 4.0, 'guaranteed')
    """

    sweeps: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "sweeps", check_count("sweeps", self.sweeps))

    def bounds(self, target: Target) -> SpectralBounds:
        """Guaranteed bounds from the entries of the target."""
        majorant = _Majorant(target, "Gershgorin")
        gram = target.factor is not None
        power = 2 if gram else 1
        weights = np.ones(majorant.shape[1])
        lower, upper = None, math.inf
        for sweep in range(self.sweeps):
            sums = majorant.times(weights)
            if gram:
                sums = majorant.transposed_times(sums)
            elif sweep == 0:
                lower = majorant.smallest_disc(sums)
            upper = min(upper, float((sums / weights).max()))
            if upper == 0:
                break
            weights = np.maximum(sums / sums.max(), SMALLEST_WEIGHT)
        return majorant.record(lower, upper, power, "Gershgorin discs")


@dataclass(frozen=True, slots=True)
class Norms:
    """The smaller of ``‖H‖∞`` and ``‖H‖_F``; for a `Gram` of ``‖A‖₁‖A‖∞`` and ``‖A‖_F²``.

    The Frobenius norm is tight if one singular value dwarfs the others.

    Raises:
        TypeError: From `estimate_bounds`, if the entries are not known.
        ValueError: From `estimate_bounds`, if H is not symmetric or has a negative diagonal entry.

    >>> from stepfold.spectrum import Gram, estimate_bounds
    >>> estimate_bounds(Gram(np.array([[3.0, 0.0], [4.0, 0.0]])), method=Norms()).upper
    25.0
    """

    def bounds(self, target: Target) -> SpectralBounds:
        """Guaranteed upper bound from the entries of the target."""
        majorant = _Majorant(target, "Norms")
        rows = majorant.times(np.ones(majorant.shape[1]))
        squares = majorant.sum_of_squares()
        if target.factor is None:
            by_sums, frobenius, power = float(rows.max()), math.sqrt(squares), 1
        else:
            columns = majorant.transposed_times(np.ones(majorant.shape[0]))
            by_sums, frobenius, power = float(rows.max() * columns.max()), squares, 2
        name = "Frobenius norm" if frobenius < by_sums else "norms of rows and columns"
        return majorant.record(None, min(by_sums, frobenius), power, name)


class _Majorant:
    """``|A|``, its entries divided by a power of two near the largest, read block by block."""

    def __init__(self, target: Target, method: str) -> None:
        matrix = target.matrix
        if not has_entries(matrix):
            raise TypeError(
                f"`{method}` reads entries and needs a dense or sparse matrix, got "
                f"{type(matrix).__name__}; `Lanczos` needs products only"
            )
        matrix, _ = on_host(matrix)
        self.shape = matrix.shape
        self._is_gram = target.factor is not None
        entries = matrix.data if hasattr(matrix, "tocsr") else matrix
        parts = (entries.real, entries.imag) if dtype_kind(matrix.dtype) == "c" else (entries,)
        # Two passes rather than absolute values, which would take memory of their own.
        ends = [max(float(part.max()), -float(part.min())) for part in parts if part.size]
        largest = max(ends, default=0.0)
        self._exponent = int(np.frexp(largest)[1])
        self._num_passes = 1
        self._flipped = getattr(matrix, "format", "") == "csc"  # its rows are slow to slice
        self._matrix = matrix.T if self._flipped else matrix
        if not self._is_gram and not target.symmetry_is_checked:
            self._check_symmetry(matrix, target)

    def _check_symmetry(self, matrix: Any, target: Target) -> None:
        probe = target.random_vector(self.shape[0])
        # Entries whose sums overflow are refused when the discs are taken.
        with np.errstate(over="ignore", invalid="ignore"):
            image = matrix @ probe
            difference = float(np.abs(image - (matrix.T @ probe).conj()).max())
        self._num_passes += 2
        eps = max(float(np.finfo(image.dtype).eps), float(np.finfo(np.float64).eps))
        if difference > math.sqrt(eps) * float(np.abs(image).max()):
            raise not_symmetric(
                "the randomised test Hv = Hᵀv failed, the two differ by up to "
                f"{difference:.3g} for a random v"
            )

    def _blocks(self) -> Iterator[tuple[slice, Any]]:
        num_rows = self._matrix.shape[0]
        stored = getattr(self._matrix, "nnz", self._matrix.shape[0] * self._matrix.shape[1])
        step = max(1, int(BLOCK * num_rows / max(stored, 1)))
        for start in range(0, num_rows, step):
            rows = slice(start, min(start + step, num_rows))
            block = abs(self._matrix[rows]).astype(np.float64, copy=False)
            entries = block.data if hasattr(block, "tocsr") else block
            # In place: the absolute values are ours. Subnormal entries need a power of their own.
            if abs(self._exponent) < 1000:
                entries *= 2.0**-self._exponent
            else:
                np.ldexp(entries, -self._exponent, out=entries)
            yield rows, block

    def times(self, x: FloatArray) -> FloatArray:
        """``|A| x`` for x ≥ 0."""
        return self._product(x, transposed=self._flipped)

    def transposed_times(self, u: FloatArray) -> FloatArray:
        """``|A|ᵀ u`` for u ≥ 0."""
        return self._product(u, transposed=not self._flipped)

    def _product(self, x: FloatArray, *, transposed: bool) -> FloatArray:
        self._num_passes += 1
        result = np.zeros(self._matrix.shape[1] if transposed else self._matrix.shape[0])
        for rows, block in self._blocks():
            if transposed:
                result += block.T @ x[rows]
            else:
                result[rows] = block @ x
        return result

    def sum_of_squares(self) -> float:
        """``‖A‖_F²``."""
        self._num_passes += 1
        squares = 0.0
        for _, block in self._blocks():
            entries = block.data if hasattr(block, "tocsr") else block
            squares += float(np.vdot(entries, entries))
        return squares

    def smallest_disc(self, sums: FloatArray) -> float | None:
        """Smallest left end of a disc, ``h_ii − Σ_{j≠i} |h_ij|``; None if it is below 0."""
        diagonal = np.ldexp(self._matrix.diagonal().real.astype(np.float64), -self._exponent)
        if diagonal.min() < 0:
            raise NotSemidefiniteError(float(np.ldexp(diagonal.min(), self._exponent)), 0.0)
        lower = float((2 * diagonal - sums).min())
        # Cancellation: zero row sums, as in every graph Laplacian, must not leave 1e-17.
        rounding = 64 * math.sqrt(self.shape[0]) * np.finfo(np.float64).eps * float(sums.max())
        if lower < -rounding:
            return None
        return lower if lower > rounding else 0.0

    def record(
        self, proved_lower: float | None, upper: float, power: int, method: str
    ) -> SpectralBounds:
        """The bounds in the operator's units; without a proof the lower end is 0."""
        ends = (proved_lower or 0.0, upper)
        with np.errstate(over="ignore", under="ignore"):
            unscaled = [float(np.ldexp(end, power * self._exponent)) for end in ends]
        if not math.isfinite(unscaled[1]) and power == 1:
            raise ValueError(
                f"`hessian` is too large for `{method}`: sums of its entries overflow float64; "
                "divide the matrix by its norm first"
            )
        if power == 2:
            check_range(float(np.ldexp(math.sqrt(upper), self._exponent)), unscaled[1])
        sure = proved_lower is not None or self._is_gram or upper == 0
        return SpectralBounds(
            unscaled[0],
            unscaled[1],
            Certainty.GUARANTEED if sure else Certainty.ASSUMED,
            Certainty.GUARANTEED,
            method=method,
            num_products=self._num_passes,
        )
