"""What a run has seen: the best iterate, residual norms, evaluations, and how it ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold._checks import check_count, check_nonnegative
from stepfold.problems.fixed_point import FixedPoint, epsilon_of
from stepfold.result import History, Result, Status
from stepfold.schedules import Schedule
from stepfold.solve.norms import norms
from stepfold.solve.thinned import Thinned

# Evaluations without a better iterate after which a run is given up: at rounding, and above it.
PATIENCE_AT_ROUNDING, PATIENCE = 24, 1000
ROUNDING = 100


@dataclass(frozen=True)
class Limits:
    """Tolerances and budgets of a run.

    Raises:
        TypeError: If one of them is no number, or ``max_evaluations`` no integer.
        ValueError: If one of them is out of range.
    """

    rtol: float
    atol: float
    max_evaluations: int
    max_seconds: float = math.inf

    def __post_init__(self) -> None:
        for name in ("rtol", "atol"):
            check_nonnegative(name, getattr(self, name))
        check_nonnegative("max_seconds", self.max_seconds, allow_infinite=True)
        # Two are spent at the start, to see whether the map is repeatable.
        check_count("max_evaluations", self.max_evaluations, minimum=2)


def interrupted_at(x: Any) -> Result[Any]:
    """The record of a run that was interrupted before the residual at its start was known."""
    counts, sizes = np.zeros(0, dtype=np.int64), np.zeros(0)
    history = History(counts, sizes, counts, sizes)
    return Result(x, Status.INTERRUPTED, 0, history, Schedule(np.ones(1), "plain"))


class Record:
    """Measurements of one run, and its best iterate.

    Args:
        problem: Whose evaluations are counted, from ``before`` on.
        x: Start.
        residual: Its residual.
        limits: Tolerances and budgets.
        before: Evaluations that the problem had counted before the run.
    """

    def __init__(
        self, problem: FixedPoint[Any], x: Any, residual: Any, limits: Limits, before: int
    ) -> None:
        self._problem, self._before, self._limits = problem, before, limits
        self._begun = time.perf_counter()
        self.num_steps = 0
        self.best, self.best_residual = x, residual
        self.first = self.last = self.best_norm = float(norms(residual.reshape(-1))[0])
        self._best_at = self.num_evaluations
        self._rows: Thinned[tuple[int, float, int, float]] = Thinned()
        self.tolerance = max(limits.rtol * self.first, limits.atol)
        self.status: Status | None = None
        self.schedule = Schedule(np.ones(1), "plain")
        self._reason = ""
        self._answer: Any = None
        self.check()

    @property
    def num_evaluations(self) -> int:
        """Evaluations of the map in this run."""
        return self._problem.num_evaluations - self._before

    @property
    def room(self) -> int:
        """Evaluations left."""
        return self._limits.max_evaluations - self.num_evaluations

    def see(self, x: Any, residual: Any) -> float:
        """Take in an iterate; its residual norm."""
        size = float(norms(residual.reshape(-1))[0])
        self.num_steps += 1
        self.last = size
        if size < self.best_norm:
            if size < (1 - 1e-6) * self.best_norm:
                self._best_at = self.num_evaluations
            self.best, self.best_residual, self.best_norm = x, residual, size
        return size

    def check(self) -> None:
        """Write down where the run is."""
        seconds = time.perf_counter() - self._begun
        self._rows.append((self.num_steps, self.last, self.num_evaluations, seconds))

    def noise(self, x: Any) -> float:
        """What rounding contributes to a residual norm at ``x``."""
        return epsilon_of(x) * float(norms(x.reshape(-1))[0])

    def is_over(self, x: Any, stop: Callable[[Any], bool] | None) -> bool:
        """Whether there is a status, at the iterate ``x`` whose residual is the last one."""
        if self.status is not None:
            return True
        if self.last <= self.tolerance:
            self._finish(Status.CONVERGED, "The residual norm fell below the tolerance.", x)
        elif stop is not None and _says(stop, x):
            self._finish(Status.CONVERGED, "`stop` said that the iterate is good enough.", x)
        elif self.room <= 0:
            self.end(
                Status.BUDGET, "The budget was spent; raise `max_evaluations`, or loosen `rtol`."
            )
        elif time.perf_counter() - self._begun >= self._limits.max_seconds:
            self.end(Status.BUDGET, "The time was spent; raise `max_seconds`, or loosen `rtol`.")
        elif self._is_stalled():
            self.end(Status.STALLED, self._why_stalled())
        return self.status is not None

    def end(self, status: Status, reason: str) -> None:
        """End the run with the best iterate."""
        self.status, self._reason = status, reason

    def interrupt(self) -> None:
        """End the run because somebody asked for it."""
        self.check()
        self.end(
            Status.INTERRUPTED, "The run was interrupted; the best iterate so far is returned."
        )

    def _finish(self, status: Status, reason: str, x: Any) -> None:
        self._answer = x
        self.end(status, reason)

    def _is_at_rounding(self) -> bool:
        return self.best_norm <= ROUNDING * self.noise(self.best)

    def _is_stalled(self) -> bool:
        patience = PATIENCE_AT_ROUNDING if self._is_at_rounding() else PATIENCE
        return self.num_evaluations - self._best_at >= patience

    def _why_stalled(self) -> str:
        if self._is_at_rounding():
            return (
                "The residual norm stopped falling at the precision of the arithmetic; loosen "
                "`rtol`, or use a wider dtype."
            )
        return (
            f"The residual norm has not fallen for {PATIENCE} evaluations, far above rounding: the "
            "map has no fixed point, or is no contraction near the iterate, or is stochastic. "
            "Start elsewhere, or damp the map."
        )

    def result(self, notes: Sequence[str] = ()) -> Result[Any]:
        """The record of the run, with sentences on it."""
        assert self.status is not None  # noqa: S101
        steps, sizes, evaluations, seconds = zip(*self._rows.entries(), strict=True)
        x = self.best if self._answer is None else self._answer
        return Result(
            np.asarray(x) if isinstance(x, np.generic) else x,
            self.status,
            self.num_steps,
            History(np.array(steps), np.array(sizes), np.array(evaluations), np.array(seconds)),
            self.schedule,
            notes=tuple(notes),
            reason=self._reason,
        )


def _says(stop: Callable[[Any], bool], x: Any) -> bool:
    answer: Any = stop(x)
    if math.prod(getattr(answer, "shape", ())) != 1:
        raise ValueError(
            f"`stop` must return one truth value, got shape {tuple(answer.shape)}; "
            "ask for all of them, as by `.all()`"
        )
    return bool(answer)
