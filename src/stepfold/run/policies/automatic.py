"""Conjugate gradients from the start to the end: what to do when no steps are given.

Each step moves along a direction p that is conjugate to those before, by ``α = gᴴM⁻¹g/pᴴHp``; with
``g ← g + αHp`` a step costs one product with the Hessian H, for least squares one sweep over A.
They need the fewest products of all methods that are built on them, no bounds, and tell the bounds
to whoever solves for the next right-hand side (see `Coefficients`).

*Proof.* A gradient that is carried along drifts from that of x. No row ends on it: where the
carried one meets the tolerance the gradient is computed from x, and a row that does not meet it
then starts anew from there. To put the true gradient in the place of the carried one any earlier
costs up to two fifths more steps on ill-conditioned systems: the directions suit the carried one.
For least squares of a large condition number the residual ``Ax − b`` is carried instead, and the
gradient computed from it in every step, as LSQR does in effect.

*Many right-hand sides.* Each row of a batch has its own α and β and shares the products. Where
counted cost says so, the Gram matrix of A is formed and factored in few bits; corrections by it are
refined with gradients by A itself. If they do not converge as they should, conjugate gradients go
on from the best iterate.

References:
    Hestenes and Stiefel, Methods of conjugate gradients for solving linear systems (J. Res. Nat.
    Bur. Standards 49, 1952), section 3 and, for least squares, section 10. Björck, Numerical
    Methods for Least Squares Problems (1996), section 7.4.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import (
    add_scaled,
    column,
    copy_of,
    epsilon,
    norms,
    put_rows,
    row_dots,
    scaled,
    take,
)
from stepfold._typing import FloatArray
from stepfold.operators import apply
from stepfold.planner import shortest_good_period
from stepfold.problems import LeastSquares, QuadraticProblem
from stepfold.result import Status
from stepfold.run.diagnosis import unreachable_part
from stepfold.run.ledger import Seen
from stepfold.run.loop import Loop, Policy
from stepfold.run.policies.coefficients import Coefficients
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
# A new iterate is kept only if its gradient is this much smaller than that of the best one.
BETTER = 0.9
# Factor by which a refinement must shrink every gradient; else conjugate gradients go on.
REFINES = 0.25
# Curvature beyond rounding is evidence; below so many roundings of the largest it is none.
FLAT = 10.0


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
        self._coefficients = self._longest = Coefficients(0.0)
        self._x: Any = None
        self._gram: FactoredGram | None = None
        self._considered_gram = False
        self._carries_residual = False
        self._residual: Any = None
        self._true_residual: Any = None
        self._claims = np.zeros(1, dtype=bool)
        self._indefinite: float | None = None
        self._unreachable: list[Any] = []
        self._best_at_look = math.inf
        self._largest = 0.0
        self._gain = self._floor = np.zeros(1)
        self._look_at, self._rested_at = LOOK_AT, 0
        self._saved: tuple[Any, FloatArray] | None = None
        self._schedule: Schedule | None = None

    @property
    def indefinite(self) -> float | None:
        return self._indefinite

    @property
    def schedule(self) -> Schedule:
        if self._schedule is None:
            bounds = self.bounds
            if bounds is None:
                self._schedule = Schedule(np.ones(1), "conjugate gradients", "none")
            else:
                if bounds.lower > 0:
                    period = shortest_good_period(bounds, self._rtol)
                    self._schedule = chebyshev_steps(bounds, period)
                else:
                    self._schedule = chebyshev_steps(bounds, PERIOD_WITHOUT_LOWER, kind=4)
        return self._schedule

    @property
    def bounds(self) -> SpectralBounds | None:
        found = self._longest.bounds()
        return self._gram.bounds() if found is None and self._gram is not None else found

    def start(self, loop: Loop, x: Any, seen: Seen) -> None:
        problem = loop.problem
        # Without a kernel the two products of a sweep are made one by one in any case.
        self._carries_residual = isinstance(problem, LeastSquares) and problem.kernel is None
        self._first, self._claims = seen.sizes, np.zeros(seen.sizes.size, dtype=bool)
        self._begin(copy_of(x), seen)
        if isinstance(problem, LeastSquares):
            # Of many right-hand sides even the steps that tell the condition number cost much.
            self._choose_gram(problem, LEAST_CONDITION)

    def _begin(self, x: Any, seen: Seen, residual: Any = None) -> None:
        """Forget all directions and go on from ``x``."""
        self._x = x
        # Copies, where the library lets steps be taken in place.
        self._dual = copy_of(seen.dual)
        for vector in self._unreachable:
            self._dual = self._dual - float(row_dots(vector, self._dual)[0]) * vector
        plain = seen.known is seen.dual
        self._primal = self._dual if plain else seen.known
        self._residual = None if residual is None else copy_of(residual)
        self._next: FloatArray | None = None
        self._lengths = np.zeros(seen.sizes.size)
        self._direction: Any = None
        self._sizes = seen.sizes
        self._square = np.ones(seen.sizes.size)
        self._floor = seen.floor
        self._gain = np.zeros(seen.sizes.size)
        self._coefficients = Coefficients(epsilon(x))

    def cost(self, loop: Loop) -> tuple[int, float]:
        # One step and a look at its end.
        return 1, 2 * loop.problem.products_per_gradient

    def period(self, loop: Loop) -> tuple[Any, Any]:
        if self._gram is not None:
            return self._refine(loop, self._gram)
        problem, ledger = loop.problem, loop.ledger
        per_step = problem.products_per_gradient
        while True:
            moved = self._step(loop, problem)
            if not moved:
                break
            self._claims = self._may_be_met(loop)
            if self._claims.any():
                break
            if not np.isfinite(self._sizes).all():
                break
            if self._saved is not None and (self._sizes > RUN_AWAY * self._saved[1]).all():
                break
            rests = bool((self._sizes <= self._floor).any())
            if rests and ledger.num_steps >= self._rested_at + STEPS_AT_REST:
                break  # only a look can tell what is rounding
            if ledger.num_steps >= self._look_at:
                break
            if loop.measure.loses_track(ledger.active, self._gain[loop.positions]):
                break
            if self._estimate(problem):
                break
            if not ledger.fits(1, 2 * per_step):
                break
            ledger.note(self._sizes[loop.positions])
        # A copy: the ledger may keep it, and steps are taken in place.
        return copy_of(self._x), self._true_gradient(loop, problem)

    def _may_be_met(self, loop: Loop) -> NDArray[np.bool_]:
        """Which of the swept rows meet their criteria by what is carried along."""
        rows = loop.positions
        x = self._x if len(rows) == loop.swept.size else take(self._x, rows)
        claims = np.zeros(loop.swept.size, dtype=bool)
        claims[rows] = loop.measure.may_be_met(
            loop.ledger.active, x, self._sizes[rows], self._gain[rows]
        )
        return claims

    def _true_gradient(self, loop: Loop, problem: QuadraticProblem[Any]) -> Any:
        """The gradient of x in the usual inner product, computed from x."""
        inner = problem.euclidean
        loop.ledger.num_products += inner.products_per_gradient
        if self._carries_residual and isinstance(inner, LeastSquares):
            self._true_residual = inner.residual(self._x)
            return self._from_residual(inner, self._true_residual)
        return inner.gradient(self._x)

    def _from_residual(self, problem: LeastSquares[Any], residual: Any) -> Any:
        gradient = problem.adjoint_product(residual)
        return gradient + problem.ridge * self._x if problem.ridge else gradient

    def judge(self, loop: Loop, x: Any, seen: Seen) -> None:
        del x
        ledger = loop.ledger
        self._look_at = max(2 * ledger.num_steps, LOOK_AT)
        self._rested_at = ledger.num_steps
        self._floor = seen.floor
        self._gain = np.zeros(seen.sizes.size)
        if self._gram is not None:
            self._judge_refinement(loop, seen)
            return
        if self._runs_away(seen):
            assert self._saved is not None  # noqa: S101
            self._begin(copy_of(self._saved[0]), loop.look(self._saved[0]))
            return
        is_stuck, is_fresh = self._direction is None, not self._coefficients.size
        if not is_stuck:
            # Rows that have ended need no restart; other looks are for the record only.
            if self._unreachable and self._claims.any():
                ledger.attain(self._least(seen))
            self._restart(self._claims & np.isin(loop.swept, ledger.active), seen)
            self._test_attainable(loop)
            return
        self._begin(self._x, seen, self._true_residual)
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
        if self._x.ndim > 1 or inner is not loop.problem or isinstance(inner, LeastSquares):
            return
        if not ledger.active.size:
            return
        best, size = ledger.best, float(ledger.best_sizes[0])
        if self._saved is not None and self._saved[1][0] < size:
            best, size = self._saved[0], float(self._saved[1][0])
        before, self._best_at_look = self._best_at_look, size
        if size < HALVED * before:
            return  # it goes on
        seen = loop.look(best)
        found = unreachable_part(inner, seen.dual, loop.measure.upper)
        ledger.num_products += found.num_products
        if found.size > UNREACHABLE * size:
            # The rest is a problem that has a solution: they go on with that from the best iterate.
            self._unreachable.append(found.vector)
            self._begin(copy_of(best), seen)

    def _restart(self, rows: NDArray[np.bool_], seen: Seen) -> None:
        """Let rows start anew, from the gradient that was computed from their x."""
        if rows.all():
            self._begin(self._x, seen, self._true_residual)
        elif rows.any():
            places = np.flatnonzero(rows)
            self._next = None
            self._primal = put_rows(self._primal, places, take(seen.known, places))
            self._dual = put_rows(self._dual, places, take(seen.dual, places))
            if self._carries_residual:
                truth = take(self._true_residual, places)
                self._residual = put_rows(self._residual, places, truth)
            self._sizes, self._gain = self._sizes.copy(), self._gain.copy()
            self._sizes[places], self._gain[places] = seen.sizes[places], 0.0
            self._square = np.where(rows, math.inf, self._square)  # the ratio is then 0
            self._coefficients.forget(places)

    def _runs_away(self, seen: Seen) -> bool:
        return self._saved is not None and bool((seen.sizes > RUN_AWAY * self._saved[1]).all())

    def _step(self, loop: Loop, problem: QuadraticProblem[Any]) -> bool:
        """One step of conjugate gradients on all rows; false if there is no direction to go."""
        inner = problem.euclidean
        plain = inner is problem
        square = row_dots(self._dual, self._primal) if self._next is None else self._next
        self._next = None
        if self._direction is None:
            direction, lengths = -self._primal, norms(self._primal) ** 2
        else:
            with np.errstate(invalid="ignore", divide="ignore"):
                ratio = np.where(self._square > 0, square / self._square, 0.0)
            self._coefficients.ratio(ratio)
            direction = scaled(self._direction, column(ratio, self._direction))
            direction = add_scaled(direction, -1.0, self._primal)
            # The gradient is orthogonal to the last direction.
            lengths = square + ratio**2 * self._lengths if plain else norms(direction) ** 2
        self._square, self._direction, self._lengths = square, direction, lengths
        image: Any
        if self._carries_residual and isinstance(inner, LeastSquares):
            forward = apply(inner.operator, direction)
            curvature = norms(forward) ** 2 + inner.ridge * lengths
            image = None
        else:
            forward = None
            image = inner.product(direction)
            curvature = row_dots(direction, image)
        with np.errstate(invalid="ignore", divide="ignore"):
            quotients = np.where(lengths > 0, curvature / lengths, 0.0)
        if np.isfinite(quotients).all():
            self._largest = max(self._largest, float(quotients.max(initial=0.0)))
            loop.measure.upper = max(loop.measure.upper, self._largest)
        flat = self._is_flat(direction, quotients)
        size = np.where(flat, 0.0, square / np.where(flat, 1.0, curvature))
        if flat[loop.positions].all():
            # Singular along all directions that are left: nothing can be gained by going on.
            loop.ledger.num_products += problem.products_per_gradient
            self._direction = None
            return False
        self._coefficients.step(size)
        step = column(size, direction)
        if forward is not None:
            residual = self._residual_of(loop, inner, self._x)
            self._residual = add_scaled(residual, step, forward)
        self._x = add_scaled(self._x, step, direction)
        if forward is not None:
            self._dual = self._from_residual(inner, self._residual)  # type: ignore[arg-type]
        else:
            self._dual = add_scaled(self._dual, step, image)
        self._primal = problem.precondition(self._dual)
        if plain:
            self._next = row_dots(self._dual, self._dual)
            sizes = np.sqrt(self._next)
        else:
            sizes = loop.measure.sizes_of(problem, self._dual, self._primal)
        self._gain = self._gain + size * square
        self._save(step, sizes)
        self._sizes = sizes
        loop.stepped(functools.partial(copy_of, self._x), problem.products_per_gradient)
        return True

    def _residual_of(self, loop: Loop, problem: Any, x: Any) -> Any:
        if self._residual is None:
            if self._is_zero(x):
                self._residual = -problem.rhs
            else:
                self._residual = problem.residual(x)
                loop.ledger.num_products += 1
        return self._residual

    @staticmethod
    def _is_zero(x: Any) -> bool:
        return not norms(x).any()

    def _is_flat(self, direction: Any, quotients: FloatArray) -> Any:
        """Rows along whose direction the Hessian is 0 to rounding, or that have nothing to do."""
        rounding = FLAT * math.sqrt(direction.shape[-1]) * epsilon(direction) * self._largest
        lowest = float(np.nanmin(quotients, initial=0.0))
        if lowest < -rounding:
            self._indefinite = lowest
        return ~(quotients > rounding * epsilon(direction)) | (quotients < -rounding)

    def _save(self, step: Any, sizes: FloatArray) -> None:
        """Keep the iterate before the step where its gradient was the smallest so far."""
        best = self._saved[1] if self._saved is not None else self._first
        worse = (sizes > self._sizes) & (self._sizes < BETTER * best)
        if not worse.any():
            return
        before = self._x - step * self._direction
        if worse.all() or before.ndim == 1:
            self._saved = before, self._sizes
            return
        rows = self._x if self._saved is None else self._saved[0]
        places = np.flatnonzero(worse)
        saved = put_rows(rows, places, take(before, places))
        self._saved = saved, np.where(worse, self._sizes, best)

    def finish(self, loop: Loop) -> None:
        """Look at the iterate that the carried gradients say was the best, if a product is left."""
        ledger, saved = loop.ledger, self._saved
        if saved is None or not ledger.fits(0, loop.problem.products_per_gradient):
            return
        rows = loop.positions
        if (saved[1][rows] < ledger.best_sizes[ledger.active]).any():
            loop.look(saved[0])

    def take(self, positions: Sequence[int]) -> bool:
        for name in ("_x", "_primal", "_dual", "_direction", "_residual", "_true_residual"):
            rows = getattr(self, name)
            setattr(self, name, None if rows is None else take(rows, positions))
        for name in ("_sizes", "_square", "_gain", "_floor", "_first", "_claims", "_lengths"):
            setattr(self, name, getattr(self, name)[positions])
        if self._saved is not None:
            self._saved = take(self._saved[0], positions), self._saved[1][positions]
        self._next = None if self._next is None else self._next[positions]
        self._coefficients.take(positions)
        return True

    def _estimate(self, problem: QuadraticProblem[Any]) -> bool:
        """Look at the spectrum so far; whether steps are made in another way from now on."""
        found = self._coefficients
        if found.size > self._longest.size or self._longest is found:
            self._longest = found
        if not found.is_due():
            return False
        condition = found.condition()
        if (
            not self._carries_residual
            and isinstance(problem, LeastSquares)
            and condition > epsilon(self._x) ** MOST_CARRIED
        ):
            self._carries_residual = True
            self._claims = np.ones_like(self._sizes, dtype=bool)
            return True
        if not self._considered_gram and found.size >= FIRST_ESTIMATE:
            self._considered_gram = True
            return isinstance(problem, LeastSquares) and self._choose_gram(problem, condition)
        return False

    def _choose_gram(self, problem: LeastSquares[Any], condition: float) -> bool:
        if gram_pays(problem, self._x, condition, self._rtol):
            self._considered_gram = True
            self._gram = FactoredGram.of(problem)
        return self._gram is not None

    def _refine(self, loop: Loop, gram: FactoredGram) -> tuple[Any, Any]:
        problem: Any = loop.problem
        residual = self._residual_of(loop, problem, self._x)
        self._x = self._x + gram.correction(problem, residual, self._dual)
        loop.stepped(self._x, gram.num_products)
        self._residual = problem.residual(self._x)
        loop.ledger.num_products += 2
        return self._x, self._from_residual(problem, self._residual)

    def _judge_refinement(self, loop: Loop, seen: Seen) -> None:
        ledger = loop.ledger
        factors = ledger.factors[ledger.active]
        resting = ledger.last[ledger.active] <= ledger.floor[ledger.active]
        converges = bool(((factors <= REFINES) | resting).all()) if factors.size else True
        if ledger.num_steps and not converges:
            self._gram = None
            ledger.restart()
            self._x = loop.best()
            seen = loop.look(self._x)
            self._residual = None
        self._begin(self._x, seen, self._residual)

    def notes(self, loop: Loop) -> list[str]:
        del loop
        if self.indefinite is not None:
            return [
                f"The Hessian is indefinite: a direction p has pᵀHp/pᵀp = {self.indefinite:.3g}, "
                "so there is no minimum. Pose the system as `LeastSquares(matrix, rhs)`, or use "
                "`scipy.sparse.linalg.minres`."
            ]
        return []
