"""The guard: find out that the interval is wrong, by proof, and mend it.

If the spectrum keeps to [a, b], a period multiplies the gradient norm by at most ``max |p|`` over
it. A larger factor is a suspicion. The proof is a Rayleigh quotient beyond an end: after a bad
period the components that grew dominate the gradient, so that a few Lanczos steps from it find
them. Rounding alone can arouse the suspicion and never gives the proof; so with correct bounds no
iterate is changed, whatever happens.

Inside the first period of a schedule, which with wrong bounds may overflow, Rayleigh quotients cost
no product: ``g_t = (x_t − x_{t+1})/γ_t`` and ``H g_t = (g_t − g_{t+1})/γ_t``. They are looked at
after 1, 2, 4, 6, 8, 12, 16, … steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stepfold._arrays import column, dot, epsilon, norms, row_dots, tiny
from stepfold._checks import check_count
from stepfold._krylov import Tridiagonal, lanczos
from stepfold._typing import FloatArray
from stepfold.polynomial import chebyshev_period_rate, worst_case_period_rate
from stepfold.problems import QuadraticProblem
from stepfold.result import GuardEvent
from stepfold.run.diagnosis import ROUNDING, asymmetry
from stepfold.schedules import Schedule, chebyshev_steps
from stepfold.spectrum import Certainty, SpectralBounds
from stepfold.spectrum.bounds import check_bounds

Rebuild = Callable[[SpectralBounds, int], Schedule]

# Lanczos steps from a bad gradient: enough to tell the largest eigenvalue to a few per cent where
# many grew; where one did, the first shows it.
PROBE_STEPS = 8
PROBE_RTOL = 0.02
# The new upper end lies this far beyond the largest Ritz value and its residual; 2 % too high costs
# 1 % more steps.
MARGIN = 0.02
# Beyond what the polynomial allows, for rounding.
SLACK = 1.0001
# Inside a period, where quotients come from differences of iterates, only what is far beyond
# counts: what is nearer does not overflow before the period's end.
FAR = 1.05
# After how many steps: in geometric progression, so that little more is wasted than it takes to
# see; later ones are for overflow alone.
LOOKS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096)
# Numbers of a vector looked at together: they stay in cache, and take no memory to speak of.
PIECE = 2**13
# Where nothing but the best iterate is left to start from, nothing has grown in it yet.
LONG_PROBE_STEPS = 40


@dataclass(frozen=True)
class Guard:
    """What `solve` does about bounds that are wrong.

    Args:
        bounds: Interval that the schedule was made for; the schedule's own if not given.
        rebuild: Makes ``period`` steps for other bounds; the family that made the schedule if
            not given, and Chebyshev steps where that is not known either.
        lowers: Whether to lower the lower bound too once an eigenvalue is found below it. Off by
            default: a lower bound that is too high only slows, and may be meant (of a singular
            problem, or one that is to be solved roughly, only the larger eigenvalues matter).
        max_events: How often an end may be moved.

    Raises:
        TypeError: If ``bounds`` is neither `SpectralBounds` nor None, or ``rebuild`` cannot be
            called.
        ValueError: If ``max_events`` is negative.

    >>> from stepfold import Quadratic, solve
    >>> problem = Quadratic(np.diag([1.0, 2.0, 8.0]), np.ones(3))
    >>> result = solve(problem, chebyshev_steps(SpectralBounds(1.0, 4.0), 8))
    >>> result.status.name, [(event.old.upper, round(event.eigenvalue)) for event in result.events]
    ('CONVERGED', [(4.0, 8)])
    """

    bounds: SpectralBounds | None = None
    rebuild: Rebuild | None = None
    lowers: bool = False
    max_events: int = 16

    def __post_init__(self) -> None:
        check_bounds(self.bounds)
        if self.rebuild is not None and not callable(self.rebuild):
            raise TypeError(
                f"`rebuild` must be a callable of bounds and period, got {self.rebuild!r}"
            )
        check_count("max_events", self.max_events, minimum=0)


class Watch:
    """The guard at work on one run; keeps the bounds that are believed at present."""

    def __init__(self, guard: Guard, schedule: Schedule, bounds: SpectralBounds) -> None:
        self.schedule = schedule
        # Of the inner product in which the Hessian is symmetric; None for the usual one.
        self.weights: Any = None
        self.bounds = bounds
        self.events: list[GuardEvent] = []
        # A Rayleigh quotient below the lower end.
        self.below: float | None = None
        self.looks_inside = True
        # How far the Hessian is from symmetric, once that has been seen.
        self.asymmetry: float | None = None
        # From the last probe: what takes the components that grew out of its iterate again.
        self.correction: tuple[Any, float] | None = None
        self._guard = guard
        self._start_schedule()
        self._previous: tuple[Any, float, int] | None = None

    def _start_schedule(self) -> None:
        self._allowed: float | None = None
        self._least = chebyshev_period_rate(self.bounds, self.schedule.period)
        self._probe_at: float = 0
        self._num_suspicions = 0
        self.first_period = True

    # Inside a period.

    def start_period(self) -> frozenset[int]:
        """Counts of steps after which the guard wants to see the iterates."""
        self._previous = None
        may_act = len(self.events) < self._guard.max_events
        if not (self.first_period and self.looks_inside and may_act):
            return frozenset()
        last = self.schedule.period - 2
        starts = [start for start in LOOKS if start < last]
        return frozenset(count for start in starts for count in (start + 1, start + 2))

    def sees_growth(self, before: Any, gamma: float, after: Any, count: int) -> bool:
        """Whether two steps in a row show an eigenvalue far beyond the upper end."""
        previous, self._previous = self._previous, (before, gamma, count)
        if previous is None or previous[2] != count - 1:
            return False
        return self._beyond(previous[0], previous[1], before, gamma, after)

    def _beyond(self, x: Any, gamma: float, y: Any, next_gamma: float, z: Any) -> bool:
        limit = FAR * self.bounds.upper * gamma
        lost = tiny(x) / epsilon(x)  # squared norms below have lost digits
        if x.ndim == 1 and self.weights is None:
            # The common case, without arrays of one number and without two more of the size of x.
            size, inner = _move_dots(x, y, z)
            product = size - inner * (gamma / next_gamma)
            if product <= limit * size and size >= lost and math.isfinite(size):
                return False
        first, second = x - y, y - z
        sizes, products = self._quotient(first, second, gamma / next_gamma)
        if not np.all(sizes > lost * (sizes > 0)) or not (np.isfinite(sizes).all()):
            lengths = norms(first)
            if not np.isfinite(lengths).all():
                return True
            # Squares under- or overflow, the rows themselves do not.
            unit = column(np.where(lengths > 0, lengths, 1.0), first)
            sizes, products = self._quotient(first / unit, second / unit, gamma / next_gamma)
        beyond = products > limit * sizes
        if not beyond.any():
            return False
        # Differences of fewer than three digits are rounding.
        least = 1e3 * epsilon(first) * norms(y)
        return bool(np.any(beyond & (norms(first) > least) & (norms(second) > least)))

    def _quotient(self, first: Any, second: Any, ratio: float) -> tuple[FloatArray, FloatArray]:
        """Denominator and numerator of a Rayleigh quotient times the step, for each row."""
        weighted = first if self.weights is None else first * self.weights
        sizes = row_dots(weighted, first)
        return sizes, sizes - row_dots(weighted, second) * ratio

    # At the end of a period.

    def is_suspicious(self, factor: float, num_periods: int) -> bool:
        """Whether the largest factor of a period's gradient norms, NaN included, exceeds max |p|.

        A suspicion that came to nothing is taken up again after twice as many periods only: it is
        rounding, or a component that has yet to show.
        """
        # No schedule has a smaller factor than Chebyshev's: mostly that comparison will do.
        if factor <= self._least or num_periods < self._probe_at:
            return False
        return not factor <= SLACK * self.allowed and len(self.events) < self._guard.max_events

    @property
    def lowered(self) -> bool:
        """Whether the lower end has been moved."""
        return any(event.end == "lower" for event in self.events)

    @property
    def allowed(self) -> float:
        """Largest ``|p|`` over the bounds."""
        if self._allowed is None:
            self._allowed = worst_case_period_rate(self.schedule, self.bounds)
        return self._allowed

    def probe(
        self,
        problem: QuadraticProblem[Any],
        x: Any,
        gradient: Any | None,
        num_steps: int,
        period: int,
    ) -> tuple[GuardEvent | None, int]:
        """Look for an eigenvalue beyond the bounds from the iterate ``x`` of one row.

        Args:
            problem: The problem of that row; its arrays may be (n,) or (1, n).
            x: Its iterate.
            gradient: The gradient there, shape (n,), or None if it is not known.
            num_steps: Steps so far, for the record.
            period: Period that they are in, for the record.

        Returns:
            What was done, or None if nothing was found, and the products spent.
        """
        found, spent, self.correction, asymmetry = _probe(problem, x, gradient, self.bounds.upper)
        if found is None:
            return None, spent
        if asymmetry is not None:
            # Ritz values and Rayleigh quotients are then no evidence of anything.
            self.asymmetry, self._probe_at = asymmetry, math.inf
            return None, spent
        low, high, low_residual, high_residual = found.ends()
        rounding = ROUNDING * epsilon(x)
        event: GuardEvent | None = None
        if high > self.bounds.upper * (1 + rounding):
            upper = (1 + MARGIN) * (high + min(high_residual, high / 4))
            event = self._event("upper", upper, high, num_steps, period, spent)
        elif math.isfinite(low_residual) and low < self.bounds.lower * (1 - rounding):
            self.below = low if self.below is None else min(low, self.below)
            if self._guard.lowers and low_residual <= low:
                lower = 0.75 * max(low - low_residual, low / 2)
                event = self._event("lower", lower, low, num_steps, period, spent)
        if event is None:
            self._num_suspicions += 1
            self._probe_at = period + 2**self._num_suspicions
            if self.below is not None:
                # That much is explained; only what the polynomial does not allow there is news.
                wider = SpectralBounds(max(self.below, 0.0), self.bounds.upper)
                self._least = self._allowed = worst_case_period_rate(self.schedule, wider)
        else:
            self.events.append(event)
            self.bounds = event.new
            self.schedule = self._rebuilt()
            self._start_schedule()
        return event, spent

    def _event(
        self, end: str, value: float, seen: float, num_steps: int, period: int, spent: int
    ) -> GuardEvent:
        new = replace(
            self.bounds,
            **{end: value, f"{end}_certainty": Certainty.ESTIMATED},  # type: ignore[arg-type]
            reached_upper=None,
            reached_lower=None,
            failure_probability=None,
            method=f"{self.bounds.method}; {end} end moved by the guard",
        )
        return GuardEvent(num_steps, period, end, self.bounds, new, seen, spent)

    def _rebuilt(self) -> Schedule:
        period = self.schedule.period
        if self._guard.rebuild is not None:
            return self._guard.rebuild(self.bounds, period)
        try:
            return self.schedule.rebuilt(self.bounds)
        except (KeyError, ValueError):
            pass  # learned steps, or a family that this version does not know
        if self.bounds.lower == 0:
            return chebyshev_steps(self.bounds, period, kind=4)
        return chebyshev_steps(self.bounds, period)


def watch_for(guard: Guard | None, schedule: Schedule, *, lowers: bool = False) -> Watch | None:
    """The guard of a run, or None where it is off or knows no bounds.

    Args:
        guard: What was asked for.
        schedule: The steps to be run.
        lowers: Whether the lower end must be right, because an error is to be certified by it.
    """
    if guard is None:
        return None
    guard = replace(guard, lowers=guard.lowers or lowers)
    bounds = guard.bounds if guard.bounds is not None else schedule.bounds
    return None if bounds is None or bounds.upper == 0 else Watch(guard, schedule, bounds)


def _probe(
    problem: QuadraticProblem[Any], x: Any, gradient: Any | None, upper: float
) -> tuple[Tridiagonal | None, int, tuple[Any, float] | None, float | None]:
    """Lanczos from the gradient at ``x``, in an inner product that makes the Hessian symmetric."""
    spent, num_steps = 0, PROBE_STEPS
    inner = problem.euclidean
    if gradient is None:
        num_steps = LONG_PROBE_STEPS
    if inner is not problem:
        gradient = None  # its own is M⁻¹ times the one that Lanczos starts from
    per_product = inner.products_per_gradient
    if gradient is None:
        gradient = inner.gradient(x)
        gradient = gradient if gradient.ndim == 1 else gradient[0]
        spent += per_product
    if not 0 < float(norms(gradient)[0]) < math.inf:
        return None, spent, None, None  # it shows nothing
    hessian = inner.hessian

    def enough(found: Tridiagonal) -> bool:
        _, high, _, residual = found.ends()
        return high > upper and residual <= PROBE_RTOL * high

    basis: list[Any] = []
    images: list[Any] = []

    def product(v: Any) -> Any:
        image = hessian @ v
        if len(images) < 2:
            images.append(image)
        return image

    found = lanczos(
        product,
        gradient,
        num_steps,
        precondition=problem.precondition,
        stop=enough,
        reorthogonalise=False,
        basis=basis,
    )
    spent += per_product * found.diagonal.size
    correction = _correction(found, basis, float(norms(gradient)[0]))
    return found, spent, correction, asymmetry(basis[:2], images)


def _correction(found: Tridiagonal, basis: list[Any], norm: float) -> tuple[Any, float] | None:
    """The step of as many conjugate-gradient steps, and the gradient norm that it leaves.

    The Lanczos vectors hold it already: ``d = −‖g‖ V T⁻¹ e₁``, with the residual ``β |eᵀT⁻¹e₁|``.
    """
    if not basis or found.ends().low <= 0:
        return None
    weights = np.linalg.solve(found.dense(), norm * np.eye(found.diagonal.size)[0])
    step = -float(weights[0]) * basis[0]
    for weight, vector in zip(weights[1:].tolist(), basis[1:], strict=True):
        step = step - weight * vector
    return step, abs(float(found.off_diagonal[-1] * weights[-1]))


def _move_dots(x: Any, y: Any, z: Any) -> tuple[float, float]:
    """``‖x − y‖²`` and ``(x − y)·(y − z)`` of three vectors, piece by piece."""
    size = inner = 0.0
    for start in range(0, x.shape[0], PIECE):
        piece = slice(start, min(start + PIECE, x.shape[0]))
        middle = y[piece]
        first = x[piece] - middle
        size += dot(first, first)
        inner += dot(first, middle - z[piece])
    return size, inner
