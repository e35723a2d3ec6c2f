"""Conjugate gradients from the start to the end: what to do when no steps are given.

They need the fewest products of all methods that are built on them, no bounds, and tell the bounds
to whoever solves for the next right-hand side (see `Coefficients`).

*Proof.* A gradient that is carried along drifts from that of x. No row ends on it: where the
carried one meets the tolerance the gradient is computed from x, and a row that does not meet it
then starts anew from there. To put the true gradient in the place of the carried one any earlier
costs up to two fifths more steps on ill-conditioned systems: the directions suit the carried one.

*Many right-hand sides.* Each row of a batch has its own α and β and shares the products. Where
counted cost says so, the Gram matrix of A is formed and factored in few bits; corrections by it are
refined with gradients by A itself. If they do not converge as they should, conjugate gradients go
on from the best iterate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import copy_of, epsilon, row_dots, take
from stepfold._typing import FloatArray
from stepfold.planner import shortest_good_period
from stepfold.problems import LeastSquares, QuadraticProblem
from stepfold.result import Status
from stepfold.run.diagnosis import unreachable_part
from stepfold.run.ledger import Seen
from stepfold.run.loop import Loop, Policy
from stepfold.run.policies.coefficients import Coefficients
from stepfold.run.policies.conjugate import ConjugateGradients, gradient_from_residual
from stepfold.run.policies.gram import FactoredGram, gram_pays
from stepfold.schedules import Schedule, chebyshev_steps
from stepfold.spectrum import SpectralBounds

# The condition number of AᵀA, as such a power, beyond which the residual is carried instead.
MOST_CARRIED = -1 / 2
# Steps after which the spectrum is known well enough to tell many steps from few.
FIRST_ESTIMATE = 8
# A condition number of AᵀA that hardly any matrix is below.
LEAST_CONDITION = 4.0
# Steps after which there is a look in any case, and after twice as many as at the last one.
LOOK_AT = 64
# Steps between looks where only rounding may be left.
STEPS_AT_REST = 8
# Growth over the smallest gradient of a run from which it goes back to that: so it is where the
# right-hand side is not in the range of a singular Hessian, and α has nothing to hold on to.
RUN_AWAY = 1e7
# Fall of the smallest gradient from look to look above which it is asked whether it can fall.
HALVED = 0.5
# Share of the smallest gradient from which a part that no x reduces is taken out of it.
UNREACHABLE = 1e-3
# Factor by which a refinement must shrink every gradient; else conjugate gradients go on.
REFINES = 0.25
# Steps of a schedule for the next right-hand side where no lower bound is known.
PERIOD_WITHOUT_LOWER = 64


class Automatic(Policy):
    """Conjugate gradients, and refinement by a factored Gram matrix where that is less work.

    Args:
        rtol: The reduction of the gradient that is asked for; what the schedule for the next
            right-hand side is made for.
    """

    def __init__(self, rtol: float) -> None:
        self._rtol = min(max(rtol, 1e-15), 0.1)
        self._longest: Coefficients | None = None
        self._gram: FactoredGram | None = None
        self._considered_gram = False
        self._true_residual: Any = None
        self._claims = np.zeros(1, dtype=bool)
        self._unreachable: list[Any] = []
        self._best_at_look = math.inf
        self._floor = np.zeros(1)
        self._look_at, self._rested_at = LOOK_AT, 0
        self._schedule: Schedule | None = None

    @property
    def indefinite(self) -> float | None:
        # A run may end before its first step.
        return None if self._longest is None else self._conjugate.indefinite

    @property
    def schedule(self) -> Schedule:
        if self._schedule is None:
            bounds = self.bounds
            if bounds is None:
                self._schedule = Schedule(np.ones(1), "conjugate gradients", "none")
            else:
                if bounds.lower > 0:
                    period = shortest_good_period(bounds, self._rtol)
                    if period > PERIOD_WITHOUT_LOWER:
                        # The order of a power of two costs nothing to find.
                        period = 2 ** round(math.log2(period))
                    self._schedule = chebyshev_steps(bounds, period)
                else:
                    self._schedule = chebyshev_steps(bounds, PERIOD_WITHOUT_LOWER, kind=4)
        return self._schedule

    @property
    def bounds(self) -> SpectralBounds | None:
        found = self._longest.bounds() if self._longest is not None else None
        return self._gram.bounds() if found is None and self._gram is not None else found

    def start(self, loop: Loop, x: Any, seen: Seen) -> None:
        problem = loop.problem
        # Without a kernel the two products of a sweep are made one by one in any case.
        carries_residual = isinstance(problem, LeastSquares) and problem.kernel is None
        self._claims, self._floor = np.zeros(seen.sizes.size, dtype=bool), seen.floor
        self._conjugate = ConjugateGradients(x, seen, carries_residual=carries_residual)
        if isinstance(problem, LeastSquares):
            # Of many right-hand sides even the steps that tell the condition number cost much.
            self._choose_gram(problem, LEAST_CONDITION)

    def _begin(self, x: Any, seen: Seen, residual: Any = None) -> None:
        self._floor = seen.floor
        self._conjugate.begin(x, seen, residual, self._unreachable)

    def cost(self, loop: Loop) -> tuple[int, float]:
        # One step and a look at its end.
        return 1, 2 * loop.problem.products_per_gradient

    def period(self, loop: Loop) -> tuple[Any, Any]:
        if self._gram is not None:
            return self._refine(loop, self._gram)
        problem, ledger, steps = loop.problem, loop.ledger, self._conjugate
        per_step = problem.products_per_gradient
        while True:
            moved = self._advance(loop)
            if self._longest is None or steps.coefficients.size > self._longest.size:
                self._longest = steps.coefficients
            if not moved:
                break
            self._claims = self._may_be_met(loop)
            if self._claims.any():
                break
            if not np.isfinite(steps.sizes).all():
                break
            if self._runs_away(steps.sizes):
                break
            if self._rests and ledger.num_steps >= self._rested_at + STEPS_AT_REST:
                break  # only a look can tell what is rounding
            if ledger.num_steps >= self._look_at:
                break
            if loop.measure.loses_track(ledger.active, steps.gain[loop.positions]):
                break
            if self._estimate(problem):
                break
            if not ledger.fits(1, 2 * per_step):
                break
            ledger.note(steps.sizes[loop.positions])
        # A copy: the ledger may keep it, and steps are taken in place.
        return copy_of(steps.x), self._true_gradient(loop, problem)

    @property
    def _rests(self) -> bool:
        return bool((self._conjugate.sizes <= self._floor).any())

    def _advance(self, loop: Loop) -> bool:
        """One step, or a block of them; false if there is no direction to go."""
        target = None if loop.is_watched else loop.measure.carried_target
        if target is not None:
            ledger = loop.ledger
            num_steps = min(
                STEPS_AT_REST if self._rests else LOOK_AT,
                self._look_at - ledger.num_steps,
            )
            per_step = loop.problem.products_per_gradient
            while num_steps > 1 and not ledger.fits(num_steps, (num_steps + 1) * per_step):
                num_steps //= 2
            if not self._rests:
                target = max(target, float(self._floor[0]))
            moved = self._conjugate.block(loop, num_steps, target)
            if moved is not None:
                return moved
        return self._conjugate.step(loop)

    def _may_be_met(self, loop: Loop) -> NDArray[np.bool_]:
        """Which of the swept rows meet their criteria by what is carried along."""
        rows = loop.positions
        x = self._conjugate.x
        if len(rows) < loop.swept.size:
            x = take(x, rows)
        claims = np.zeros(loop.swept.size, dtype=bool)
        claims[rows] = loop.measure.may_be_met(
            loop.ledger.active, x, self._conjugate.sizes[rows], self._conjugate.gain[rows]
        )
        return claims

    def _true_gradient(self, loop: Loop, problem: QuadraticProblem[Any]) -> Any:
        """The gradient of x in the usual inner product, computed from x."""
        inner = problem.euclidean
        loop.ledger.num_products += inner.products_per_gradient
        x = self._conjugate.x
        if self._conjugate.carries_residual and isinstance(inner, LeastSquares):
            self._true_residual = inner.residual(x)
            return gradient_from_residual(inner, self._true_residual, x)
        return inner.gradient(x)

    def judge(self, loop: Loop, x: Any, seen: Seen) -> None:
        ledger = loop.ledger
        self._look_at = max(2 * ledger.num_steps, LOOK_AT)
        self._rested_at = ledger.num_steps
        self._floor = seen.floor
        steps = self._conjugate
        steps.gain = np.zeros(seen.sizes.size)
        if self._gram is not None:
            self._judge_refinement(loop, x, seen)
            return
        if steps.saved is not None and self._runs_away(seen.sizes):
            best = steps.saved[0]
            self._begin(best, loop.look(best))
            return
        is_fresh = not steps.coefficients.size
        if not steps.stuck:
            # Rows that have ended need no restart; other looks are for the record only.
            if self._unreachable and self._claims.any():
                ledger.attain(self._least(seen))
            self._restart(self._claims & np.isin(loop.swept, ledger.active), seen)
            self._test_attainable(loop)
            return
        self._begin(steps.x, seen, self._true_residual)
        if self.indefinite is not None:
            ledger.end(Status.DIVERGED)
        elif is_fresh:
            # H maps the gradient itself to 0, to rounding: no x has a smaller one.
            ledger.attain(seen.sizes[loop.positions])
        else:
            self._test_attainable(loop)

    def _least(self, seen: Seen) -> FloatArray:
        """The norm of the parts of a gradient that no x reduces."""
        parts = [float(row_dots(vector, seen.dual)[0]) for vector in self._unreachable]
        return np.array([math.hypot(*parts)])

    def _test_attainable(self, loop: Loop) -> None:
        """Find out whether the gradient that is left has a part that no x reduces."""
        ledger, inner = loop.ledger, loop.problem.euclidean
        saved = self._conjugate.saved
        if (
            self._conjugate.x.ndim > 1
            or inner is not loop.problem
            or isinstance(inner, LeastSquares)
        ):
            return
        if not ledger.active.size:
            return
        best, size = ledger.best, float(ledger.best_sizes[0])
        if saved is not None and saved[1][0] < size:
            best, size = saved[0], float(saved[1][0])
        before, self._best_at_look = self._best_at_look, size
        if size < HALVED * before:
            return  # it goes on
        seen = loop.look(best)
        found = unreachable_part(inner, seen.dual, loop.measure.upper)
        ledger.num_products += found.num_products
        if found.size > UNREACHABLE * size:
            # The rest is a problem that has a solution: they go on with that from the best iterate.
            self._unreachable.append(found.vector)
            self._begin(best, seen)

    def _restart(self, rows: NDArray[np.bool_], seen: Seen) -> None:
        """Let rows start anew, from the gradient that was computed from their x."""
        if rows.all():
            self._begin(self._conjugate.x, seen, self._true_residual)
        elif rows.any():
            self._conjugate.restart(np.flatnonzero(rows), seen, self._true_residual)

    def _runs_away(self, sizes: FloatArray) -> bool:
        saved = self._conjugate.saved
        return saved is not None and bool((sizes > RUN_AWAY * saved[1]).all())

    def finish(self, loop: Loop) -> None:
        """Look at the iterate that the carried gradients say was the best, if a product is left."""
        ledger, saved = loop.ledger, self._conjugate.saved
        if saved is None or not ledger.fits(0, loop.problem.products_per_gradient):
            return
        rows = loop.positions
        if (saved[1][rows] < ledger.best_sizes[ledger.active]).any():
            loop.look(saved[0])

    def take(self, positions: Sequence[int]) -> bool:
        self._conjugate.take(positions)
        self._claims, self._floor = self._claims[positions], self._floor[positions]
        if self._true_residual is not None:
            self._true_residual = take(self._true_residual, positions)
        return True

    def _estimate(self, problem: QuadraticProblem[Any]) -> bool:
        """Look at the spectrum so far; whether steps are made in another way from now on."""
        found, steps = self._conjugate.coefficients, self._conjugate
        if not isinstance(problem, LeastSquares) or not found.is_due():
            return False
        condition = found.condition()
        if not steps.carries_residual and condition > epsilon(steps.x) ** MOST_CARRIED:
            steps.carries_residual = True
            self._claims = np.ones_like(steps.sizes, dtype=bool)
            return True
        if not self._considered_gram and found.size >= FIRST_ESTIMATE:
            self._considered_gram = True
            return self._choose_gram(problem, condition)
        return False

    def _choose_gram(self, problem: LeastSquares[Any], condition: float) -> bool:
        if gram_pays(problem, self._conjugate.x, condition, self._rtol):
            self._considered_gram = True
            self._gram = FactoredGram.of(problem)
        return self._gram is not None

    def _refine(self, loop: Loop, gram: FactoredGram) -> tuple[Any, Any]:
        problem: Any = loop.problem
        steps = self._conjugate
        x = steps.x + gram.correction(problem, steps.residual(loop), steps.dual)
        loop.stepped(x, gram.num_products)
        self._true_residual = problem.residual(x)
        loop.ledger.num_products += 2
        return x, gradient_from_residual(problem, self._true_residual, x)

    def _judge_refinement(self, loop: Loop, x: Any, seen: Seen) -> None:
        ledger = loop.ledger
        factors = ledger.factors[ledger.active]
        resting = ledger.last[ledger.active] <= ledger.floor[ledger.active]
        converges = bool(((factors <= REFINES) | resting).all()) if factors.size else True
        if ledger.num_steps and not converges:
            self._gram = None
            ledger.restart()
            x = loop.best()
            seen = loop.look(x)
            self._true_residual = None
        self._begin(x, seen, self._true_residual)

    def notes(self, loop: Loop) -> list[str]:
        if self.indefinite is not None:
            quotient = self.indefinite * loop.units.hessian
            squares = "pᵀp" if loop.whole.euclidean is loop.whole else "pᵀMp"
            return [
                f"The Hessian is indefinite: a direction p has pᵀHp/{squares} = {quotient:.3g}, so "
                "there is no minimum. Pose the system as `LeastSquares(matrix, rhs)`, or use "
                "`scipy.sparse.linalg.minres`."
            ]
        return []
