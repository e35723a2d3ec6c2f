"""What conjugate gradients tell about the spectrum, for nothing.

From their step lengths αₖ and ratios βₖ the Lanczos matrix has the diagonal ``1/αₖ + βₖ₋₁/αₖ₋₁``
and, beside it, ``√βₖ/αₖ``. Its eigenvalues lie inside the spectrum of M⁻¹H. The upper end is put
where no eigenvalue hides from that many Lanczos steps, the lower one a little below the smallest
Ritz value: that is an estimate, and nothing proves that the lower end has been seen.

References:
    Golub and Van Loan, Matrix Computations (2013), section 10.2.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stepfold._krylov import Tridiagonal
from stepfold._typing import FloatArray
from stepfold.spectrum import Certainty, SpectralBounds
from stepfold.spectrum.one_sided import log_growth_needed, outer_end

# The start is a right-hand side and not random, so this is a figure of speech; `solve`'s guard
# raises an upper end that is too low.
FAILURE_PROBABILITY = 1e-2
MANY_UNKNOWNS = 1000
# Looks follow each other in this ratio at least: looking back at hundreds of steps takes its time.
LOOK_AGAIN = 1.25
FIRST_LOOK = 8
# Ritz values reach the lower end from inside.
LOWER_MARGIN = 0.9
# Steps that the upper end is judged by: beyond, each says next to nothing more about it.
MOST_FOR_UPPER = 100
# Steps up to which a dense eigensolver takes no time, nor BLAS's threads, which then spin on for a
# tenth of a second: SciPy need not be imported.
FEW_STEPS = 48
ROUNDING = 10 * float(np.finfo(float).eps)
ROUNDINGS = 100.0


class Coefficients:
    """Step lengths and ratios of the rows that are in the run; bounds are those of the first.

    Args:
        eps: Machine epsilon: Ritz values near it, times the largest, say nothing.
        num_rows: How many rows there are.
    """

    def __init__(self, eps: float, num_rows: int) -> None:
        self._eps, self._rounding = eps, ROUNDINGS * eps
        self._steps: list[FloatArray] = []
        self._ratios: list[FloatArray] = []
        # Rows that have been in one run of conjugate gradients from the first step on.
        self._is_whole = np.ones(num_rows, dtype=bool)
        self._looked_at = 0
        self._has_ended = False
        self._rests = np.zeros(num_rows, dtype=bool)
        # Rows that have met a direction along which the Hessian is 0 to rounding.
        self._is_flat = np.zeros(num_rows, dtype=bool)
        self._bounds: tuple[int, SpectralBounds | None] = (0, None)

    @property
    def size(self) -> int:
        """Steps taken in."""
        return len(self._steps)

    def step(
        self,
        sizes: Sequence[float] | FloatArray,
        resting: NDArray[np.bool_],
        quotients: FloatArray,
        largest: float,
    ) -> None:
        """Take in the step lengths αₖ of all rows.

        Args:
            sizes: The step lengths.
            resting: Rows whose gradient is rounding: from then on their numbers are those of no
                Lanczos matrix, and Ritz values may lie anywhere. So it is where a curvature is.
            quotients: Rayleigh quotients of the directions.
            largest: The largest so far.
        """
        resting = self._rests | resting
        flat = ~(quotients > self._rounding * largest)
        self._is_flat |= flat & ~resting
        self._rests = resting | flat
        self._has_ended = self._has_ended or bool(self._rests[self._is_whole].all())
        if not self._has_ended:
            steps = np.asarray(sizes, dtype=np.float64)
            self._steps.append(np.where(self._rests, np.nan, steps))

    def ratio(self, ratios: Sequence[float] | FloatArray) -> None:
        """Take in the ratios βₖ after that step."""
        if not self._has_ended:
            self._ratios.append(np.asarray(ratios, dtype=np.float64))

    def of_rows(self, positions: Sequence[int]) -> Coefficients:
        """Those to go on with for some of the rows; what stays of the others is not needed."""
        places = list(positions)
        if not self._is_whole[places].any():
            return Coefficients(self._eps, len(places))
        self._is_whole, self._bounds = self._is_whole[places], (0, None)
        self._rests, self._is_flat = self._rests[places], self._is_flat[places]
        self._steps = [sizes[places] for sizes in self._steps]
        self._ratios = [ratios[places] for ratios in self._ratios]
        return self

    def after_restart(self, rows: NDArray[np.intp]) -> Coefficients:
        """Those to go on with where some rows begin anew: from nothing, if no other row is left."""
        is_whole = self._is_whole.copy()
        is_whole[rows] = False
        if not is_whole.any():
            return Coefficients(self._eps, is_whole.size)
        self._is_whole = is_whole
        return self

    def is_due(self) -> bool:
        """Whether the spectrum is worth another look."""
        if self.size < max(FIRST_LOOK, LOOK_AGAIN * self._looked_at):
            return False
        self._looked_at = self.size
        return True

    def matrix(self) -> tuple[FloatArray, FloatArray]:
        """Diagonal and off-diagonal of the Lanczos matrix, the last coupling included."""
        row = int(np.argmax(self._is_whole))
        steps = np.array([sizes[row] for sizes in self._steps])
        good = np.flatnonzero(~((steps > 0) & np.isfinite(steps)))
        count = int(good[0]) if good.size else steps.size
        count = min(count, len(self._ratios))
        steps, ratios = steps[:count], np.array([each[row] for each in self._ratios[:count]])
        diagonal = 1 / steps
        diagonal[1:] += ratios[:-1] / steps[:-1]
        return diagonal, np.sqrt(ratios) / steps

    def ritz_values(self) -> tuple[float, float]:
        """Smallest and largest Ritz value; (0, 0) if there was no step."""
        diagonal, off = self.matrix()
        if not diagonal.size or not np.isfinite(diagonal).all():
            return 0.0, 0.0
        # LAPACK squares what is in the matrix, whatever its units.
        scale = float(diagonal.max())
        if diagonal.size <= FEW_STEPS:
            values = np.linalg.eigvalsh(Tridiagonal(diagonal / scale, off / scale).dense())
            return scale * float(values[0]), scale * float(values[-1])
        from scipy.linalg import eigvalsh_tridiagonal

        scaled = diagonal / scale, off[:-1] / scale
        ends = (
            eigvalsh_tridiagonal(*scaled, select="i", select_range=(i, i))
            for i in (0, diagonal.size - 1)
        )
        lowest, highest = (scale * float(values[0]) for values in ends)
        return lowest, highest

    def condition(self) -> float:
        """Ratio of the extreme Ritz values: the condition number is at least that."""
        lowest, highest = self.ritz_values()
        return highest / lowest if lowest > 0 else math.inf

    def bounds(self) -> SpectralBounds | None:
        """Ends of the spectrum; None if no step was taken."""
        if self._bounds[0] != self.size:
            self._bounds = self.size, self._find_bounds()
        return self._bounds[1]

    def _find_bounds(self) -> SpectralBounds | None:
        diagonal, off = self.matrix()
        lowest, highest = self.ritz_values()
        if not highest > 0:
            return None
        # In units of the highest Ritz value: the recurrence of `outer_end` squares too.
        needed = log_growth_needed(MANY_UNKNOWNS, FAILURE_PROBABILITY)
        some = slice(MOST_FOR_UPPER)
        off = np.maximum(off[some] / highest, ROUNDING)
        upper = highest * outer_end(diagonal[some] / highest, off, 1.0, needed, ROUNDING)
        rounding = self._rounding * highest
        if self._is_flat[int(np.argmax(self._is_whole))]:
            lowest = min(lowest, rounding)
        is_seen = lowest > rounding
        lower = LOWER_MARGIN * lowest if is_seen else 0.0
        return SpectralBounds(
            lower,
            upper,
            Certainty.ESTIMATED if lower > 0 else Certainty.GUARANTEED,
            Certainty.ESTIMATED,
            method=f"{diagonal.size} steps of conjugate gradients",
            reached_lower=max(lowest, rounding),
            reached_upper=highest,
        )
