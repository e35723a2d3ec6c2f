"""What a run starts from, and its record in the units of the problem as it was posed."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from operator import neg
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from stepfold._arrays import (
    all_finite,
    copy_of,
    dtype_kind,
    epsilon,
    from_host,
    is_array,
    norms,
    requires_derivatives,
)
from stepfold._checks import makes_arrays
from stepfold.operators import LinearMap, apply, without_derivatives
from stepfold.problems import Composite, ImageProblem, LeastSquares, Problem, QuadraticProblem
from stepfold.problems.base import check_library, check_rows
from stepfold.result import Result, Status
from stepfold.run.diagnosis import diagnose
from stepfold.run.ledger import Terms
from stepfold.run.loop import Loop, Policy
from stepfold.run.measures import ROUNDED, Measure
from stepfold.run.units import Units, scaled_bounds, scaled_schedule

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


def default_rtol(like: Any) -> float:
    """Tolerance on a gradient norm, by the precision of the data: 1e-8, in float32 1e-4."""
    return 1e-8 if epsilon(like) < 1e-10 else 1e-4 if epsilon(like) < 1e-5 else 1e-2


def run_quadratic(
    units: Units,
    x0: Any,
    term: Any,
    measure: Measure,
    policy: Policy,
    terms: Terms,
) -> Loop:
    """Run a policy on a quadratic problem, from 0 or from ``x0``, to its end.

    Args:
        units: The problem in units near 1.
        x0: Start in the units of the problem as it was posed; None for 0.
        term: Its linear term in the usual inner product, in units near 1.
        measure: What is looked at.
        policy: What a period is.
        terms: What is asked for; the callback gets iterates in the units of the problem.
    """
    problem = units.problem
    zero = 0 * term
    # A copy: the result may be the start, and must not share memory with the caller's.
    x = zero if x0 is None else units.scaled(copy_of(check_start(x0, zero)))
    ledger = terms.ledger(x, problem.clock)
    # A gradient costs one product more than the linear term: Aᵀ(Ax − b) beside Aᵀb.
    ledger.num_products = problem.products_per_gradient - 1
    measure.hessian_unit = units.hessian
    loop = Loop(problem, measure, policy, ledger, terms.callback, units)
    loop.go(x, functools.partial(neg, term) if x0 is None else None)
    return loop


def check_start(x0: Any, zero: Any) -> Any:
    """The start ready for arithmetic, of the shape and the library of a solution."""
    x0 = check_rows("x0", x0, zero.shape[-1], "the problem")
    check_library("x0", x0, "the data of the problem", zero)
    if x0.shape != zero.shape:
        raise ValueError(
            f"`x0` must have the shape of the solution, {tuple(zero.shape)}, got {tuple(x0.shape)}"
        )
    if dtype_kind(x0.dtype) == "c" and dtype_kind(zero.dtype) != "c":
        raise TypeError(
            f"`x0` must be real, as the problem is, got dtype {x0.dtype}; pass `x0.real`"
        )
    return x0


def finite_term(problem: QuadraticProblem[Any]) -> Any:
    """The linear term in the usual inner product, which must be finite.

    Raises:
        TypeError: If a matrix-free operator returns complex numbers and declares a real dtype.
        ValueError: If the term is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        term: Any = problem.linear_term
    if dtype_kind(term.dtype) == "c":
        _check_declared_dtype(problem, term)
    if not all_finite(term):
        raise ValueError(
            f"`problem` must have a finite gradient at 0, got one that is NaN or overflows "
            f"{term.dtype}; divide its matrix and its right-hand side by their norms"
        )
    return term


def _check_declared_dtype(problem: QuadraticProblem[Any], term: Any) -> None:
    operator: Any = problem.operator if isinstance(problem, LeastSquares) else problem.hessian
    if is_array(operator) or hasattr(operator, "tocsr") or not makes_arrays(operator):
        return
    declared = operator.dtype
    if dtype_kind(declared) == "c":
        return
    vector = from_host(np.random.default_rng(0).standard_normal(operator.shape[1]), term).real
    if dtype_kind(apply(operator, vector).dtype) == "c":
        raise TypeError(
            f"`problem` must have an operator that declares a complex dtype, got {declared} from "
            "one that returns complex numbers: its adjoint would be taken for its transpose"
        )


