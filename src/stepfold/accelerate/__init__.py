"""Fixed points of any map, faster: Chebyshev relaxation with a guard.

``x ← x + ωₜ(f(x) − x)`` with ωₜ the Chebyshev steps of the spectrum of ``B = I − J`` needs about
the square root of the evaluations that ``x ← f(x)`` needs, but only near a fixed point and if the
spectrum is known. `accelerate` learns it from the residuals that the iteration computes anyway, and
keeps a period only if it brought the residual down.

References:
    Wadayama and Takabe, Chebyshev Inertial Iteration for Accelerating Fixed-Point Iterations
    (arXiv:2001.03280). Manteuffel, Adaptive procedure for estimating parameters for the
    nonsymmetric Tchebychev iteration (Numer. Math. 31, 1978).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace

from stepfold._checks import check_flag, check_period
from stepfold._typing import ArrayT
from stepfold.accelerate.implicit import (
    ConvergenceWarning,
    check_differentiable,
    with_gradient,
)
from stepfold.accelerate.methods import Anderson, Constant, Method, Plain, Steffensen, iterate
from stepfold.problems.fixed_point import FixedPoint, GradientWarning
from stepfold.result import Result
from stepfold.run import Budgets, Terms
from stepfold.run.maps import run_map
from stepfold.run.policies.relaxation import EXPLODED, Account, Relaxation
from stepfold.schedules import Schedule
from stepfold.schedules.base import check_schedule
from stepfold.spectrum import SpectralBounds
from stepfold.spectrum.ellipse import Ellipse

__all__ = [
    "Anderson",
    "Constant",
    "ConvergenceWarning",
    "GradientWarning",
    "Method",
    "Plain",
    "Steffensen",
    "accelerate",
    "iterate",
]


def accelerate(
    map: FixedPoint[ArrayT] | Callable[[ArrayT], ArrayT],  # noqa: A002 (the field's word)
    x0: ArrayT,
    *,
    rtol: float = 1e-8,
    atol: float = 0.0,
    max_products: int = 10_000,
    max_seconds: float = math.inf,
    schedule: Schedule | None = None,
    bounds: SpectralBounds | Ellipse | None = None,
    period: int | None = None,
    guard: bool = True,
    batch: bool = False,
    differentiable: bool = False,
    stop: Callable[[ArrayT], bool] | None = None,
    callback: Callable[[int, ArrayT], None] | None = None,
) -> Result[ArrayT]:
    """Find a fixed point ``x = f(x)`` in fewer evaluations of f than ``x ← f(x)`` takes.

    Args:
        map: f, or a `FixedPoint` of it.
        x0: Start, an array of NumPy or torch, of any shape.
        rtol: Stop when ‖f(x) − x‖ ≤ max(``rtol``·‖f(x₀) − x₀‖, ``atol``), or when it is rounding,
            4ε‖x‖ with ε of the dtype. A start with ‖f(x₀) − x₀‖ ≤ ``rtol``·‖x₀‖ is returned. With
            0, only ``atol`` counts.
        atol: See ``rtol``.
        max_products: Budget of evaluations of f, never exceeded.
        max_seconds: Budget of time, looked at between periods.
        schedule: Relaxations ωₜ to repeat; if not given, Chebyshev's, for what has been learned.
        bounds: Interval or `Ellipse` assumed to hold the spectrum of ``B = I − J``; learned if not
            given. An ellipse is given up for what is learned when a period on it fails, or does
            clearly less than it promises, or less than plain steps.
        period: T; chosen from the bounds if not given.
        guard: Whether a period is turned down that did not bring the residual down. The run then
            goes back to where the period began, raises the lower bound, and pays with plain steps
            before it tries again. If False, pass ``schedule`` or
            ``bounds``; they are used unchecked.
        batch: Whether the first axis of ``x0`` counts problems that do not touch each other. Each
            row then has its own tolerance and its own end, and rests from then on, while f is
            still asked about all rows. All share the relaxations.
        differentiable: Whether ``x`` of the result carries gradients with respect to all tensors
            that f depends on, by the implicit function theorem: backward solves ``w = Jᵀ w + g`` by
            the same method, to the same tolerance. One evaluation of f is recorded, whatever their
            number. They are gradients of the fixed point, so that the run must have converged;
            there is none with respect to ``x0``. With False nothing is recorded.
        stop: Asked with the iterate after each period; True ends the run as converged.
        callback: Called as ``callback(t, x)`` after each step t = 1, 2, …; for watching.

    Returns:
        The iterate that met the tolerance, or else that of the smallest residual; a status with
        advice; and the history, whose ``gradient_norms`` are residual norms and whose
        ``num_products`` are evaluations of f, including those that check that f is deterministic
        and how accurate it is. STALLED means that the accuracy of f was measured and reached. With
        ``batch`` each row is chosen by itself, and ``row_statuses`` and ``row_num_steps`` say how
        and when it ended.

    Raises:
        TypeError: If ``map`` is not callable, ``x0`` not an array, or f changes the dtype; or if
            ``x0`` is no tensor of torch and ``differentiable`` is true.
        ValueError: If f changes the shape, changes its argument or is not finite at ``x0``, or
            an argument is out of range.

    Warns:
        StochasticMapWarning: If f returns two different values at ``x0``.
        GradientWarning: If f depends on tensors of torch that require gradients, and
            ``differentiable`` is false.
        ConvergenceWarning: In the backward pass, if the gradient was not found to its tolerance.

    >>> result = accelerate(np.cos, np.array([0.0, 1.0]))
    >>> result.status.name, result.x.round(6)
    ('CONVERGED', array([0.739085, 0.739085]))
    """
    for name, value in (("guard", guard), ("batch", batch), ("differentiable", differentiable)):
        check_flag(name, value)
    account = _account(schedule, bounds, period, guard=guard)
    if differentiable:
        check_differentiable(x0)
    problem = map if isinstance(map, FixedPoint) else FixedPoint(map)
    result = run_map(
        problem,
        x0,
        Relaxation(account),
        Terms(rtol, atol, budgets=Budgets(None, max_products, max_seconds), callback=callback),
        stop=stop,
        batch=batch,
        differentiable=differentiable,
        exploded=EXPLODED,
    )
    if not differentiable:
        return result
    solve_adjoint = functools.partial(
        accelerate,
        rtol=rtol,
        max_products=max_products,
        max_seconds=max_seconds,
        schedule=schedule,
        bounds=bounds,
        period=period,
        guard=guard,
        batch=batch,
    )
    return replace(result, x=with_gradient(problem, result.x, solve_adjoint))


def _account(
    schedule: Schedule | None,
    bounds: SpectralBounds | Ellipse | None,
    period: int | None,
    *,
    guard: bool,
) -> Account:
    check_schedule(schedule)
    if bounds is not None and not isinstance(bounds, (SpectralBounds, Ellipse)):
        raise TypeError(
            f"`bounds` must be SpectralBounds or an Ellipse, got {type(bounds).__name__}; "
            "wrap the ends as `SpectralBounds(lower, upper)`"
        )
    if isinstance(bounds, SpectralBounds) and bounds.lower == 0:
        raise ValueError(
            "`bounds.lower` must be above 0, got 0.0: no Chebyshev steps exist for it; "
            "leave `bounds` out and they are learned"
        )
    if schedule is not None and bounds is not None:
        raise ValueError(
            "`bounds` must be left out where a `schedule` is given, got both: a schedule is obeyed "
            "whatever it was made for"
        )
    if schedule is not None and period is not None:
        raise ValueError(
            f"`period` goes with bounds, got {period!r} and a schedule, which has one of its own"
        )
    if period is not None:
        period = check_period(period)
    if not guard and schedule is None and bounds is None:
        raise ValueError(
            "`guard=False` needs a `schedule` or `bounds`, got neither: what is learned on the "
            "way is safe with the guard only"
        )
    return Account(schedule, bounds, period, guard=guard)
