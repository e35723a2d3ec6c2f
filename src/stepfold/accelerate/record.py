"""What a run has seen: the best iterate, residual norms, evaluations, and how it ended."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold.problems.fixed_point import FixedPoint, epsilon_of
from stepfold.result import History, Result, Status
from stepfold.schedules import Schedule
from stepfold.solve.norms import norms

# Evaluations without a better iterate after which a run is given up: at rounding, and above it.
PATIENCE_AT_ROUNDING, PATIENCE = 24, 1000
ROUNDING = 100


@dataclass(frozen=True)
class Limits:
    """Tolerances and budgets of a run."""

    rtol: float
    atol: float
    max_evaluations: int
    max_seconds: float


class Record:
    """Measurements of one run, and its best iterate."""

    def __init__(self, problem: FixedPoint[Any], x: Any, residual: Any, limits: Limits) -> None:
        self._problem = problem
        self._before = problem.num_evaluations
        self.begun = time.perf_counter()
        self.num_steps = 0
        self._spent = 0
        self.best, self.best_residual = x, residual
        self.first = self.last = self.best_norm = float(norms(residual.reshape(-1))[0])
        self._best_at = 0
        self._rows: list[tuple[int, float, int, float]] = []
        self.tolerance = max(limits.rtol * self.first, limits.atol)
        self.status: Status | None = None
        self.reason = ""
        self.notes: list[str] = []
        self.schedule = Schedule(np.ones(1), "plain")
        self._answer: Any = None

    def count_from(self, num_evaluations: int) -> None:
        """Count evaluations from when the problem had counted ``num_evaluations``."""
        self._before = num_evaluations
        self._best_at = self.num_evaluations
        self.check()

    @property
    def num_evaluations(self) -> int:
        """Evaluations of the map in this run."""
        return self._problem.num_evaluations - self._before

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
        seconds = time.perf_counter() - self.begun
        self._rows.append((self.num_steps, self.last, self.num_evaluations, seconds))

    def noise(self, x: Any) -> float:
        """What rounding contributes to a residual norm at ``x``."""
        return epsilon_of(x) * float(norms(x.reshape(-1))[0])

    def is_at_rounding(self) -> bool:
        """Whether the best residual is no more than rounding."""
        return self.best_norm <= ROUNDING * self.noise(self.best)

    def is_stalled(self) -> bool:
        """Whether the run has gone long enough without a better iterate."""
        patience = PATIENCE_AT_ROUNDING if self.is_at_rounding() else PATIENCE
        return self.num_evaluations - self._best_at >= patience

    def end(self, status: Status, reason: str, x: Any = None) -> None:
        """End the run; with ``x`` in place of the best iterate if it is given."""
        self.status, self.reason, self._answer = status, reason, x
        self.check()

    def result(self) -> Result[Any]:
        """The record of the run."""
        assert self.status is not None  # noqa: S101
        steps, sizes, evaluations, seconds = zip(*self._rows, strict=True)
        history = History(
            np.array(steps), np.array(sizes), np.array(evaluations), np.array(seconds)
        )
        return Result(
            self.best if self._answer is None else self._answer,
            self.status,
            self.num_steps,
            history,
            self.schedule,
            notes=tuple(self.notes),
            reason=self.reason,
        )
