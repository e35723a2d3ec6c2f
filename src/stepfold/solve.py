"""`solve`: one verb for all problems.

A smooth or quadratic problem, one with a penalty, with steps that are known or without: the
arguments are checked here, and what runs is a policy of `stepfold.run`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from stepfold._typing import ArrayT
from stepfold.iterations import Fista, GradientDescent, Iteration
from stepfold.kernels import note_run
from stepfold.problems import Composite, Problem, QuadraticProblem
from stepfold.problems.fixed_point import FixedPoint
from stepfold.problems.penalties import L1, Penalty
from stepfold.result import Result
from stepfold.run import Budgets, GradientNorm, Policy, Terms
from stepfold.run.maps import run_map
from stepfold.run.policies.automatic import Automatic
from stepfold.run.policies.cycle import Cycle
from stepfold.run.policies.guard import Guard, watch_for
from stepfold.run.policies.relaxation import EXPLODED, Account, Relaxation
from stepfold.run.smooth import run_composite, run_smooth
from stepfold.run.start import (
    check_untracked,
    default_rtol,
    finished,
    finite_term,
    on_rows,
    run_quadratic,
    unrecorded,
)
from stepfold.run.units import (
    Units,
    by_linear_term,
    in_units_near_one,
    scaled_bounds,
    scaled_schedule,
)
from stepfold.schedules import Schedule
from stepfold.schedules.base import check_schedule
from stepfold.spectrum import Certainty

__all__ = ["Guard", "default_rtol", "solve"]

DEFAULT_GUARD = Guard()


@on_rows
@unrecorded
def solve(
    problem: Problem[ArrayT] | Composite[ArrayT] | FixedPoint[ArrayT],
    schedule: Schedule | None = None,
    x0: ArrayT | None = None,
    *,
    iteration: Iteration[Any, ArrayT] | Callable[[Penalty], Iteration[Any, ArrayT]] | None = None,
    rtol: float | None = None,
    atol: float = 0.0,
    error_rtol: float | None = None,
    gap_rtol: float | None = None,
    gap_atol: float = 0.0,
    max_steps: int | None = 10_000,
    max_products: int | None = None,
    max_seconds: float | None = None,
    guard: Guard | None = DEFAULT_GUARD,
    low_precision: QuadraticProblem[Any] | None = None,
    keep_iterates: bool = False,
    callback: Callable[[int, ArrayT], None] | None = None,
) -> Result[ArrayT]:
    """Minimise: automatically, or by steps that are known beforehand.

    Without a schedule a quadratic problem is solved by conjugate gradients, which need no bounds. A
    smooth problem and one with a penalty are solved by FISTA with restart, which needs an upper
    bound of the curvature and estimates that of a quadratic. Where the penalty is separable (L1,
    elastic net, box) conjugate gradients take over once the support has settled, and columns whose
    norms differ by more than a factor of 100 are scaled to one norm.

    The fixed point of a map is found by relaxation, as by `stepfold.accelerate`.

    Args:
        problem: What to minimise: a `Problem` or a `Composite`; or a `FixedPoint`, whose residual
            f(x) − x takes the place of the gradient, and that at ``x0`` of ∇f(0).
        schedule: Step sizes; they repeat with their period T. With a penalty they must be below 2/b
            for the upper bound b of the curvature, with `Fista` at most 1/b; whole periods of
            `silver_convex_steps` and `obs_s_steps` with `ProximalGradient` may exceed it.
        x0: Start, shape (n,) or (batch, n); 0 if not given.
        iteration: What a step of the schedule does; `GradientDescent` if not given. With a penalty
            a function from the penalty to an iteration: `Fista` (if not given and there is a
            schedule), `ProximalGradient`, or one such as ``lambda g: Fista(g, restart=False)``.
        rtol: Stop when ‖∇f(x)‖ ≤ max(``rtol``·‖∇f(0)‖, ``atol``), for each row of a batch by
            itself: rows that are done leave the sweep. Where ∇f(0) is 0 the gradient at ``x0``
            takes its place. With a penalty the same of ``‖x − prox_{γg}(x − γ∇f(x))‖/γ``, γ the
            last step of a period. Where columns were scaled the same must hold in both units, and
            the history is about the scaled ones. With a preconditioner M norms are those of M⁻¹∇f
            in the inner product of M. If no tolerance is given: 1e-8, in single precision 1e-4, in
            half 1e-2.
        atol: See ``rtol``.
        error_rtol: Stop when ‖x − x*‖ ≤ ``error_rtol``·‖x*‖ is certain, as it is if
            ‖∇f(x)‖/a ≤ ``error_rtol``·(‖x‖ − ‖∇f(x)‖/a) for a lower bound a > 0 of the spectrum:
            that of the guard or of the schedule, or the ridge of least squares. A bound that the
            run refutes is not used. If ``rtol`` is given too, both must hold.
        gap_rtol: With a penalty, stop when the duality gap is at most
            ``max(gap_rtol·(objective at 0), gap_atol)``. If ``rtol`` is given too, both must hold.
        gap_atol: See ``gap_rtol``.
        max_steps: Budget of steps. No period starts that would exceed a budget.
        max_products: Budget of products with the operator or its transpose.
        max_seconds: Budget of time; no period starts unless the slowest one so far would still fit.
        guard: What to do about bounds that are wrong; None to trust them. With bounds that are
            right it changes no iterate. It works on quadratics with `GradientDescent` only.
        low_precision: The same problem with its data in fewer bits (float32, or bfloat16 of torch;
            its right-hand side is not looked at). Steps of the schedule are taken on that; at
            period ends the gradient is computed with ``problem``, and the accuracy reached is that
            of its dtype, provided that κ times the epsilon of the low one is well below 1.
        keep_iterates: Whether the history keeps x at every look.
        callback: Called as ``callback(t, x)`` after each step t = 1, 2, …; for watching. If it
            raises StopIteration, the run ends as INTERRUPTED, at that x.

    Returns:
        The best iterate at a look, a status with advice, and the history. ``bounds`` and
        ``schedule`` of the result serve the next right-hand side. A run that does not converge is
        a result, not an exception; up to ten more products are then spent on finding out why.

    Raises:
        TypeError: If an argument has the wrong type, or asks for what this kind of problem does not
            have.
        ValueError: If ``x0`` does not fit, a tolerance or a budget is negative, a tensor requires
            derivatives, or an argument asks for what the iteration or the bounds cannot give.

    >>> from stepfold import LeastSquares, chebyshev_steps, estimate_bounds
    >>> problem = LeastSquares(np.diag([3.0, 2.0, 1.0]), np.array([3.0, 2.0, 1.0]))
    >>> result = solve(problem)
    >>> result.status.name, result.num_steps, result.x.round(6)
    ('CONVERGED', 3, array([1., 1., 1.]))
    >>> solve(problem, chebyshev_steps(estimate_bounds(problem), 8)).num_steps
    32
    """
    if not isinstance(problem, (Problem, Composite, FixedPoint)):
        raise TypeError(
            f"`problem` must be a Problem, got {type(problem).__name__}; "
            "pose it as `LeastSquares(matrix, rhs)` or `Quadratic(matrix, rhs)`"
        )
    smooth: Any = problem.problem if isinstance(problem, Composite) else problem
    smooth.agree(
        schedule=schedule,
        x0=x0,
        rtol=rtol,
        atol=atol,
        error_rtol=error_rtol,
        gap_rtol=gap_rtol,
        gap_atol=gap_atol,
        max_steps=max_steps,
        max_products=max_products,
        max_seconds=max_seconds,
        iteration=iteration,
        guard=guard,
    )
    check_schedule(schedule)
    note_run()
    budgets = Budgets(max_steps, max_products, max_seconds)
    terms = Terms(rtol, atol, error_rtol, gap_rtol, gap_atol, budgets, callback, keep_iterates)
    not_for_all: dict[str, Any] = {"error_rtol": error_rtol, "low_precision": low_precision}
    if isinstance(problem, FixedPoint):
        if x0 is None:
            raise ValueError("`x0` must be given for a FixedPoint, got None: a map has no start")
        _refuse(
            "is not for a FixedPoint",
            "leave it out",
            iteration=iteration,
            gap_rtol=gap_rtol,
            gap_atol=gap_atol or None,
            keep_iterates=keep_iterates or None,
            **not_for_all,
        )
        account = Account(schedule, None, None, guard=schedule is None or guard is not None)
        terms = replace(terms, rtol=1e-8 if rtol is None else rtol)
        return run_map(problem, x0, Relaxation(account), terms, exploded=EXPLODED)
    if isinstance(problem, Composite):
        _refuse("is for problems without a penalty", "leave it out", **not_for_all)
        return run_composite(problem, schedule, x0, iteration, terms)
    if gap_rtol is not None or gap_atol > 0:
        raise TypeError(
            f"`gap_rtol` is for problems with a penalty, got {type(problem).__name__}; take `rtol`"
        )
    method: Any = GradientDescent() if iteration is None else iteration
    if not isinstance(problem, QuadraticProblem):
        _refuse(
            f"needs a QuadraticProblem and not a {type(problem).__name__}, whose Hessian is not "
            "the same everywhere, so that no bounds at one point hold at another",
            "take `rtol`",
            guard=None if guard is DEFAULT_GUARD else guard,
            **not_for_all,
        )
        if iteration is None and schedule is None:
            method = Fista(L1(0.0))
        else:
            _check_iteration(method)
        return run_smooth(problem, schedule, x0, method, terms)
    _check_iteration(method)
    asked: dict[str, Any] = {"iteration": iteration, "low_precision": low_precision}
    for name, value in asked.items():
        if schedule is None and value is not None:
            raise ValueError(f"`schedule` must be given where `{name}` is, got None")
    guard = _check_guard(guard, method)
    if low_precision is not None:
        _check_low_precision(problem, low_precision, method)
    check_untracked(problem, getattr(problem, "rhs", None), x0)
    units = in_units_near_one(problem)
    units, term = by_linear_term(units, finite_term(units.problem.euclidean))
    confirms = guard is not None
    measure = _gradient_norm(term, units, terms, confirms=confirms)
    if guard is not None and guard.bounds is not None:
        guard = replace(guard, bounds=scaled_bounds(guard.bounds, units.per_hessian))
    policy: Policy
    if schedule is None:
        policy = Automatic(measure.asked_rtol)
        bounds = None if guard is None else guard.bounds
    else:
        if not 0 < units.hessian < math.inf:
            raise ValueError(
                "`schedule` must have steps in units of 1 / Hessian, and the Hessian of `problem` "
                "is outside the range of float64; scale the matrix and the right-hand side by a "
                "power of two"
            )
        steps = scaled_schedule(schedule, 1 / units.hessian)
        watch = watch_for(guard, steps, lowers=error_rtol is not None)
        policy = Cycle(steps, method, watch, low_precision)
        bounds = policy.bounds
        measure.upper = 1 / float(steps.steps.min())
    # An estimate certifies nothing unless somebody asks for a certificate that rests on it.
    certifies = error_rtol is not None
    if bounds is not None and (certifies or bounds.lower_certainty is not Certainty.ESTIMATED):
        measure.lower = max(measure.lower, bounds.lower)
    if error_rtol is not None:
        _check_certifiable(problem, measure.lower)
    loop = run_quadratic(units, x0, term, measure, policy, terms)
    return finished(loop, units, problem)


def _refuse(rule: str, remedy: str, **options: Any) -> None:
    """Refuse options that are given and are not for this kind of problem."""
    for name, value in options.items():
        if value is not None:
            raise TypeError(f"`{name}` {rule}, got {value!r}; {remedy}")


def _check_iteration(iteration: Any) -> None:
    if not isinstance(iteration, Iteration):
        got = f"class {iteration.__name__}" if isinstance(iteration, type) else repr(iteration)
        raise TypeError(
            f"`iteration` must be an Iteration, got {got}; give an instance, as `GradientDescent()`"
        )
    remedies = {
        "map": "that steps on problems, got {}, which steps on maps; find fixed points by "
        "`accelerate(map, x0)`",
        "penalty": "that steps on problems without a penalty, got {}; minimise "
        "`Composite(problem, penalty)`",
    }
    if iteration.steps_on in remedies:
        what = remedies[iteration.steps_on].format(type(iteration).__name__)
        raise TypeError(f"`iteration` must be one {what}")


def _check_guard(guard: Any, iteration: Iteration[Any, Any]) -> Guard | None:
    if guard is not None and not isinstance(guard, Guard):
        raise TypeError(f"`guard` must be a Guard or None, got {guard!r}")
    if guard is None or iteration.follows_schedule:
        return guard
    if guard is not DEFAULT_GUARD:
        raise ValueError(
            "`guard` must be None unless the iteration is GradientDescent, got a Guard with "
            f"{type(iteration).__name__}: another iteration has another polynomial"
        )
    return None


def _check_low_precision(problem: Any, low: Any, iteration: Iteration[Any, Any]) -> None:
    """Refuse what is no twin of the problem in fewer bits."""
    if not isinstance(low, QuadraticProblem):
        raise TypeError(
            f"`low_precision` must be a QuadraticProblem, got {type(low).__name__}; pose the same "
            "problem with its data in fewer bits, as in `LeastSquares(A.astype('float32'), ...)`"
        )
    if not iteration.follows_schedule:
        raise ValueError(
            "`low_precision` needs the iteration `GradientDescent`, "
            f"got {type(iteration).__name__}: a correction starts from rest every period"
        )
    if tuple(low.hessian.shape) != tuple(problem.hessian.shape):
        raise ValueError(
            f"`low_precision` must have a Hessian of shape {tuple(problem.hessian.shape)}, got "
            f"{tuple(low.hessian.shape)}; it must be the same problem in fewer bits"
        )


def _check_certifiable(problem: Any, lower: float | None) -> None:
    if problem.euclidean is not problem:
        raise ValueError(
            "`error_rtol` needs a Hessian that is symmetric in the usual inner product, got a "
            "preconditioned problem: there the gradient bounds the error in the norm of M only; "
            "take `rtol`"
        )
    if not lower:
        raise ValueError(
            "`error_rtol` needs a lower bound above 0 of the spectrum, got none; take a schedule "
            "that was made for bounds, `guard=Guard(bounds)`, or a ridge"
        )


def _gradient_norm(term: Any, units: Units, terms: Terms, *, confirms: bool) -> GradientNorm:
    """The measure of a quadratic problem, in units near 1."""
    problem, rtol = units.problem, terms.rtol
    if rtol is None:
        rtol = default_rtol(term) if terms.error_rtol is None else math.inf
    return GradientNorm(
        rtol,
        terms.atol if units.gradient is None or not terms.atol else terms.atol / units.gradient,
        terms.error_rtol,
        problem.gradient_norms(term, problem.precondition(term)),
        lower=getattr(problem, "ridge", 0.0),
        confirms=confirms,
    )
