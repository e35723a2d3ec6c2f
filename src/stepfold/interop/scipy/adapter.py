"""SciPy's iterative solvers on our problems, with our records: one way to call them all.

Two families are told apart by the names of their parameters: solvers of square systems (``rtol``,
``callback``: `cg`, `minres`, `cgs`, `bicgstab`) get the Hessian and the linear term; solvers of
least squares (``damp``: `lsqr`, `lsmr`) get A and b.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from stepfold._checks import check_count
from stepfold.interop.scipy._inputs import as_vector, check_tolerance
from stepfold.problems import LeastSquares, QuadraticProblem
from stepfold.result import History, Result, Status
from stepfold.schedules import Schedule


def solve_with(
    method: Callable[..., Any],
    problem: QuadraticProblem[Any],
    x0: Any = None,
    *,
    rtol: float = 1e-8,
    atol: float = 0.0,
    max_steps: int = 10_000,
) -> Result[Any]:
    """Solve a problem with one of SciPy's iterative solvers; returns what `stepfold.solve` does.

    Args:
        method: ``cg``, ``minres``, ``bicgstab``, ``cgs``, ``lsqr``, ``lsmr`` of
            ``scipy.sparse.linalg``, or any function with the same parameters.
        problem: One over NumPy arrays or SciPy operators with one right-hand side. The least
            squares solvers take a `LeastSquares` only; the others solve its normal equations.
        x0: Start of shape (n,); 0 if not given.
        rtol: Stop when ‖∇f(x)‖ ≤ max(``rtol``·‖∇f(0)‖, ``atol``). The least squares solvers have no
            such rule: they run with ``atol = btol = rtol``, and again from where they ended with
            smaller ones as long as the gradient asks for it.
        atol: See ``rtol``.
        max_steps: Budget of iterations.

    Returns:
        The solver's last iterate, the status that its true gradient gives it, and the history:
        after every iteration where the solver takes a callback (`cg` and its kind), else at the
        ends of its runs. Products are those the solver makes; the gradients by which we judge are
        not among them, nor is their time among the seconds. The schedule bears the solver's name
        and its one step means nothing: these solvers choose their own.

    Raises:
        TypeError: If ``problem`` is not a `Problem` of the kind that the method takes, or holds
            tensors.
        ValueError: If it has a batch of right-hand sides, or an argument is out of range.

    >>> from scipy.sparse.linalg import lsqr
    >>> problem = LeastSquares(np.diag([3.0, 2.0, 1.0]), np.array([3.0, 2.0, 1.0]))
    >>> result = solve_with(lsqr, problem)
    >>> result.status.name, result.x.round(6), result.history.num_products.tolist()
    ('CONVERGED', array([1., 1., 1.]), [0, 7])
    """
    if not isinstance(problem, QuadraticProblem):
        raise TypeError(f"`problem` must be a QuadraticProblem, got {type(problem).__name__}")
    parameters = inspect.signature(method).parameters
    for_least_squares = "damp" in parameters
    # The callback of `gmres` gets residuals.
    is_square = {"rtol", "maxiter", "callback"} <= set(parameters)
    if not for_least_squares and (not is_square or "callback_type" in parameters):
        raise TypeError(
            "`method` must be a solver with the parameters of `scipy.sparse.linalg.cg` or `lsqr`, "
            f"got {method!r}"
        )
    if for_least_squares and not isinstance(problem, LeastSquares):
        raise TypeError(
            f"`{_name(method)}` solves least squares; pose the problem as `LeastSquares`, "
            f"got {type(problem).__name__}"
        )
    linear_term: Any = problem.linear_term
    if not isinstance(linear_term, np.ndarray):
        raise TypeError(
            "`problem` must hold NumPy arrays for SciPy's solvers, got "
            f"{type(linear_term).__name__}; convert it, or use `stepfold.solve`"
        )
    if linear_term.ndim != 1:
        raise ValueError(
            "`problem` must have one right-hand side for SciPy's solvers, got a batch of "
            f"{len(linear_term)}; call once for each row, or use `stepfold.solve`"
        )
    start = np.zeros_like(linear_term)
    if x0 is not None:
        start = as_vector("x0", x0, linear_term.size, linear_term.dtype)
    rtol, atol = check_tolerance("rtol", rtol), check_tolerance("atol", atol)
    watch = _Watch(problem, linear_term, rtol, atol, start)
    max_steps = check_count("max_steps", max_steps, minimum=0)
    try:
        if watch.converged() or max_steps == 0:
            pass
        elif isinstance(problem, LeastSquares) and for_least_squares:
            _run_least_squares(method, problem, watch, rtol, max_steps)
        else:
            _run_square(method, problem, watch, (rtol, atol), max_steps)
    except KeyboardInterrupt:
        return watch.result(Status.INTERRUPTED, method)
    return watch.result(watch.verdict(max_steps), method)


def _name(method: Callable[..., Any]) -> str:
    return getattr(method, "__name__", repr(method))


class _Watch:
    """Iterates, gradients and products on the way; the clock stands while gradients are made."""

    def __init__(
        self, problem: QuadraticProblem[Any], linear_term: Any, rtol: float, atol: float, start: Any
    ) -> None:
        self._problem = problem
        self.linear_term = linear_term  # kept: least squares pay a product for it
        reference = float(np.linalg.norm(linear_term))
        self.x = start
        self.num_steps = 0
        self.num_products = 0
        self._rows: list[tuple[int, float, int, float]] = []
        self._paused = 0.0
        self._began = time.perf_counter()
        self.look(start, 0)
        self.tolerance = max(rtol * (reference or self.norm), atol)

    @property
    def norm(self) -> float:
        """Gradient norm at the last iterate."""
        return self._rows[-1][1]

    def converged(self) -> bool:
        """Whether the last iterate meets the tolerance."""
        return self.norm <= self.tolerance

    def look(self, x: Any, num_steps: int) -> None:
        """Record an iterate, which is copied: solvers hand out their own."""
        now = time.perf_counter()
        self.x, self.num_steps = np.array(x), num_steps
        norm = float(np.linalg.norm(self._problem.gradient(self.x)))
        self._rows.append((num_steps, norm, self.num_products, now - self._began - self._paused))
        self._paused += time.perf_counter() - now

    def counted(self, operator: Any, cost: int) -> Any:
        """The operator as one of SciPy's, with products counted here, ``cost`` for each."""
        from scipy.sparse.linalg import LinearOperator

        transpose = operator.T

        def forward(x: Any) -> Any:
            self.num_products += cost
            return operator @ np.ravel(x)

        def backward(y: Any) -> Any:
            self.num_products += cost
            return transpose @ np.ravel(y)

        dtype = self.linear_term.dtype
        return LinearOperator(operator.shape, matvec=forward, rmatvec=backward, dtype=dtype)

    def verdict(self, max_steps: int) -> Status:
        """Status of the last iterate."""
        if self.converged():
            return Status.CONVERGED
        if not math.isfinite(self.norm) or self.norm > 1e8 * self._rows[0][1]:
            return Status.DIVERGED
        return Status.BUDGET if self.num_steps >= max_steps else Status.STALLED

    def result(self, status: Status, method: Callable[..., Any]) -> Result[Any]:
        """The record of the run."""
        num_steps, norms, num_products, seconds = (
            np.array(c) for c in zip(*self._rows, strict=True)
        )
        history = History(num_steps, norms, num_products, seconds)
        # A schedule needs a step; this one is nominal.
        schedule = Schedule(np.ones(1), f"scipy.{_name(method)}", "none")
        return Result(self.x, status, self.num_steps, history, schedule)


