"""Runs on maps: a step evaluates f at its end, and the residual f(x) − x there is the look.

What a map can attain is not known from its data, as it is for a matrix. It is measured where a run
makes no progress: a second difference of f over a distance of a few roundings of x. What f has of
slope drops out of it, what it has of curvature is far below, and of independent errors e the
variance is 6e².
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import epsilon, norms, put_rows, reshaped, take
from stepfold._checks import check_callable, check_count, check_nonnegative
from stepfold._typing import FloatArray
from stepfold.problems.fixed_point import (
    EVALUATIONS_AT_START,
    FixedPoint,
    bare_residual,
    first_residual,
    start_of,
)
from stepfold.result import Result, Status
from stepfold.run.ledger import Ledger, Seen, Terms
from stepfold.run.loop import Loop, Policy
from stepfold.run.measures import Measure, Places

# Residuals of so many roundings of the iterate: x equals f(x) in its dtype.
ROUNDINGS = 4.0
# Evaluations without a better iterate, and share of all evaluations before it, after which it is
# measured what the map can attain. Each time that it has not been reached, the wait is doubled.
PATIENCE = 24
# A residual of so many times the map's noise has come down to it.
AT_NOISE = 10.0
# Rounding is no more than this power of the machine's epsilon, relative to the iterate.
MOST_ROUNDING = 0.5
# By how much x is moved to see rounding, in units of it.
NUDGE = 16.0
# Evaluations without a better iterate that are worth telling.
LONG = 200


class MapResidual(Measure):
    """‖f(x) − x‖ ≤ max(rtol·‖f(x₀) − x₀‖, atol), or rounding, or what `stop` says.

    Args:
        rtol: See above. A start with ‖f(x₀) − x₀‖ ≤ ``rtol``·‖x₀‖ meets it too.
        atol: See above.
        stop: Asked about iterates where `asks` is set.
        is_batch: Whether the first axis counts rows.
        is_stochastic: Whether two evaluations at the start differed.
        exploded: What to say of residuals that grow beyond all bounds.
    """

    def __init__(
        self,
        rtol: float,
        atol: float,
        stop: Callable[[Any], bool] | None,
        *,
        is_batch: bool,
        is_stochastic: bool,
        exploded: str,
    ) -> None:
        super().__init__()
        self._rtol, self._atol, self._stop = rtol, atol, stop
        self._is_batch, self.is_stochastic = is_batch, is_stochastic
        self._exploded, self._stopped = exploded, False
        self._broken_at: int | None = None
        self.num_evaluations = EVALUATIONS_AT_START
        """Evaluations up to the next look."""
        self._tolerance: FloatArray | None = None
        self.asks = True
        """Whether the next iterate is one that `stop` is asked about."""

    def sizes(self, array: Any) -> FloatArray:
        """Norms of the rows."""
        return norms(reshaped(array, (array.shape[0], -1) if self._is_batch else (-1,)))

    def look(self, problem: FixedPoint[Any], places: Places, x: Any, known: Any = None) -> Seen:
        del places  # rows are not cut out: f is asked about all of them
        residual = bare_residual(problem, x) if known is None else known
        sizes = self.sizes(residual)
        if self._tolerance is None:
            asked = np.maximum(self._rtol * sizes, self._atol)
            there = sizes <= self._rtol * self.sizes(x)
            self._tolerance = np.where(there, np.maximum(sizes, asked), asked)
        if not np.isfinite(sizes).all():
            self._broken_at = self.num_evaluations
        met = sizes <= self._tolerance
        if self._rtol > 0:
            met |= sizes <= ROUNDINGS * epsilon(x) * self.sizes(x)
        if self.asks and self._stop is not None and not met.all() and _says(self._stop, x):
            self._stopped, met = True, np.ones_like(met)
        return Seen(sizes, met, np.zeros(sizes.size), residual)

    def reason(self, status: Status | None) -> str | None:
        if status is Status.CONVERGED:
            if self._stopped:
                return "`stop` said that the iterate is good enough."
            return "The residual norm fell below the tolerance."
        if status is Status.STALLED and self.is_stochastic:
            return (
                "The residual norm has come down to the noise of the map, which is stochastic; fix "
                "the map's random numbers, or loosen `rtol`."
            )
        if status is None:
            return None
        return {
            Status.BUDGET: "The budget was spent; raise `max_products` or `max_seconds`, or loosen "
            "`rtol`.",
            Status.STALLED: "The residual norm stopped falling at the precision of the arithmetic; "
            "loosen `rtol`, or use a wider dtype.",
            Status.DIVERGED: self._exploded
            if self._broken_at is None
            else f"Evaluation {self._broken_at} of the map returned NaN or infinity; the best "
            "iterate so far is returned. Start nearer to the fixed point, or keep the argument in "
            "f's domain.",
        }.get(status)

    def closing_notes(self, ledger: Ledger) -> list[str]:
        waited, at_best = ledger.waited, ledger.num_products - ledger.waited
        if ledger.status is not Status.BUDGET or not (waited > np.maximum(LONG, at_best)).any():
            return self.notes
        return [
            *self.notes,
            f"No evaluation of the last {int(waited.max())} came closer than the one before them: "
            "the map may have no fixed point, or be no contraction near the iterate. Start "
            "elsewhere, or damp the map.",
        ]


def _says(stop: Callable[[Any], bool], x: Any) -> bool:
    answer: Any = stop(x)
    if math.prod(getattr(answer, "shape", ())) != 1:
        raise ValueError(
            f"`stop` must return one truth value, got shape {tuple(answer.shape)}; "
            "ask for all of them, as by `.all()`"
        )
    return bool(answer)


class MapPolicy(Policy):
    """Steps on a map, one evaluation each; rows that have ended rest where they ended."""

    def __init__(self) -> None:
        self._x: Any = None
        self._residual: Any = None
        self._patience = PATIENCE

    @abstractmethod
    def move(self, loop: Loop) -> Any:
        """The next iterate."""

    def start(self, loop: Loop, x: Any, seen: Seen) -> None:
        self._x, self._residual = x, seen.known

    def cost(self, loop: Loop) -> tuple[int, float]:
        return 1, 1

    def period(self, loop: Loop) -> tuple[Any, Any]:
        ledger, x = loop.ledger, self.move(loop)
        resting = np.setdiff1d(np.arange(len(ledger.statuses)), ledger.active)
        if resting.size:
            x = put_rows(x, resting, take(ledger.best, resting.tolist()))
        residual = bare_residual(loop.problem, x)
        if resting.size:
            residual = put_rows(residual, resting, 0 * take(x, resting.tolist()))
        loop.stepped(x, 1)
        measure_of(loop).num_evaluations = ledger.num_products
        return x, residual

    def judge(self, loop: Loop, x: Any, seen: Seen) -> None:
        self._x, self._residual = x, seen.known

    def explain_wait(self, loop: Loop, x: Any, seen: Seen) -> None:
        """End the rows whose best iterates are as good as the map allows, if it looks like that."""
        ledger, measure = loop.ledger, measure_of(loop)
        rows, best = ledger.active, ledger.best
        waited = ledger.waited[rows]
        late = waited >= np.maximum(self._patience, ledger.num_products - waited)
        if not measure.is_stochastic:
            late &= near_rounding(loop)[rows]
        if not late.any() or not ledger.fits(0, 3):
            return
        nudge = NUDGE * epsilon(best)
        above, below = best * (1 + nudge), best * (1 - nudge)
        residuals = [bare_residual(loop.problem, point) for point in (above, below, best)]
        ledger.num_products += 3
        second = residuals[0] + residuals[1] - 2 * residuals[2] + ((above - best) + (below - best))
        noise = measure.sizes(second) / math.sqrt(6)
        # The ledger ends what is within twice the floor.
        ledger.attain(np.where(late, AT_NOISE / 2 * noise[rows], 0.0))
        self._patience = 2 * max(int(waited.max()), PATIENCE)


def measure_of(loop: Loop) -> MapResidual:
    """The measure of a run on a map."""
    assert isinstance(loop.measure, MapResidual)  # noqa: S101
    return loop.measure


def near_rounding(loop: Loop) -> NDArray[np.bool_]:
    """Whether the best residuals are so small that they might be rounding."""
    best = loop.ledger.best
    most = epsilon(best) ** MOST_ROUNDING * measure_of(loop).sizes(best)
    near: NDArray[np.bool_] = loop.ledger.best_sizes <= most
    return near


def run_map(
    problem: FixedPoint[Any],
    x0: Any,
    policy: MapPolicy,
    terms: Terms,
    *,
    stop: Callable[[Any], bool] | None = None,
    batch: bool = False,
    differentiable: bool = False,
    exploded: str,
) -> Result[Any]:
    """Run a policy on a map from ``x0`` to its end.

    Args:
        problem: The map.
        x0: Start.
        policy: What a step is.
        terms: What is asked for; two evaluations must be allowed at least.
        stop: Asked whether an iterate is good enough.
        batch: Whether the first axis counts problems.
        differentiable: Whether somebody sees to gradients.
        exploded: What to say of residuals that grow beyond all bounds.
    """
    check_callable("stop", stop)
    budgets, rtol = terms.budgets, check_nonnegative("rtol", terms.rtol)
    if budgets.max_products is not None:
        # That many are spent at the start, to see whether the map is repeatable.
        check_count("max_products", budgets.max_products, minimum=EVALUATIONS_AT_START)
    x: Any = start_of(x0)
    if batch and x.ndim == 0:
        raise ValueError("`batch=True` needs an `x0` with an axis of rows, got a single number")
    ledger = Ledger(x, x.shape[0] if batch else None, budgets, clock=problem.clock)
    residual, is_stochastic = None, False
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        try:
            residual, is_stochastic = first_residual(problem, x, differentiable=differentiable)
        except KeyboardInterrupt:
            ledger.end(Status.INTERRUPTED)
    ledger.num_products = EVALUATIONS_AT_START
    measure = MapResidual(
        rtol, terms.atol, stop, is_batch=batch, is_stochastic=is_stochastic, exploded=exploded
    )
    loop = Loop(problem, measure, policy, ledger, terms.callback)
    if residual is not None:
        loop.go(x, lambda: residual)
    if isinstance(ledger.best, np.generic):
        ledger.best = np.asarray(ledger.best)
    assert ledger.status is not None  # noqa: S101
    notes = policy.notes(loop) + measure.closing_notes(ledger)
    return loop.result(notes=tuple(notes), reason=measure.reason(ledger.status))
