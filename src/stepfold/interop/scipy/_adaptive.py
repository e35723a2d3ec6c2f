"""Chebyshev semi-iteration for ``Hx = h``, with bounds that are found and put right on the way.

*Finding.* Conjugate gradients from the start are Lanczos steps on M½HM½, M the preconditioner: from
their step lengths αₖ and ratios βₖ the tridiagonal matrix has the diagonal ``1/αₖ + βₖ₋₁/αₖ₋₁`` and
off the diagonal ``√βₖ/αₖ``. So the steps that look at the spectrum advance the solution as well.

*Putting right.* On the right interval [a, b] the M-norm √(gᴴMg) of the residual g falls in k steps
at least by 1/τₖ(1/σ), τₖ the Chebyshev polynomial. If it falls more slowly, there are eigenvalues
below a, and the one that explains the ratio seen, ``τₖ(x)/τₖ(1/σ)`` with ``λ = (a + b)/2 −
x(b − a)/2``, becomes the new a. The Rayleigh quotient of Mg tells whether they are rather above
b, which is then raised, or below 0.

References:
    Hageman and Young, Applied Iterative Methods (1981), chapter 5. Golub and Van Loan, Matrix
    Computations (2013), section 10.2.5 for the tridiagonal matrix.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from stepfold.interop.scipy._ends import LOWER_MARGIN, Ends
from stepfold.iterations.semi_iteration import next_weight

# Steps between two looks at the residual, at most, in the beginning, where a wrong upper end shows,
# and as a share of those still needed on the interval in use, which is a bound. A step without a
# look can be one sweep over A; a look makes it two.
LONGEST_BLIND = 20
FIRST_BLIND = 4
BLIND_SHARE = 0.7
# Fall of the residual between two looks, in units of the rounding of a step.
ABOVE_ROUNDING = 10.0
# Share of the promised logarithm of the reduction below which the lower end is taken to be wrong,
# the reduction promised before that is judged, and what the eigenvalue that explains the loss is
# multiplied by, since it is an average over those below. With 0.75, 0.1 and 1 it took 10 % longer.
PROMISE_KEPT = 0.9
JUDGED_FROM = 0.1
LOWERED_BY = 0.7
# Growth of the M-norm, which never grows on the right interval, that no rounding explains.
GROWN = 1.5
# Corrections in a row without a new smallest residual, after which only rounding is left.
PATIENCE = 4
# So many steps, and as many again as there were up to the last fall of the norm by a tenth.
STALLED_AFTER = 200
STALLED_SHARE = 0.9


class System(ABC):
    """``Hx = h``, H Hermitian positive definite, with a preconditioner M.

    Attributes:
        squared_norm: What is known of the largest eigenvalue of MH: reached from inside during the
            first steps, the upper end in use after them.
        condition: Ratio of the ends, likewise.
        precision: Rounding of a step, relative to the residual last looked at; 0 where it is
            relative to the one before.
    """

    squared_norm: float = 0.0
    condition: float = 1.0
    precision: float = 0.0

    @property
    def is_patient(self) -> bool:
        """Whether a step of conjugate gradients costs no more than one of Chebyshev's.

        Then they look until they have seen the lower end: they need the fewest steps.
        """
        return False

    def renew(self) -> bool:
        """Whether products are made in another way from now on, for the condition number seen."""
        return False

    @abstractmethod
    def residual(self, x: Any) -> Any:
        """``h − Hx``, and whatever `is_solved` needs at ``x``."""

    @abstractmethod
    def advance(self, x: Any, gamma: float) -> Any:
        """``x + γM(h − Hx)``, in one sweep where the operator allows it."""

    @abstractmethod
    def precondition(self, residual: Any) -> Any:
        """``M·residual``; the residual itself if there is no preconditioner."""

    @abstractmethod
    def probe(self, direction: Any) -> float:
        """``pᴴHp``; remembers the product for `follow`."""

    @abstractmethod
    def follow(self, x: Any, residual: Any, direction: Any, step: float) -> Any:
        """Move ``x`` in place by ``step`` times the direction probed; returns the new residual."""

    @abstractmethod
    def check(self) -> None:
        """Raise if entries are not finite; called if the first residual is not."""

    @abstractmethod
    def excess(self, x: Any, residual: Any) -> float:
        """How many times its tolerance the criterion is at ``x``; at most 1 if that will do.

        Called with the last residual computed.
        """


class Run:
    """One run: the iterate, the interval so far, and what was spent.

    Args:
        system: What is solved.
        x: Start; not written to.
        max_steps: Most steps, of either method.
        callback: Called with the iterate after each step.
    """

    def __init__(
        self, system: System, x: Any, max_steps: int, callback: Callable[[Any], Any] | None
    ) -> None:
        self.system = system
        self.x = x
        self.num_steps = 0
        self.max_steps = max_steps
        self.lower = self.upper = math.nan
        self.num_corrections = 0
        self._callback = callback
        self._best, self._best_norm = x, math.inf
        self._fruitless = 0
        self._excess = math.inf
        self._mark = (0, math.inf)

    def solve(self, bounds: tuple[float, float] | None) -> bool:
        """Run to the end; afterwards `x` is the best iterate known. Returns whether it will do."""
        residual = self.system.residual(self.x)
        if not np.isfinite(residual).all():
            self.system.check()
        if self._done(residual):
            return True
        if bounds is not None:
            self.lower, self.upper = bounds
        elif self.max_steps > 0:
            ends, residual = self._conjugate_gradients(residual)
            if ends.known:
                self.lower, self.upper = ends.interval()
                self.system.squared_norm = self.upper
            if self._done(residual):
                # Before success is claimed, the residual carried along is computed from x.
                residual = self.system.residual(self.x)
                if self._done(residual):
                    return True
            if not ends.known:
                self.x = self._best
                return False
        while self.num_steps < self.max_steps and self._fruitless < PATIENCE:
            if self._semi_iterate(residual):
                return True
            residual = self.system.residual(self.x)
        self.x = self._best
        return False

    def find_ends(self) -> tuple[float, float] | None:
        """Ends of the spectrum from conjugate gradients alone; None if there was no step."""
        ends, _ = self._conjugate_gradients(self.system.residual(self.x))
        return ends.interval() if ends.known else None

    def _count(self) -> None:
        self.num_steps += 1
        if self._callback is not None:
            self._callback(self.x)

    def _done(self, residual: Any) -> bool:
        norm = float(np.linalg.norm(residual))
        if norm < self._best_norm:
            self._best, self._best_norm, self._fruitless = self.x, norm, 0
        self._excess = self.system.excess(self.x, residual)
        return self._excess <= 1

    def _norm(self, residual: Any, image: Any) -> float:
        square = float(np.vdot(residual, image).real)
        if square < 0:
            raise ValueError(
                "`M` must be positive definite, got a residual r with rᴴMr/rᴴr = "
                f"{square / float(np.vdot(residual, residual).real):.3g}; check the preconditioner"
            )
        return math.sqrt(square)

    def _conjugate_gradients(self, residual: Any) -> tuple[Ends, Any]:
        """Steps that look at the spectrum; returns what was seen and the residual."""
        system, ends = self.system, Ends(self.x.size, self.x.shape[-1])
        image = system.precondition(residual)
        norm = self._norm(residual, image)
        self.x = self.x.copy()
        direction = image
        # Below it a residual that is carried along says nothing about x any more.
        rounding = float(np.finfo(residual.dtype).eps) * norm
        while self.num_steps < self.max_steps:
            if norm <= rounding or self._is_stalled(norm):
                break
            curvature = system.probe(direction)
            if not math.isfinite(curvature):
                break
            if ends.is_flat(curvature, direction):
                # Singular to rounding: the smallest Ritz value is on its way to 0 and says nothing.
                ends.singular = True
                self.x = self._best
                residual = system.residual(self.x)
                break
            step = norm * norm / curvature
            residual = system.follow(self.x, residual, direction, step)
            self._count()
            image = system.precondition(residual)
            ratio = (self._norm(residual, image) / norm) ** 2
            if not math.isfinite(ratio):
                break
            norm *= math.sqrt(ratio)
            system.squared_norm = max(system.squared_norm, ends.add(step, ratio))
            if system.excess(self.x, residual) <= 1 or ends.enough(patient=system.is_patient):
                break
            system.condition = max(system.condition, ends.condition)
            if system.renew():
                # Directions and coefficients belong to the products before.
                residual, ends = system.residual(self.x), Ends(self.x.size, self.x.shape[-1])
                direction = image = system.precondition(residual)
                norm = self._norm(residual, image)
                continue
            direction = image + ratio * direction
        self._mark = (self.num_steps, math.inf)
        return ends, residual

    def _semi_iterate(self, residual: Any) -> bool:
        """Steps until solved, or until the interval is seen to be wrong and put right."""
        system = self.system
        image = system.precondition(residual)
        start = self._norm(residual, image)
        system.condition = self.upper / self.lower
        gamma = 2 / (self.lower + self.upper)
        contraction = (self.upper - self.lower) / (self.upper + self.lower)
        previous, omega, taken, look_at = self.x, 1.0, 0, FIRST_BLIND
        while self.num_steps < self.max_steps:
            moved = system.advance(self.x, gamma) if image is None else self.x + gamma * image
            if taken > 0:
                moved -= previous
                moved *= omega
                moved += previous
            previous, self.x, image = self.x, moved, None
            omega = next_weight(omega, contraction)
            taken += 1
            self._count()
            if taken < look_at and self.num_steps < self.max_steps:
                continue
            residual = system.residual(self.x)
            if self._done(residual):
                return True
            image = system.precondition(residual)
            norm = self._norm(residual, image)
            if self._is_stalled(norm):
                self._fruitless = PATIENCE
                return False
            seen = norm / start if start > 0 else 0.0
            if not self._as_promised(seen, taken):
                self._correct(seen, taken, residual, image)
                return False
            look_at = taken + self._blind_steps()
        return False

    def _blind_steps(self) -> int:
        """Steps to take before the next look: most of those that the tolerance asks for."""
        if not self._excess < math.inf:
            return LONGEST_BLIND
        longest = float(LONGEST_BLIND)
        if self.system.precision > 0:
            # No farther than rounding lets the residual fall.
            least = ABOVE_ROUNDING * self.system.precision * self.system.condition
            longest = min(longest, -math.log(min(least, 0.5)) / self._rate())
        needed = math.log(self._excess) / self._rate()
        return max(round(min(BLIND_SHARE * needed, longest)), 1)

    def _is_stalled(self, norm: float) -> bool:
        """Whether more than half of all steps have brought next to nothing.

        Without rounding the norm falls at least like 1/k² even where the lower end is 0.
        """
        steps, reached = self._mark
        if norm < STALLED_SHARE * reached:
            self._mark = (self.num_steps, norm)
            return False
        return self.num_steps > 2 * steps + STALLED_AFTER

    def _promised(self, taken: int) -> float:
        """``log(1/cosh(k·rate))`` without overflow: the logarithm of the reduction in k steps."""
        exponent = taken * self._rate()
        return math.log(2) - exponent - math.log1p(math.exp(-2 * exponent))

    def _as_promised(self, seen: float, taken: int) -> bool:
        """Whether a reduction of the M-norm does not speak against the interval."""
        if not seen <= GROWN:
            return False
        promised = self._promised(taken)
        if seen == 0 or promised > math.log(JUDGED_FROM):
            return True
        return math.log(seen) <= PROMISE_KEPT * promised

    def _correct(self, seen: float, taken: int, residual: Any, image: Any) -> None:
        """Move the end that is wrong, and go back to the best iterate if that was the upper one."""
        self.num_corrections += 1
        self._fruitless += 1
        quotient = 0.0
        if np.isfinite(image).all():
            curvature = self.system.probe(image)
            Ends(image.size, image.shape[-1]).is_flat(curvature, image)
            weight = float(np.vdot(residual, image).real)
            quotient = curvature / weight if weight > 0 else 0.0
        if quotient > self.upper or not seen <= GROWN:
            self.upper = 1.1 * max(quotient if math.isfinite(quotient) else 0.0, self.upper)
            self.system.squared_norm = self.upper
            self.x = self._best
            return
        # acosh(seen·cosh(k·rate)) without overflow; the 1 of e^x + e^−x is lost in the estimate.
        explained = max(math.log(seen) + math.log(2) - self._promised(taken), 0.0) / taken
        centre, half = (self.upper + self.lower) / 2, (self.upper - self.lower) / 2
        lower = LOWERED_BY * (centre - half * math.cosh(min(explained, 700.0)))
        # Never to 0 at once: what is singular may have no part of the residual there.
        self.lower = min(max(lower, 1e-2 * self.lower), LOWER_MARGIN * self.lower)

    def _rate(self) -> float:
        """arccosh(1/σ): the promised reduction per step, as an exponent."""
        ratio = self.lower / self.upper
        return 2 * math.atanh(math.sqrt(ratio)) if ratio < 1 else 700.0
