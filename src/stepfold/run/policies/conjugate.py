"""The recurrences of conjugate gradients, for all rows of a batch at once.

Each step moves along a direction p that is conjugate to those before, by ``α = gᴴM⁻¹g/pᴴHp``; with
``g ← g + αHp`` a step costs one product with the Hessian H, for least squares one sweep over A. The
gradient is carried along, or for least squares of a large condition number the residual ``Ax − b``,
and the gradient computed from it in every step, as LSQR does in effect.

Where an inner product is a sum over processes there is one such sum a step, as Saad proposed and
Meurant made stable. After the product Hp it brings ``gᵀg``, ``gᵀHp``, ``pᵀHp`` and ``‖Hp‖²``
together, and with them ``gᵀg`` after the step, as ``gᵀg + 2α gᵀHp + α²‖Hp‖²``. That one serves for
the next direction only; the next sum brings the inner product itself for the step's length.

References:
    Hestenes and Stiefel, Methods of conjugate gradients for solving linear systems (J. Res. Nat.
    Bur. Standards 49, 1952), section 3 and, for least squares, section 10. Björck, Numerical
    Methods for Least Squares Problems (1996), section 7.4. Barrett et al., Templates for the
    Solution of Linear Systems (1994), "Fewer synchronization points", for one sum a step.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import (
    add_scaled,
    column,
    copy_of,
    dots_together,
    epsilon,
    norms,
    put_rows,
    row_dots,
    scaled,
    take,
    tiny,
)
from stepfold._typing import FloatArray
from stepfold.kernels import ConjugateBlock, Steps, conjugate_block
from stepfold.operators import apply
from stepfold.problems import LeastSquares
from stepfold.run.ledger import Seen
from stepfold.run.loop import Loop
from stepfold.run.measures import RESTING
from stepfold.run.policies.coefficients import Coefficients
from stepfold.run.policies.small import is_small, small_steps

# A new iterate is kept only if its gradient is this much smaller than that of the best one.
BETTER = 0.9
# Curvature beyond rounding is evidence; below so many roundings of the largest it is none.
FLAT = 10.0


class ConjugateGradients:
    """Iterates, directions and what is carried along.

    Args:
        x: Start, which is copied.
        seen: A look at it.
        carries_residual: Whether the residual is carried along.

    Attributes:
        x: The iterates; written to by the next step.
        sizes: Norms of the carried gradients.
        dual: The carried gradients in the usual inner product.
        gain: By how much twice f has fallen since the last look.
        coefficients: Step lengths and ratios so far.
        saved: Iterates before their gradients grew, and the norms of these; None if none did.
        indefinite: A Rayleigh quotient that is negative beyond rounding, if one was seen.
        largest: The largest Rayleigh quotient so far.
        stuck: Whether there was no direction left to go.
    """

    def __init__(self, x: Any, seen: Seen, *, carries_residual: bool) -> None:
        self.carries_residual = carries_residual
        self.largest = 0.0
        self.indefinite: float | None = None
        self.saved: tuple[Any, FloatArray] | None = None
        self._first = seen.sizes
        self._block: ConjugateBlock | None = None
        self.begin(x, seen)

    def begin(self, x: Any, seen: Seen, residual: Any = None, without: Sequence[Any] = ()) -> None:
        """Forget all directions and go on from ``x``.

        Args:
            x: Where; copied.
            seen: A look at it.
            residual: ``Ax − b`` there, if it is known.
            without: Vectors of norm 1 that are taken out of the gradient.
        """
        self.x = copy_of(x)
        # Copies, where the library lets steps be taken in place.
        self.dual = copy_of(seen.dual)
        for vector in without:
            self.dual = self.dual - float(row_dots(vector, self.dual)[0]) * vector
        self._primal = self.dual if seen.known is seen.dual else seen.known
        self._residual = None if residual is None else copy_of(residual)
        self._next: FloatArray | None = None
        self._direction: Any = None
        self.sizes = seen.sizes
        self._lengths = np.zeros(seen.sizes.size)
        self._square = np.ones(seen.sizes.size)
        self.gain = np.zeros(seen.sizes.size)
        self.coefficients = Coefficients(epsilon(x), seen.sizes.size)

    @property
    def stuck(self) -> bool:
        return self._direction is None

    def restart(self, places: NDArray[np.intp], seen: Seen, residual: Any) -> None:
        """Let some rows start anew, from the gradient that was computed from their x."""
        self._next = None
        self._primal = put_rows(self._primal, places, take(seen.known, places))
        self.dual = put_rows(self.dual, places, take(seen.dual, places))
        if self.carries_residual:
            self._residual = put_rows(self._residual, places, take(residual, places))
        self.sizes, self.gain = self.sizes.copy(), self.gain.copy()
        self.sizes[places], self.gain[places] = seen.sizes[places], 0.0
        self._square[places] = math.inf  # the ratio is then 0
        self.coefficients = self.coefficients.after_restart(places)

    def step(self, loop: Loop) -> bool:
        """One step on all rows; false if there is no direction to go."""
        problem = loop.problem
        inner = problem.euclidean
        self._turn()
        direction = self._direction
        forward = image = None
        others: list[FloatArray] = []
        if self.carries_residual and isinstance(inner, LeastSquares):
            forward = apply(inner.operator, direction)
            curvature = norms(forward) ** 2 + inner.ridge * self._lengths
        elif inner is problem and problem.sums_over_processes:
            image = inner.product(direction)
            self._square, curvature, *others = dots_together(
                (self.dual, self.dual), (direction, image), (self.dual, image), (image, image)
            )
        else:
            image = inner.product(direction)
            curvature = row_dots(direction, image)
        sizes = self._step_lengths(loop, curvature)
        if sizes is None:
            return False
        step = column(sizes, direction)
        if forward is not None:
            self._residual = add_scaled(self.residual(loop), step, forward)
        self.x = add_scaled(self.x, step, direction)
        if forward is not None:
            self.dual = gradient_from_residual(inner, self._residual, self.x)
        else:
            self.dual = add_scaled(self.dual, step, image)
        self._primal = problem.precondition(self.dual)
        if inner is problem:
            self._next = self._predicted(sizes, *others) if others else None
            if self._next is None:
                self._next = row_dots(self.dual, self.dual)
            norms_now = np.sqrt(self._next)
        else:
            norms_now = loop.measure.sizes_of(problem, self.dual, self._primal)
        self.gain = self.gain + sizes * self._square
        self._save(step, norms_now)
        self.sizes = norms_now
        loop.stepped(functools.partial(copy_of, self.x), problem.products_per_gradient)
        return True

    def _predicted(
        self, sizes: FloatArray, along: FloatArray, square: FloatArray
    ) -> FloatArray | None:
        """``‖g + αHp‖²`` from inner products with g; None where the terms cancel too far."""
        predicted: FloatArray = self._square + 2 * sizes * along + sizes**2 * square
        # Their rounding is relative to the largest, of which this leaves half of the digits.
        is_exact = predicted > math.sqrt(epsilon(self.x)) * self._square
        return predicted if (is_exact | (self._square == 0)).all() else None

    def _turn(self) -> None:
        """Choose the next direction."""
        square = row_dots(self.dual, self._primal) if self._next is None else self._next
        self._next = None
        if self._direction is None:
            direction, lengths = -self._primal, square
        else:
            with np.errstate(invalid="ignore", divide="ignore"):
                ratio = np.where(self._square > 0, square / self._square, 0.0)
            self.coefficients.ratio(ratio)
            direction = scaled(self._direction, column(ratio, self._direction))
            direction = add_scaled(direction, -1.0, self._primal)
            # In the inner product of M, for the gradient is orthogonal to the last direction.
            lengths = square + ratio**2 * self._lengths
        self._square, self._direction, self._lengths = square, direction, lengths

    def _step_lengths(self, loop: Loop, curvature: FloatArray) -> FloatArray | None:
        """α of each row; None if no row that is still in the run has a direction to go."""
        with np.errstate(invalid="ignore", divide="ignore"):
            quotients = np.where(self._lengths > 0, curvature / self._lengths, 0.0)
        if np.isfinite(quotients).all():
            self._note_largest(loop, float(quotients.max(initial=0.0)))
        before = self.indefinite
        flat = self._is_flat(quotients)
        if self.indefinite != before and loop.problem.euclidean is loop.problem:
            # As it is, and not as it would be if the Hessian were symmetric.
            exact = curvature / norms(self._direction) ** 2
            self.indefinite = float(np.nanmin(exact, initial=0.0))
        if flat[loop.positions].all():
            # Singular along all directions that are left: nothing can be gained by going on.
            loop.ledger.num_products += loop.problem.products_per_gradient
            self._direction = None
            return None
        sizes: FloatArray = np.where(flat, 0.0, self._square / np.where(flat, 1.0, curvature))
        resting = self.sizes <= self._least(loop)
        self.coefficients.step(sizes, resting, quotients, self.largest)
        return sizes

    def _least(self, loop: Loop) -> FloatArray:
        """Gradient norms that are rounding: those computed from a residual, as b is rounded."""
        eps = epsilon(self.x)
        # Squares of smaller vectors, and those times H, have lost digits.
        lost = math.sqrt(tiny(self.x) / eps / min(self.largest or 1.0, 1.0))
        least: FloatArray = np.full(self.sizes.size, lost)
        if self.carries_residual:
            magnitude = loop.problem.gradient_magnitude(0 * least, self.largest)
            least = np.maximum(least, RESTING * eps * magnitude)
        return least

    def _note_largest(self, loop: Loop, quotient: float) -> None:
        self.largest = max(self.largest, quotient)
        loop.measure.upper = max(loop.measure.upper, self.largest)

    def _is_flat(self, quotients: FloatArray) -> Any:
        """Rows along whose direction the Hessian is 0 to rounding, or that have nothing to do."""
        rounding = self._rounding * self.largest
        lowest = float(np.nanmin(quotients, initial=0.0))
        if lowest < -rounding:
            self.indefinite = lowest
        return ~(quotients > rounding * epsilon(self.x)) | (quotients < -rounding)

    @property
    def _rounding(self) -> float:
        return FLAT * math.sqrt(self.x.shape[-1]) * epsilon(self.x)

    def block(self, loop: Loop, num_steps: int, target: float) -> bool | None:
        """Many steps in one call, where that can be: one row, no preconditioner.

        Args:
            loop: The run; every step is booked there.
            num_steps: Most steps.
            target: A gradient norm to end at.

        Returns:
            Whether the last step was made; None if they must be made one by one.
        """
        steps = self._block_for(loop)
        if steps is None:
            return None
        squares = row_dots(self.dual, self.dual) if self._next is None else self._next
        square = float(squares[0])
        best = float((self._first if self.saved is None else self.saved[1])[0])
        is_fresh = self._direction is None
        if is_fresh:
            self._direction = np.empty_like(self.dual)
        made = steps(
            (self.x, self.dual, self._direction),
            (square, float(self._square[0]), float(self._lengths[0]), is_fresh),
            stop=target**2,
            better=((BETTER * best) ** 2, BETTER**2),
            flat=(self.largest, self._rounding * epsilon(self.x)),
            num_steps=num_steps,
        )
        ledger, gain = loop.ledger, float(self.gain[0])
        before, products = ledger.num_steps, loop.problem.products_per_gradient
        with np.errstate(invalid="ignore", divide="ignore"):
            quotients = made.done[:, 2] / made.done[:, 1]
        self._note_largest(loop, float(np.fmax.reduce(quotients, initial=0.0)))
        least = self._least(loop)
        for (ratio, lengths, _, alpha, after), quotient in zip(
            made.done.tolist(), quotients, strict=True
        ):
            if not is_fresh:
                self.coefficients.ratio((ratio,))
            is_fresh = False
            resting = self.sizes <= least
            self.coefficients.step((alpha,), resting, np.array([quotient]), self.largest)
            gain += alpha * square
            self._square, square = np.array([square]), after
            self._lengths = np.array([lengths])
            if ledger.num_steps > before:
                ledger.note(self.sizes)
            loop.stepped(self.x, products)
            self.sizes = np.array([math.sqrt(after)])
        self.gain = np.array([gain])
        self._next = np.array([square])
        if made.saved is not None:
            self.saved = made.saved[0], np.array([math.sqrt(made.saved[1])])
        if made.failed is None:
            return True
        ratio, lengths, curvature = made.failed.tolist()
        if not is_fresh:
            self.coefficients.ratio((ratio,))
        self._square, self._lengths = self._next, np.array([lengths])
        self._step_lengths(loop, np.array([curvature]))
        self._direction = self._next = None
        return False

    def _block_for(self, loop: Loop) -> Callable[..., Steps] | None:
        """What makes many steps in one call; None if nothing does."""
        problem = loop.problem
        if self._primal is not self.dual:
            return None
        if self._block is None:
            self._block = conjugate_block(problem.hessian, self.x)
        if self._block is not None or not is_small(problem, self.x):
            return self._block
        if isinstance(problem, LeastSquares) != self.carries_residual:
            return None
        residual = self.residual(loop) if self.carries_residual else None
        return functools.partial(small_steps, problem, residual)

    def residual(self, loop: Loop) -> Any:
        """``Ax − b``: what is carried along, else computed."""
        if self._residual is None:
            if norms(self.x).any():
                self._residual = loop.problem.residual(self.x)
                loop.ledger.num_products += 1
            else:
                self._residual = -loop.problem.rhs
        return self._residual

    def _save(self, step: Any, sizes: FloatArray) -> None:
        """Keep the iterate before the step where its gradient was the smallest so far."""
        best = self.saved[1] if self.saved is not None else self._first
        worse = (sizes > self.sizes) & (self.sizes < BETTER * best)
        if not worse.any():
            return
        before = self.x - step * self._direction
        if worse.all() or before.ndim == 1:
            self.saved = before, self.sizes
            return
        rows = self.x if self.saved is None else self.saved[0]
        places = np.flatnonzero(worse)
        saved = put_rows(rows, places, take(before, places))
        self.saved = saved, np.where(worse, self.sizes, best)

    def take(self, positions: Sequence[int]) -> None:
        """Go on with some of the rows only."""
        for name in ("x", "_primal", "dual", "_direction", "_residual"):
            rows = getattr(self, name)
            setattr(self, name, None if rows is None else take(rows, positions))
        for name in ("sizes", "gain", "_square", "_first", "_lengths"):
            setattr(self, name, getattr(self, name)[positions])
        if self.saved is not None:
            self.saved = take(self.saved[0], positions), self.saved[1][positions]
        self._next = None if self._next is None else self._next[positions]
        self.coefficients = self.coefficients.of_rows(positions)


def gradient_from_residual(problem: LeastSquares[Any], residual: Any, x: Any) -> Any:
    """``Aᵀr + μx``."""
    gradient = problem.adjoint_product(residual)
    return gradient + problem.ridge * x if problem.ridge else gradient
