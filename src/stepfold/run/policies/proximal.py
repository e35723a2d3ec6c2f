"""A penalty and no schedule: FISTA with restart, and conjugate gradients once a face has settled.

FISTA finds which entries rest at a kink of the penalty; from there on it is slow where the free
columns are nearly dependent. So whenever the support has stayed the same over the last steps,
conjugate gradients try the face, see `stepfold.run.policies.face`. If they make the proximal step
much smaller, the run goes on from there, with two steps of FISTA between one face and the next; if
not, FISTA goes on as if nothing had been, and such attempts may cost a tenth of the run.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepfold._arrays import computed, dtype_kind, put_rows, take, to_host
from stepfold.iterations import Fista
from stepfold.iterations.fista import Extrapolated
from stepfold.problems import Composite, QuadraticProblem
from stepfold.problems.penalties import SeparablePenalty
from stepfold.run.ledger import Seen
from stepfold.run.loop import Loop, Policy
from stepfold.run.measures import ProximalStep
from stepfold.run.policies.face import descend
from stepfold.schedules import Schedule
from stepfold.spectrum import SpectralBounds

# Steps between two looks, each of which costs about what a step does; and after a face was left.
STEPS_PER_LOOK, STEPS_BETWEEN_FACES = 10, 2
# Last steps over which the support must stay the same.
SETTLED = 3
# A face is worth it if it makes the proximal step this much smaller.
BETTER = 0.7
# Share of all gradients, and number of them besides, that attempts in vain may cost.
SHARE, AT_FIRST = 0.1, 20


class Proximal(Policy):
    """FISTA and faces.

    Args:
        composite: The objective.
        measure: What is looked at; it knows the steps, and when a face is good enough.
    """

    def __init__(self, composite: Composite[Any], measure: ProximalStep) -> None:
        self._composite, self._measure = composite, measure
        self._steps, self._upper = measure.steps, measure.upper
        self._fista: Fista[Any] = Fista(composite.penalty)
        self._state: Any = None
        self._before: Any = None
        self._attempt: tuple[Any, Any, Any, Any] | None = None
        self._lost = 0
        self._most = STEPS_PER_LOOK
        self._wins = self._stopped_short = False

    @property
    def schedule(self) -> Schedule:
        return Schedule(np.full(STEPS_PER_LOOK, self._composite.step), "constant")

    @property
    def bounds(self) -> SpectralBounds | None:
        return self._composite.own_bounds(None, 0)

    def start(self, loop: Loop, x: Any, seen: Seen) -> None:
        problem, penalty = loop.problem, self._composite.penalty
        self._has_faces = (
            isinstance(problem, QuadraticProblem)
            and isinstance(penalty, SeparablePenalty)
            and dtype_kind(x.dtype) != "c"
        )
        self._state = self._fista.init(problem, x)

    def cost(self, loop: Loop) -> tuple[int, float]:
        whole = loop.problem.products_per_gradient
        count = 1 if self._attempt else self._count
        return count, (3 if self._attempt else count + 1) * whole

    @property
    def _count(self) -> int:
        return STEPS_BETWEEN_FACES if self._wins else STEPS_PER_LOOK

    def period(self, loop: Loop) -> tuple[Any, Any]:
        if self._attempt is not None:
            x, gradient, _, targets = self._attempt
            most = max(self._most, x.shape[-1]) if self._wins else self._most
            penalty: Any = self._composite.penalty
            x, self._stopped_short = descend(
                loop, penalty, self._steps, x, gradient, targets / self._upper**0.5, most
            )
            return x, None
        fista, problem, count = self._fista, loop.problem, self._count
        for done in range(count):
            if done == count - SETTLED:
                self._before = self._state.x
            self._state = computed(fista.step(problem, self._state, self._steps))
            iterate = functools.partial(fista.iterate, self._state)
            loop.stepped(iterate, problem.products_per_gradient)
        return fista.iterate(self._state), None

    def judge(self, loop: Loop, x: Any, seen: Seen) -> None:
        if not loop.ledger.active.size:
            return
        spent = loop.ledger.num_products / loop.problem.products_per_gradient
        if self._attempt is not None:
            self._judge_face(loop, x, seen, spent)
            return
        self._spent_before = spent
        if self._has_faces and self._may_try(spent) and (self._wins or self._is_settled(loop, x)):
            targets = self._measure.targets(loop.swept, seen)
            self._attempt = x, seen.known, seen.sizes, targets

    def _judge_face(self, loop: Loop, x: Any, seen: Seen, spent: float) -> None:
        assert self._attempt is not None  # noqa: S101
        better = seen.sizes <= BETTER * self._attempt[2]
        self._attempt = None
        rows = better[loop.positions]
        self._wins = bool(2 * np.count_nonzero(rows) >= rows.size)
        if not self._wins:
            self._lost += spent - self._spent_before
            if self._stopped_short:
                self._most *= 2
        if better.any():
            self._restart(loop, x, seen.known, better)

    def _may_try(self, spent: float) -> bool:
        return self._lost + self._most <= SHARE * spent + AT_FIRST

    def _is_settled(self, loop: Loop, x: Any) -> bool:
        penalty: Any = self._composite.penalty
        same = (penalty.face(x).free == penalty.face(self._before).free).all(-1)
        rows = np.atleast_1d(to_host(same))[loop.positions]
        return bool(2 * np.count_nonzero(rows) >= rows.size)

    def _restart(self, loop: Loop, x: Any, gradient: Any, which: Any) -> None:
        """Let FISTA go on from ``x`` in some rows, at rest, with the step that is known there."""
        penalty, state = self._composite.penalty, self._state
        after = penalty.prox(x - self._steps * gradient, self._steps)
        weight = 0 * state.weight + (1 + 5**0.5) / 2
        if which.all():
            self._state = Extrapolated(after, after, weight)
        else:
            places = np.flatnonzero(which)
            self._state = Extrapolated(
                *(
                    put_rows(old, places, take(new, places))
                    for old, new in zip(state, (after, after, weight), strict=True)
                )
            )

    def take(self, positions: Sequence[int]) -> bool:
        self._state = self._fista.rows_of(self._state, positions)
        if self._before is not None:
            self._before = take(self._before, positions)
        if self._attempt is not None:
            x, gradient, sizes, targets = self._attempt
            rows = (take(x, positions), take(gradient, positions))
            self._attempt = (*rows, sizes[positions], targets[positions])
        return True
