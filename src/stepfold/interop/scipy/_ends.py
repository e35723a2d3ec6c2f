"""What conjugate gradients tell about the spectrum, step by step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepfold.spectrum.one_sided import outer_end

# The start is a right-hand side and not random, so the probability that its polynomials bound is
# a figure of speech; a bound found too low is raised on the way.
FAILURE_PROBABILITY = 1e-2
# Most conjugate gradient steps that look at the spectrum. On spectra of κ from 7 to 4e5, 10 cost up
# to a tenth more products in all than 40, and an isolated small eigenvalue (κ = 1000) 3 times more.
LOOKING_STEPS = 32
# Looks follow each other in this ratio at least: looking back at hundreds of steps takes its time.
LOOK_AGAIN = 1.1
# Conjugate gradients end after about n steps, with rounding some times n, Chebyshev's after 6√κ or
# so for five digits: where n is below the first times √κ, they are not left before the others.
UNKNOWNS_PER_ROOT = 4
MOST_STEPS_PER_UNKNOWN = 4
STEPS_PER_ROOT = 6
# Ritz values reach the lower end from inside.
LOWER_MARGIN = 0.9
# Where nothing is known of the lower end: it is lowered when it turns out to be too high.
UNKNOWN_LOWER = 1e-2


class Ends:
    """Ends of the spectrum from the coefficients of conjugate gradients."""

    def __init__(self, size: int, num_unknowns: int) -> None:
        self._alpha: list[float] = []
        self._beta: list[float] = []
        self._carry = 0.0
        self._largest = 0.0
        self._num_unknowns = num_unknowns
        self.singular = False
        self.condition = 1.0
        self._looks: list[tuple[int, float]] = []
        self._needed = -math.log(FAILURE_PROBABILITY) - 0.5 * math.log(math.pi / (2 * size))

    def add(self, step: float, ratio: float) -> float:
        """Take in a step length αₖ and the ratio βₖ after it; returns the Rayleigh quotient."""
        self._alpha.append(1 / step + self._carry)
        self._beta.append(math.sqrt(ratio) / step)
        self._carry = ratio / step
        return self._alpha[-1]

    @property
    def known(self) -> bool:
        """Whether there was a step."""
        return bool(self._alpha)

    def is_flat(self, curvature: float, direction: Any) -> bool:
        """Whether ``pᴴHp`` is 0 to rounding beside the largest ``pᴴHp/pᴴp`` so far.

        Raises:
            ValueError: If it is negative beyond rounding, the evidence of a negative eigenvalue.
        """
        square = float(np.vdot(direction, direction).real)
        if curvature > 0:
            self._largest = max(self._largest, curvature / square)
        eps = float(np.finfo(direction.dtype).eps)
        rounding = 10 * math.sqrt(direction.size) * eps * self._largest * square
        if curvature < -rounding:
            raise ValueError(
                "`A` must be positive definite, got a direction p with pᴴAp/pᴴp = "
                f"{curvature / square:.3g}; for indefinite systems use "
                "`scipy.sparse.linalg.minres`"
            )
        return curvature <= rounding

    def enough(self, *, patient: bool = False) -> bool:
        """Whether it is time for Chebyshev.

        That is when the smallest Ritz value hardly moved over the last two fifths of the steps, or,
        without patience, after `LOOKING_STEPS`; unless the end of conjugate gradients is the nearer
        one.
        """
        num_steps = len(self._alpha)
        last = self._looks[-1][0] if self._looks else 0
        if num_steps % 8 or num_steps < LOOK_AGAIN * last:
            return False
        lowest, highest = self._ritz()
        self._looks.append((num_steps, lowest))
        self.condition = highest / lowest if lowest > 0 else math.inf
        root = math.sqrt(self.condition)
        if self._num_unknowns < UNKNOWNS_PER_ROOT * root and num_steps < max(
            MOST_STEPS_PER_UNKNOWN * self._num_unknowns, STEPS_PER_ROOT * root
        ):
            return False
        earlier = [value for steps, value in self._looks if steps <= 0.6 * num_steps]
        settled = bool(earlier) and lowest >= LOWER_MARGIN * earlier[-1]
        return settled or (num_steps >= LOOKING_STEPS and not patient)

    def _ritz(self) -> tuple[float, float]:
        from scipy.linalg import eigvalsh_tridiagonal

        alpha, beta = np.array(self._alpha), np.array(self._beta[:-1])
        # LAPACK squares what is in the matrix, whatever its units.
        scale = float(alpha.max())
        ends = (
            eigvalsh_tridiagonal(alpha / scale, beta / scale, select="i", select_range=(i, i))
            for i in (0, len(alpha) - 1)
        )
        lowest, highest = (scale * float(values[0]) for values in ends)
        return lowest, highest

    def interval(self) -> tuple[float, float]:
        """Lower end a little below the Ritz values, upper one where no eigenvalue hides."""
        lowest, highest = self._ritz()
        eps = 10 * float(np.finfo(float).eps)
        rounding = eps * highest
        # In units of the highest Ritz value: the recurrence of `outer_end` squares too.
        alpha = np.array(self._alpha) / highest
        beta = np.maximum(np.array(self._beta) / highest, eps)
        upper = highest * outer_end(alpha, beta, 1.0, self._needed, eps)
        guess = UNKNOWN_LOWER * upper if self.singular else LOWER_MARGIN * lowest
        return max(guess, rounding), upper
