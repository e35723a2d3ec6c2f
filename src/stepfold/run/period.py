"""One period of known steps as a function, which looks at nothing and waits for no device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepfold._typing import ArrayT
from stepfold.iterations import Fista, GradientDescent, Iteration, Relaxation
from stepfold.operators import without_derivatives
from stepfold.problems import Composite, FixedPoint, Problem
from stepfold.schedules import Schedule
from stepfold.schedules.base import check_schedule


def period(
    problem: Problem[ArrayT] | Composite[ArrayT] | FixedPoint[ArrayT],
    schedule: Schedule,
    *,
    iteration: Any = None,
) -> Callable[[ArrayT], ArrayT]:
    """The function that takes an iterate to the one after a period of the schedule.

    It looks at no norm and guards against no wrong bounds, which `solve` does. On tensors it makes
    no read from the device, which CUDA graphs require, and is one graph, which
    ``torch.compile(…, fullgraph=True)`` requires. Derivatives pass through.

    Args:
        problem: What the steps are taken on.
        schedule: T steps, in units of 1 / Hessian; relaxation factors for a `FixedPoint`.
        iteration: What a step does, as in `solve`: `GradientDescent` if not given, for a
            `Composite` a function from the penalty to an iteration, `Fista` if not given. One with
            a memory, such as momentum, starts afresh in every period.

    Returns:
        A function of x, of shape (n,) or (batch, n).

    Raises:
        TypeError: If an argument is of the wrong kind.

    >>> from stepfold import Quadratic, chebyshev_steps, SpectralBounds
    >>> quadratic = Quadratic(np.diag([1.0, 3.0]), np.array([1.0, 3.0]))
    >>> advance = period(quadratic, chebyshev_steps(SpectralBounds(1.0, 3.0), 8))
    >>> advance(advance(np.zeros(2))).round(6)
    array([1., 1.])
    """
    check_schedule(schedule, or_none=False, signed=True)
    if not isinstance(problem, (Problem, Composite, FixedPoint)):
        raise TypeError(
            f"`problem` must be a Problem, a Composite or a FixedPoint, got "
            f"{type(problem).__name__}; pose it as `LeastSquares(matrix, rhs)`"
        )
    smooth: Any = problem.problem if isinstance(problem, Composite) else problem
    method: Any = iteration
    if isinstance(problem, Composite):
        make = Fista if iteration is None else iteration
        method = make(problem.penalty) if callable(make) else make
    elif iteration is None:
        method = Relaxation() if isinstance(problem, FixedPoint) else GradientDescent()
    wanted = {Composite: "penalty", FixedPoint: "map"}.get(type(problem), "gradient")
    if not isinstance(method, Iteration) or method.steps_on != wanted:
        raise TypeError(
            f"`iteration` must be one that steps on a {wanted} for {type(problem).__name__}, got "
            f"{type(method).__name__}"
        )
    steps = schedule.steps.tolist()
    if isinstance(smooth, Problem):
        with without_derivatives():
            # What is found out once about operators, by reads from the device.
            smooth.gradient(smooth.zero) if smooth.zero is not None else None

    def advance(x: ArrayT) -> ArrayT:
        state = method.init(smooth, x)
        for gamma in steps:
            state = method.step(smooth, state, gamma)
        last: ArrayT = method.iterate(state)
        return last

    return advance
