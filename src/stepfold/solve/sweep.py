"""One period: the steps of a schedule, in the precision of the data or in a lower one.

In lower precision a period solves ``Hd = −∇f(x)`` for the correction d from d = 0, with the Hessian
stored in fewer bits, and adds it: iterative refinement. The gradient that it starts from is taken
in full precision at every period's end, so that rounding inside limits the factor of a period, not
the accuracy that is reached.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from stepfold._typing import ArrayT
from stepfold.iterations import GradientDescent, Iteration
from stepfold.problems import Problem, Quadratic
from stepfold.problems.rows import with_rhs
from stepfold.solve.guard import Watch
from stepfold.solve.norms import column, norms
from stepfold.solve.record import Record

Callback = Callable[[int, Any], None]


class Sweep:
    """Runs periods; knows whether the guard has cut one short.

    Args:
        iteration: What a step does.
        record: Where steps and products are counted.
        callback: Called with the count of steps and the iterate of the active rows.
        low: The problem in lower precision, or None.
    """

    def __init__(
        self,
        iteration: Iteration[Any, ArrayT],
        record: Record,
        callback: Callback | None,
        low: Problem[Any] | None,
    ) -> None:
        self._iteration, self._record, self._callback = iteration, record, callback
        self._low = low
        self._quadratic: Any = None
        # Whether a gradient that is known already is taken, and saves its products.
        self._takes_known = type(iteration) is GradientDescent
        self.cut_short = False
        self.known: Any = None
        """Gradient at the iterate that the next period starts from, if it is known."""

    def num_products(self, problem: Problem[Any], num_steps: int) -> int:
        """Products of a period and of the check after it."""
        if self._low is not None:
            low = (num_steps - 1) * self._low.products_per_gradient
            return low + problem.products_per_gradient
        return num_steps * problem.products_per_gradient

    def period(
        self,
        problem: Problem[Any],
        state: Any,
        steps: list[float],
        watch: Watch | None,
    ) -> Any:
        """State after all steps, or after those until the guard saw growth."""
        gradient, self.known = self.known, None
        self.cut_short = False
        looks: frozenset[int] = frozenset() if watch is None else watch.start_period()
        if self._low is not None:
            known = problem.gradient(state) if gradient is None else gradient
            if gradient is None:
                self._record.num_products += problem.products_per_gradient
            return self._low_period(self._low, state, known, steps, watch, looks)
        iteration, record, callback = self._iteration, self._record, self._callback
        if gradient is not None and self._takes_known:
            record.num_products -= problem.products_per_gradient
        per_step = problem.products_per_gradient if self._takes_known else 0
        for count, gamma in enumerate(steps, 1):
            after = iteration.step(problem, state, gamma, gradient)
            gradient = None
            record.num_steps += 1
            record.num_products += per_step
            if callback is not None:
                callback(record.num_steps, iteration.iterate(after))
            if count in looks and watch and watch.sees_growth(state, gamma, after, count):
                self.cut_short = True
                return after
            state = after
        return state

    def _low_period(
        self,
        low: Problem[Any],
        x: Any,
        gradient: Any,
        steps: list[float],
        watch: Watch | None,
        looks: frozenset[int],
    ) -> Any:
        record, callback = self._record, self._callback
        # Of norm 1: the correction must neither overflow nor vanish in few bits.
        scale = column(norms(gradient), gradient)
        target = _cast(-(gradient / scale), low)
        if self._quadratic is None:
            self._quadratic = Quadratic(low.hessian, target)
        problem = with_rhs(self._quadratic, target)
        step = 0 * target
        for count, gamma in enumerate(steps, 1):
            # The gradient at d = 0 is known: it is minus the target.
            after = gamma * target if count == 1 else problem.gradient_step(step, gamma)
            record.num_steps += 1
            if count > 1:
                record.num_products += low.products_per_gradient
            if callback is not None:
                callback(record.num_steps, x + scale * _cast(after, gradient))
            if count in looks and watch and watch.sees_growth(step, gamma, after, count):
                self.cut_short = True
                step = after
                break
            step = after
        return x + scale * _cast(step, gradient)


def _cast(rows: Any, like: Any) -> Any:
    """Rows in the dtype of a problem's data or of an array."""
    source: Any = like.hessian if isinstance(like, Problem) else like
    dtype = source.dtype
    if isinstance(rows, np.ndarray):
        return rows.astype(dtype, copy=False)
    return rows.to(dtype)


def check_low_precision(problem: Problem[Any], low: Any, iteration: Any) -> None:
    """Refuse what is no twin of the problem in fewer bits."""
    if not isinstance(low, Problem):
        raise TypeError(
            f"`low_precision` must be a Problem, got {type(low).__name__}; pose the same problem "
            "with its data in fewer bits, as in `LeastSquares(A.astype('float32'), ...)`"
        )
    if type(iteration) is not GradientDescent:
        raise ValueError(
            "`low_precision` needs the iteration `GradientDescent`, "
            f"got {type(iteration).__name__}: a correction starts from rest every period"
        )
    if tuple(low.hessian.shape) != tuple(problem.hessian.shape):
        raise ValueError(
            f"`low_precision` must have a Hessian of shape {tuple(problem.hessian.shape)}, got "
            f"{tuple(low.hessian.shape)}; it must be the same problem in fewer bits"
        )
    hessian: Any = low.hessian
    if getattr(hessian, "dtype", None) is None:
        raise TypeError(
            "`low_precision` must have an operator with a `dtype`, got None; give its operator one"
        )


def counted(problem: Problem[ArrayT], count: Callable[[int], None]) -> Problem[ArrayT]:
    """Return a twin of the problem that reports the products of every gradient it is asked for.

    For iterations that may or may not take a known gradient, or need several: the twin is of the
    same class, and only its two methods are watched.
    """
    twin = copy.copy(problem)
    inside = [False]

    def watched(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if inside[0]:
                return method(*arguments)
            inside[0] = True
            try:
                count(problem.products_per_gradient)
                return method(*arguments)
            finally:
                inside[0] = False

        return call

    vars(twin).update(
        gradient=watched(problem.gradient), gradient_step=watched(problem.gradient_step)
    )
    return twin
