"""Known steps: cycle a schedule through an iteration, under the eyes of the guard.

With gradient descent the gradient that a look computed is the one that the next period starts with,
and the rows of a batch that have ended leave the sweep. With data in fewer bits a period solves
``Hd = −∇f(x)`` for the correction d from d = 0 and adds it, which is iterative refinement: rounding
limits the factor of a period, not the accuracy that is reached.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepfold._arrays import cast, column, computed, epsilon, is_foreign, norms, put_rows, take
from stepfold.iterations import Iteration
from stepfold.operators import LinearMap
from stepfold.polynomial import worst_case_period_rate
from stepfold.problems import LeastSquares, Problem, Quadratic, QuadraticProblem
from stepfold.result import GuardEvent, Status
from stepfold.run.diagnosis import ROUNDING, null_space_floor
from stepfold.run.ledger import Seen
from stepfold.run.loop import Loop, Policy
from stepfold.run.policies.guard import Watch
from stepfold.schedules import Schedule, roundoff_amplification
from stepfold.spectrum import SpectralBounds

# A factor per period above which a spent budget is worth a word about the bounds.
SLOW = 0.9


class Cycle(Policy):
    """A schedule, over and over.

    Args:
        schedule: The steps.
        iteration: What a step does.
        watch: The guard at work; None without one.
        low: The problem with its data in fewer bits; None to take steps on the problem itself.
    """

    def __init__(
        self,
        schedule: Schedule,
        iteration: Iteration[Any, Any],
        watch: Watch | None = None,
        low: QuadraticProblem[Any] | None = None,
    ) -> None:
        self._schedule, self._iteration = schedule, iteration
        self._watch, self._low = watch, low
        self._steps = list(schedule)
        self._state: Any = None
        self._known: Any = None
        self._low_quadratic: Any = None
        self._cut_short = False
        self._start_of_period: Any = None
        self._num_periods = 0
        self._last_factor = 0.0
        self._has_room = True
        self._tails: float | None = None
        self._epsilon = 0.0

    @property
    def schedule(self) -> Schedule:
        return self._schedule if self._watch is None else self._watch.schedule

    @property
    def bounds(self) -> SpectralBounds | None:
        return self._schedule.bounds if self._watch is None else self._watch.bounds

    @property
    def events(self) -> tuple[GuardEvent, ...]:
        return () if self._watch is None else tuple(self._watch.events)

    @property
    def indefinite(self) -> float | None:
        watch = self._watch
        if watch is None or watch.below is None or watch.asymmetry is not None:
            return None
        rounding = ROUNDING * self._epsilon * watch.bounds.upper
        return watch.below if watch.below < -rounding else None

    def start(self, loop: Loop, x: Any, seen: Seen) -> None:
        watch, problem = self._watch, loop.problem
        self._epsilon = epsilon(x)
        if watch is not None and problem.euclidean is not problem:
            watch.weights = problem.metric
            watch.looks_inside = problem.metric is not None
        if watch is not None and is_foreign(x):
            # Each look would be a read from the device, for which all steps so far must end.
            watch.looks_inside = False
        self._state = self._iteration.init(self._stepped(loop), x)
        self._known = seen.known

    def cost(self, loop: Loop) -> tuple[int, float]:
        count, whole = len(self._steps), loop.problem.products_per_gradient
        if self._low is not None:
            return count, (count - 1) * self._low.products_per_gradient + whole
        # The gradient that the first step needs is known to some iterations.
        extra = 0 if self._iteration.takes_gradient else 1
        products = (count + extra) * whole
        self._has_room = loop.ledger.num_steps > 0 or loop.ledger.fits(count, products)
        return count, products

    def period(self, loop: Loop) -> tuple[Any, Any]:
        watch, known = self._watch, self._known
        self._known = None
        self._cut_short = False
        looks = frozenset() if watch is None else watch.start_period()
        # A period needs memory for two iterates; what nobody asks for again is let go.
        self._start_of_period = self._state if watch is not None and watch.first_period else None
        if self._low is not None:
            return self._low_period(loop, self._low, known, looks), None
        iteration, problem = self._iteration, self._stepped(loop)
        is_counted = problem is not loop.problem
        per_step = 0 if is_counted else problem.products_per_gradient
        state, self._state = self._state, None
        for count, gamma in enumerate(self._steps, 1):
            spent = 0 if known is not None else per_step
            after = computed(iteration.step(problem, state, gamma, known))
            known = None
            loop.stepped(functools.partial(iteration.iterate, after), spent)
            if count in looks and watch and watch.sees_growth(state, gamma, after, count):
                self._cut_short = True
                state = after
                break
            state = after
        self._state = state
        return iteration.iterate(state), None

    def _stepped(self, loop: Loop) -> Problem[Any]:
        """What steps are taken on: the problem, or a twin that counts where costs vary."""
        if self._iteration.takes_gradient:
            problem: Problem[Any] = loop.problem
            return problem

        def count(products: int) -> None:
            loop.ledger.num_products += products

        return counted(loop.problem, count)

    def _low_period(self, loop: Loop, low: Any, gradient: Any, looks: frozenset[int]) -> Any:
        watch, x = self._watch, self._state
        if gradient is None:
            gradient = loop.problem.gradient(x)
            loop.ledger.num_products += loop.problem.products_per_gradient
        # Of norm 1: the correction must neither overflow nor vanish in few bits.
        sizes = norms(gradient)
        scale = column(np.where(sizes > 0, sizes, 1.0), gradient)
        target = cast(-(gradient / scale), _dtype_of(low))
        if self._low_quadratic is None:
            self._low_quadratic = Quadratic(low.hessian, target)
        problem = self._low_quadratic.with_rhs(target)
        step = 0 * target
        for count, gamma in enumerate(self._steps, 1):
            # The gradient at d = 0 is known: it is minus the target.
            after = gamma * target if count == 1 else problem.gradient_step(step, gamma)

            def shown(after: Any = after) -> Any:
                return x + scale * cast(after, gradient.dtype)

            loop.stepped(shown, low.products_per_gradient if count > 1 else 0)
            if count in looks and watch and watch.sees_growth(step, gamma, after, count):
                self._cut_short = True
                step = after
                break
            step = after
        self._state = x + scale * cast(step, gradient.dtype)
        return self._state

    def judge(self, loop: Loop, x: Any, seen: Seen) -> None:
        ledger, watch = loop.ledger, self._watch
        self._known = seen.known
        if ledger.active.size and not self._cut_short:
            self._last_factor = float(ledger.factors[ledger.active].max())
        if watch is None or not ledger.active.size:
            return
        if not self._cut_short:
            watch.first_period = False
            self._num_periods += 1
        start, self._start_of_period = self._start_of_period, None
        if self._guarded(loop, watch, x, seen):
            if not self._cut_short:
                self._salvage(loop, watch, x)
            ledger.restart()
            self._state, self._known = loop.best(), None
            self._steps = list(watch.schedule)
            self._tails = None
            loop.measure.upper = watch.bounds.upper
        elif self._cut_short:
            # A false alarm: take the period again, from where it began and to its end.
            watch.first_period = False
            ledger.restart()
            self._state, self._known = start, None

    def position(self, loop: Loop) -> Any:
        x = self._iteration.iterate(self._state)
        whole = loop.swept.size == len(loop.ledger.statuses)
        return x if whole else put_rows(loop.ledger.best, loop.swept, x)

    def explain_wait(self, loop: Loop, x: Any, seen: Seen) -> None:
        if not isinstance(loop.problem, QuadraticProblem) or not self._iteration.follows_schedule:
            return
        ledger = loop.ledger
        if self._tails is None:
            bounds = self.bounds or SpectralBounds(0.0, 1 / min(self._steps))
            self._tails = roundoff_amplification(np.array(self._steps), bounds)[1]
            # What a rounding error made inside a period is multiplied by until its end.
            ledger.floor[ledger.active] *= self._tails / loop.measure.amplification
            loop.measure.amplification = self._tails
        if (ledger.best_sizes <= ledger.floor)[ledger.active].any():
            return
        if isinstance(loop.problem.euclidean, LeastSquares):
            return  # its gradient is in the range of Aᵀ, and some x reduces it
        if loop.problem.euclidean is not loop.problem:
            return  # bounds are those of another inner product
        ledger.num_products += loop.problem.products_per_gradient
        floor = null_space_floor(loop.problem, x, seen.dual, loop.measure.upper)
        ledger.attain(floor[loop.positions])

    def take(self, positions: Sequence[int]) -> bool:
        state = self._iteration.rows_of(self._state, positions)
        if state is None:
            return False
        self._state = state
        self._known = None if self._known is None else take(self._known, positions)
        return True

    def _guarded(self, loop: Loop, watch: Watch, x: Any, seen: Seen) -> bool:
        """Whether the guard has found the bounds wrong, and the schedule is another one now."""
        ledger = loop.ledger
        factors = ledger.factors[ledger.active]
        if not (self._cut_short or watch.is_suspicious(float(factors.max()), self._num_periods)):
            return False
        worst = int(np.argmax(np.where(np.isfinite(factors), factors, math.inf)))
        self._worst = place = int(ledger.active[worst])
        problem, gradient = loop.whole, None
        known = math.isfinite(ledger.last[place])
        if not ledger.is_batch:
            row = x if known else ledger.best
            gradient = seen.known if known else None
        else:
            position = loop.positions[worst]
            gradient = seen.known[position] if known else None
            row = x[position : position + 1] if known else ledger.best[place : place + 1]
            one = loop.whole.rows_of([place])
            if one is None and gradient is None:
                return False
            problem = loop.whole if one is None else one
        event, spent = watch.probe(problem, row, gradient, ledger.num_steps, self._num_periods)
        ledger.num_products += spent
        if watch.below is not None or watch.asymmetry is not None:
            # What a run has refuted it may not rest a certificate on.
            loop.measure.lower = 0.0
        if event is not None and event.end == "lower" and watch.asymmetry is None:
            loop.measure.lower = event.new.lower
        return event is not None

    def _salvage(self, loop: Loop, watch: Watch, x: Any) -> None:
        """Take out of the iterate what grew, where that leaves one better than the best so far.

        A period that made one component grow has shrunk all others, which is worth keeping.
        """
        ledger = loop.ledger
        if watch.correction is None or loop.whole.euclidean is not loop.whole:
            return
        step, left = watch.correction
        if not left < ledger.best_sizes[self._worst]:
            return
        if not ledger.is_batch:
            x = x + step
        else:
            place = loop.positions[ledger.active.tolist().index(self._worst)]
            x = put_rows(x, [place], x[place : place + 1] + step)
        loop.look(x)

    def notes(self, loop: Loop) -> list[str]:
        ledger, watch = loop.ledger, self._watch
        notes: list[str] = []
        if not self._has_room and ledger.status is Status.BUDGET:
            notes.append(
                f"The budget has no room for a period of {self._schedule.period} steps; "
                "take a shorter one."
            )
        if watch is not None and watch.asymmetry is not None:
            claim, remedy = "The Hessian", "pose the system as `LeastSquares(matrix, rhs)`"
            if isinstance(loop.problem.euclidean, LeastSquares):
                claim = "The adjoint of the operator is wrong: AᵀA, as its products are,"
                remedy = "`operator.T @ y` (or `rmatvec`) must be the adjoint of `@`"
            notes.append(
                f"{claim} is not symmetric: two products with it, uᵀ(Hv) and vᵀ(Hu), differ by "
                f"{watch.asymmetry:.2g} of their size. These steps are for symmetric matrices; "
                f"{remedy}."
            )
        elif watch is not None and watch.below is not None:
            notes += self._on_lower_end(watch, epsilon(ledger.best), loop.units.hessian)
        elif self._last_factor > 0 and ledger.status is Status.BUDGET:
            notes += self._on_slowness(loop.units.hessian)
        return notes

    def _on_lower_end(self, watch: Watch, eps: float, unit: float) -> list[str]:
        assert watch.below is not None  # noqa: S101
        if watch.below <= ROUNDING * eps * watch.bounds.upper:
            return [
                "The Hessian is singular or indefinite, a Rayleigh quotient is "
                f"{watch.below * unit:.3g}: in that direction nothing converges unless the "
                "gradient has no part in it."
            ]
        if watch.lowered:
            return []
        return [
            f"The lower bound {watch.bounds.lower * unit:.6g} is too high, an eigenvalue lies at "
            f"{watch.below * unit:.6g} or below: convergence is slower than the schedule promises; "
            "lower it, or take `Guard(lowers=True)`."
        ]

    def _on_slowness(self, unit: float) -> list[str]:
        factor, bounds = self._last_factor, self.bounds
        if bounds is None:
            if factor < SLOW:
                return []
            return [
                f"The last period changed the gradient norm by the factor {factor:.3g}; if the "
                "schedule was to do better, eigenvalues lie outside the interval it was made for."
            ]
        allowed = worst_case_period_rate(self.schedule, bounds)
        if factor <= allowed:
            return []
        return [
            f"The last period changed the gradient norm by the factor {factor:.3g}, where bounds "
            f"[{bounds.lower * unit:.6g}, {bounds.upper * unit:.6g}] allow {allowed:.3g}: "
            "rounding, or eigenvalues outside; check the bounds with `estimate_bounds`."
        ]


def counted(problem: Problem[Any], count: Callable[[int], None]) -> Problem[Any]:
    """A twin of the problem that reports the products of every gradient it is asked for.

    For iterations that may or may not take a known gradient, or need several: the twin is of the
    same class, and only its two methods are watched.
    """
    twin = copy.copy(problem)
    inside = [False]

    def watched(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if inside[0]:
                return method(*arguments)
            inside[0] = True
            try:
                count(problem.products_per_gradient)
                return method(*arguments)
            finally:
                inside[0] = False

        return call

    vars(twin).update(
        gradient=watched(problem.gradient), gradient_step=watched(problem.gradient_step)
    )
    return twin


def _dtype_of(low: Any) -> Any:
    """Of the vectors of a problem in few bits."""
    # An operator that is not made of entries finds its dtype by a product that nobody counts.
    has_entries = not isinstance(getattr(low, "operator", low.hessian), LinearMap)
    return low.hessian.dtype if has_entries else low.rhs.dtype