def check_untracked(problem: Any, term: Any, x0: Any) -> None:
    """Raise if torch would record every step for derivatives, and keep all iterates for that."""
    operator = getattr(problem, "operator", getattr(problem, "hessian", None))
    for name, values in (("x0", x0), ("problem", operator), ("problem", term)):
        if requires_derivatives(values):
            raise ValueError(
                f"`{name}` must hold no tensor that requires derivatives, got "
                "requires_grad=True: every step would be recorded; pass `tensor.detach()`, call "
                "under `torch.no_grad()`, or differentiate steps with `stepfold.unfolded`"
            )


def unrecorded(run: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """A function of a problem that lets torch record no product of an operator with weights.

    Weights of a module are parameters, and every product with them would be recorded, though a
    solution carries no derivatives.
    """

    @functools.wraps(run)
    def unrecorded_run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        problem: Any = args[0] if args else kwargs.get("problem")
        smooth = problem.problem if isinstance(problem, Composite) else problem
        operator = getattr(smooth, "operator", getattr(smooth, "hessian", None))
        if not isinstance(operator, LinearMap):
            return run(*args, **kwargs)
        x0 = args[2] if len(args) > 2 else kwargs.get("x0")
        check_untracked(smooth, getattr(smooth, "rhs", None), x0)
        with without_derivatives():
            return run(*args, **kwargs)

    return unrecorded_run


def on_rows(run: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """A function of a problem that takes problems of images by their rows, and returns images."""

    @functools.wraps(run)
    def run_on_rows(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        posed: Any = args[0] if args else kwargs.get("problem")
        if not isinstance(posed, ImageProblem):
            return run(*args, **kwargs)
        call = inspect.signature(run).bind(*args, **kwargs)
        call.arguments["problem"] = posed.flat
        for name, value in call.arguments.items():
            if name == "x0" and value is not None:
                call.arguments[name] = posed.rows(value)
            elif name == "low_precision" and isinstance(value, ImageProblem):
                call.arguments[name] = value.flat
            elif name == "callback" and callable(value):
                call.arguments[name] = lambda t, x, shown=value: shown(t, posed.images(x))
        result: Any = run(*call.args, **call.kwargs)
        history = result.history
        if history.iterates is not None:
            images = tuple(map(posed.images, history.iterates))
            history = replace(history, iterates=images)
        found: Any = replace(result, x=posed.images(result.x), history=history)
        return cast("Returned", found)

    return run_on_rows


def finished(loop: Loop, units: Units, problem: Problem[Any]) -> Result[Any]:
    """The record of the run, in the units of the problem."""
    ledger, measure = loop.ledger, loop.measure
    notes = loop.policy.notes(loop) + measure.closing_notes(ledger)
    reason = measure.reason(ledger.status)
    if ledger.status not in (Status.CONVERGED, Status.INTERRUPTED):
        causes = diagnose(loop, problem)
        notes += causes
        if causes and ledger.status is Status.BUDGET:
            reason = "The budget was spent."  # more of it is not what helps
    error: Any = None
    quadratic = isinstance(problem, QuadraticProblem) and problem.euclidean is problem
    if quadratic and measure.lower and np.isfinite(ledger.best_sizes).all():
        found = loop.policy.bounds  # a factored matrix makes no Rayleigh quotients on the way
        upper = max(measure.upper, measure.lower, 0.0 if found is None else found.upper)
        magnitude = loop.whole.gradient_magnitude(norms(ledger.best), upper)
        rounding = ROUNDED * epsilon(ledger.best) * magnitude
        error = (ledger.best_sizes + rounding) / measure.lower
        error = error if units.solution is None else error * units.solution
        error = error if ledger.is_batch else float(error[0])
    result = loop.result(notes=tuple(notes), error_bound=error, reason=reason)
    if units.solution is None or units.gradient is None:
        return result
    iterates, unit = result.history.iterates, units.gradient
    with np.errstate(under="ignore", over="ignore"):
        sizes = result.history.gradient_norms * (unit if ledger.is_batch else unit[0])
    history = replace(
        result.history,
        gradient_norms=sizes,
        iterates=None if iterates is None else tuple(map(units.posed, iterates)),
    )
    events = tuple(
        replace(
            event,
            old=scaled_bounds(event.old, units.hessian),
            new=scaled_bounds(event.new, units.hessian),
            eigenvalue=event.eigenvalue * units.hessian,
        )
        for event in result.events
    )
    return replace(
        result,
        x=units.posed(result.x),
        gradient_norm=ledger.best_sizes * unit
        if ledger.is_batch
        else float((ledger.best_sizes * unit)[0]),
        history=history,
        events=events,
        schedule=scaled_schedule(result.schedule, units.hessian),
        bounds=scaled_bounds(result.bounds, units.hessian),
    )