def _run_square(
    method: Callable[..., Any],
    problem: QuadraticProblem[Any],
    watch: _Watch,
    tolerances: tuple[float, float],
    max_steps: int,
) -> None:
    operator = watch.counted(problem.hessian, problem.products_per_gradient)
    steps = 0

    def callback(x: Any) -> None:
        nonlocal steps
        steps += 1
        watch.look(x, steps)

    settings: dict[str, Any] = {"rtol": tolerances[0], "maxiter": max_steps, "callback": callback}
    if "atol" in inspect.signature(method).parameters:  # `minres` has none
        settings["atol"] = tolerances[1]
    x, _ = method(operator, watch.linear_term, x0=watch.x, **settings)
    if not np.array_equal(x, watch.x):
        watch.look(x, steps)


def _run_least_squares(
    method: Callable[..., Any],
    problem: LeastSquares[Any],
    watch: _Watch,
    rtol: float,
    max_steps: int,
) -> None:
    limit = "iter_lim" if "iter_lim" in inspect.signature(method).parameters else "maxiter"
    counted = watch.counted(problem.operator, 1)
    damp = math.sqrt(problem.ridge)
    tolerance = rtol
    while not watch.converged() and watch.num_steps < max_steps:
        before = watch.norm
        start = watch.x if watch.x.any() else None  # a start costs a product
        operator, rhs = counted, problem.rhs
        settings: dict[str, Any] = {limit: max_steps - watch.num_steps, "conlim": 0.0}
        if damp and start is not None:
            # SciPy's damping is about the distance to the start, our ridge about that to 0.
            operator = _with_ridge(counted, damp)
            rhs = np.concatenate([problem.rhs, np.zeros_like(start)])
        else:
            settings["damp"] = damp
        x, _, num_steps, *_ = method(
            operator, rhs, atol=tolerance, btol=tolerance, x0=start, **settings
        )
        if num_steps == 0:
            break
        watch.look(x, watch.num_steps + int(num_steps))
        if not watch.norm <= 0.5 * before:
            break
        tolerance *= min(0.1, 0.5 * watch.tolerance / watch.norm) if watch.norm > 0 else 1.0


def _with_ridge(operator: Any, damp: float) -> Any:
    """``[A; damp·I]`` of shape (m + n, n)."""
    from scipy.sparse.linalg import LinearOperator

    num_rows, num_columns = operator.shape

    def forward(x: Any) -> Any:
        return np.concatenate([operator.matvec(x), damp * np.ravel(x)])

    def backward(y: Any) -> Any:
        y = np.ravel(y)
        return operator.rmatvec(y[:num_rows]) + damp * y[num_rows:]

    shape = (num_rows + num_columns, num_columns)
    return LinearOperator(shape, matvec=forward, rmatvec=backward, dtype=operator.dtype)
