"""Conjugate gradients on a face: a quadratic with a separable penalty, its kinks left alone.

Where no entry meets a kink, an L1 norm is linear and a box has no effect. What is left is a
quadratic in the free entries, which conjugate gradients minimise in few products. A step that would
cross a kink is projected onto the closure of the face. If that does not lower the objective, the
step ends at the first kink instead. Either way the entry stops there, and conjugate gradients begin
anew on what is left. They end when resting entries want to move more than free ones do. The
objective never grows.

References:
    Moré and Toraldo, On the solution of large quadratic programming problems with bound constraints
    (SIAM J. Optim. 1, 1991), section 4. Dostál, Box constrained quadratic programming with
    proportioning and projections (SIAM J. Optim. 7, 1997), section 3: the test of proportions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import column, namespace, norms, row_dots, to_host
from stepfold._typing import FloatArray
from stepfold.problems.penalties import SeparablePenalty
from stepfold.run.loop import Loop
from stepfold.run.measures import numbers

# Resting entries must want to move this much more than free ones for a face to be left.
DISPROPORTION = 3.0


def descend(
    loop: Loop,
    penalty: SeparablePenalty,
    steps: Any,
    x: Any,
    gradient: Any,
    targets: FloatArray,
    most: int,
) -> tuple[Any, bool]:
    """Go down from ``x`` on its face, each row of a batch on its own.

    Args:
        loop: The run, whose problem is quadratic.
        penalty: g.
        steps: Steps of a proximal gradient step that is safe, a number or one for each entry; they
            are the preconditioner too.
        x: Where.
        gradient: ∇f there.
        targets: Norms of the proximal step over ``√steps`` at which a row is done, shape (rows,).
        most: Most steps.

    Returns:
        Where it ended, and whether a row would have gone on.
    """
    problem, cost = loop.problem, loop.problem.products_per_gradient
    xp, root = namespace(x), steps**0.5
    face = penalty.face(x)
    direction, square = 0 * x, np.ones(targets.size)
    going, fresh = np.ones(targets.size, dtype=bool), np.ones(targets.size, dtype=bool)
    for _ in range(most):
        move = (x - penalty.prox(x - steps * gradient, steps)) / root
        pull = xp.where(face.free, -(gradient + face.slope + face.ridge * x), 0 * x)
        primal = steps * pull
        now = row_dots(pull, primal)
        held = norms(xp.where(face.free, 0 * x, move))
        going &= (norms(move) > targets) & (held <= DISPROPORTION * np.sqrt(now)) & (now > 0)
        if not going.any() or not loop.ledger.fits(1, 3 * cost):
            break
        ratio = np.where(fresh | (square == 0), 0.0, now / square)
        direction = primal + column(ratio, x) * xp.where(face.free, direction, 0 * x)
        image = problem.product(direction)
        curvature = row_dots(direction, image + face.ridge * direction)
        going &= curvature > 0
        # A row that is done waits for the others where it is.
        size = column(np.where(going, now / np.where(curvature > 0, curvature, 1.0), 0.0), x)
        after = x + size * direction
        beyond = (after < face.lower) | (after > face.upper)
        crossing = np.atleast_1d(to_host(beyond.any(-1)))
        square, fresh, spent = now, crossing, cost
        if crossing.any():
            clipped = _clipped(xp, after, face.lower, face.upper)
            change = clipped - x
            changed = gradient + problem.product(change)
            spent += cost
            rise = numbers(penalty.value(clipped) - penalty.value(x))
            falls = row_dots(gradient + changed, change) / 2 + rise < 0
            reach = _reach(xp, x, direction, face.lower, face.upper)
            ends = column(np.where(crossing & ~falls, numbers(xp.min(reach, axis=-1)), 0.0), x)
            cut = xp.where(reach <= ends, clipped, x + ends * direction)
            whole = _chosen(xp, crossing, cut, after)
            whole_gradient = gradient + _chosen(xp, crossing, 0 * x + ends, 0 * x + size) * image
            projected = crossing & falls
            x = _chosen(xp, projected, clipped, whole)
            gradient = _chosen(xp, projected, changed, whole_gradient)
            face = penalty.face(x)
        else:
            x, gradient = after, gradient + size * image
        loop.stepped(x, spent)
    return x, bool(going.any())


def _clipped(xp: Any, x: Any, lower: Any, upper: Any) -> Any:
    below = xp.where(x < lower, 0 * x + lower, x)
    return xp.where(x > upper, 0 * x + upper, below)


def _reach(xp: Any, x: Any, direction: Any, lower: Any, upper: Any) -> Any:
    """The size of a step along the direction at which each entry meets an end."""
    moves = direction != 0
    ends = xp.where(direction > 0, 0 * x + upper, 0 * x + lower)
    safe = xp.where(moves, direction, 0 * x + 1)
    return xp.where(moves, (ends - x) / safe, 0 * x + np.inf)


def _chosen(xp: Any, rows: NDArray[np.bool_], one: Any, other: Any) -> Any:
    """For each row one array or the other."""
    if one.ndim == 1:
        return one if rows[0] else other
    return xp.where(column(rows.astype(np.float64), one) > 0, one, other)
