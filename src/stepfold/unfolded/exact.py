"""Training without backpropagation: the best T steps for a batch of data, from T products.

T gradient steps from x₀ end at ``x₀ + q(A) g``, where ``g = −∇f(x₀)`` and q has degree T − 1. Over
all q the mean squared distance from the given solutions is a linear least-squares problem, and
Lanczos steps on the whole batch, with one scalar recurrence and the inner product ``∑ Eᵢⱼ Fᵢⱼ``,
give it an orthonormal basis. The step sizes are reciprocals of the roots of ``p(λ) = 1 − λ q(λ)``.

Where the right-hand sides are exact, the roots are real, and come from the errors by a recurrence
that never squares the operator. Where they are noisy, or made by another operator, some roots may
be complex; positive steps are then fitted to the best p.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stepfold._arrays import dtype_kind, without_labels
from stepfold._checks import check_period
from stepfold._krylov import Tridiagonal, lanczos
from stepfold._typing import FloatArray, Operator
from stepfold.measure import SpectralMeasure, error_measure
from stepfold.polynomial import mean_squared_error_path
from stepfold.problems import LeastSquares, Problem, Quadratic
from stepfold.result import TrainingHistory, TrainingRun
from stepfold.schedules import Schedule, optimal_steps
from stepfold.schedules._fit import IDLE, PolynomialFit
from stepfold.schedules.optimal import nearly_optimal_steps
from stepfold.schedules.ordering import safe_order

# Gradients at the solutions below this, in units of rounding, are rounding.
EXACT = 100
# A fit this close to the best polynomial, relative to what no polynomial reaches, is as good.
NEGLIGIBLE = 1e-12
# Lengths of shorter schedules to start a fit from.
CHAIN = 8
AWAKE = 0.05


@torch.no_grad()
def train_exactly(
    problem: Problem[Any], solutions: Any, period: int, *, x0: Any = None
) -> TrainingRun:
    """Steps that minimise the mean squared error of T gradient steps on a batch of problems.

    What `train_incrementally` on the same batch approaches, without iterating: T products of the
    Hessian with the batch, one gradient to see whether the data are exact, and nothing to tune.

    Args:
        problem: `LeastSquares` or `Quadratic`, over NumPy arrays, sparse arrays,
            ``LinearOperator`` or dense torch tensors on any device, with right-hand sides
            (batch, m) as they were observed: noise in them is taken into account.
        solutions: What the last iterates should be, shape (batch, n); (n,) for one problem.
        period: T.
        x0: Start, of the shape of ``solutions``; 0 if not given.

    Returns:
        A run of one stage whose schedule has T positive steps in a safe order. Its loss is the
        mean squared error per coordinate, as `SampledLoss` gives it, and its mean squared error
        that relative to the start. If the right-hand sides are exact, no T steps are better for
        this batch. With noise none are either, unless the best polynomial has complex roots: then a
        local minimum over positive steps comes back.

    Raises:
        TypeError: If ``problem`` is not one of the two, or anything is not real, or arrays meet
            tensors.
        ValueError: If shapes, or dtypes and devices of tensors, do not fit, ``x0`` is a solution
            already, products overflow, or the data touch fewer than T distinct eigenvalues.

    References:
        Derived in ``docs/theory/exact-training.md``.

    >>> from stepfold import Quadratic
    >>> hessian, solutions = np.diag([1.0, 3.0]), np.ones((1, 2))
    >>> train_exactly(Quadratic(hessian, solutions @ hessian), solutions, 1).schedule.steps
    array([0.4])
    """
    period = check_period(period)
    if not isinstance(problem, (LeastSquares, Quadratic)):
        raise TypeError(
            f"`problem` must be LeastSquares or Quadratic, got {type(problem).__name__}; "
            "train other iterations by backpropagation"
        )
    start = time.perf_counter()
    term: Any = problem.linear_term
    if dtype_kind(term.dtype) == "c":
        raise TypeError(
            f"`problem` must be real, got {term.dtype}; write real and imaginary parts as "
            "coordinates of their own"
        )
    _check_rows("solutions", solutions, term)
    if x0 is not None:
        _check_rows("x0", x0, term)
    errors = solutions if x0 is None else solutions - x0
    if not abs(errors).max() > 0:
        raise ValueError(
            "`solutions` must differ from the start somewhere; there is nothing to learn"
        )
    descent = term if x0 is None else -problem.gradient(x0)
    if _is_exact(problem, solutions, descent):
        measure = error_measure(problem.hessian, errors, num_steps=period)
        schedule = optimal_steps(measure, period)
        relative = float(mean_squared_error_path(schedule, measure)[-1])
    else:
        schedule, relative = _fit_to_noisy(problem.hessian, descent, errors, period)
    schedule = Schedule(schedule.steps, "exactly trained", schedule.order)
    flat = _flat(errors)
    loss = relative * float((flat * flat).mean())
    history = TrainingHistory(
        steps=schedule.steps[None],
        losses=np.array([[loss]]),
        seconds=np.array([time.perf_counter() - start]),
        mean_squared_errors=np.array([relative]),
        num_layers=np.array([period]),
    )
    return TrainingRun(schedule, history, num_iterations=1, seed=0)


def _check_rows(name: str, rows: Any, term: Any) -> None:
    rows = without_labels(name, rows)
    if not hasattr(rows, "shape") or tuple(rows.shape) != tuple(term.shape):
        shape = tuple(getattr(rows, "shape", ()))
        raise ValueError(
            f"`{name}` must have the shape of the problem's solutions, {tuple(term.shape)}, got "
            f"{shape or type(rows).__name__}"
        )
    if isinstance(term, Tensor) != isinstance(rows, Tensor):
        raise TypeError(
            f"`{name}` must be what the problem is made of, {type(term).__name__}, got "
            f"{type(rows).__name__}; convert one of them"
        )
    if dtype_kind(rows.dtype) not in "buif" or isinstance(rows, np.ma.MaskedArray):
        found = "a masked array" if isinstance(rows, np.ma.MaskedArray) else rows.dtype
        raise TypeError(f"`{name}` must be real numbers, got {found}")
    if isinstance(rows, Tensor) and (rows.dtype, rows.device) != (term.dtype, term.device):
        raise ValueError(
            f"`{name}` must have the dtype and the device of the problem, {term.dtype} on "
            f"{term.device}, got {rows.dtype} on {rows.device}; convert it by `.to(...)`"
        )
    if not math.isfinite(float(abs(rows).max())):  # a sum would overflow in half precision
        raise ValueError(f"`{name}` must be finite, got nan or inf; leave out such rows")


def _is_exact(problem: Problem[Any], solutions: Any, descent: Any) -> bool:
    """Whether the gradient vanishes at the solutions up to rounding."""
    left: Any = problem.gradient(solutions)
    eps = 2.0 ** (-52 if solutions.dtype.itemsize >= 8 else -23)
    scale = float(abs(descent).max())
    return float(abs(left).max()) <= EXACT * eps * scale


def _fit_to_noisy(
    hessian: Operator, descent: Any, errors: Any, period: int
) -> tuple[Schedule, float]:
    """Steps, and their squared error relative to that of the start."""
    krylov = _Krylov.of(hessian, descent, errors, period)
    unit = krylov.nodes[-1]
    seen = krylov.nodes > 1e-14 * unit
    nodes, shares = krylov.nodes[seen], krylov.shares[seen]
    # Along node θ the iterate is share·(1 − p(θ))/θ, and should be `wanted`.
    full = shares / nodes
    fit = PolynomialFit(nodes / unit, full, full - krylov.wanted[seen])
    best = fit.refine(np.maximum((unit / krylov.roots).real, IDLE))
    if fit.value(best) > NEGLIGIBLE * krylov.unreachable:
        # Complex roots. Shorter fits, filled up with steps that do nothing, lead to good minima.
        measure = SpectralMeasure(nodes / unit, full * full)
        filled = np.full(period, IDLE)
        for length in np.unique(np.geomspace(1, period, CHAIN).round().astype(int)).tolist():
            shorter = nearly_optimal_steps(measure, min(length, nodes.size))
            start = np.concatenate([shorter, filled])[:period]
            # Steps that do nothing stay where they are unless they are made to do a little.
            woken = (np.maximum(steps, AWAKE) for steps in (start, best))
            best = min(best, *map(fit.refine, (start, *woken)), key=fit.value)
    schedule = Schedule(np.maximum(best, IDLE) / unit, "fitted").reordered(safe_order(period))
    return schedule, krylov.unreachable + fit.value(best)


@dataclass(frozen=True, eq=False)
class _Krylov:
    """The batch in the orthonormal basis of T Lanczos steps; squares relative to ``‖errors‖²``.

    ``nodes`` are the Ritz values, ascending, ``shares`` the components of the descent direction,
    ``wanted`` those of the errors, ``unreachable`` the squared norm of what no q reaches, and
    ``roots`` those of the best p, T complex numbers.
    """

    nodes: FloatArray
    shares: FloatArray
    wanted: FloatArray
    unreachable: float
    roots: Any

    @classmethod
    def of(cls, hessian: Operator, descent: Any, errors: Any, period: int) -> _Krylov:
        shape = tuple(descent.shape)
        target = _flat(errors)
        direction = _flat(descent)
        norm, target_norm = _norm(direction), _norm(target)
        if not math.isfinite(norm):
            raise _overflow(descent)
        if norm == 0:
            raise ValueError("the gradient at the start is 0: no step size moves it")
        size = math.sqrt(direction.shape[0])
        coefficients: list[float] = []

        def product(vector: Any) -> Any:
            coefficients.append(float(vector @ target))
            rows = vector.reshape(shape)
            if not isinstance(vector, np.ndarray):  # tensors multiply only their like
                # Entries near 1 do not vanish in half precision.
                rows = (size * rows).to(descent.dtype)
            image: Any = hessian @ (rows if rows.ndim == 1 else rows.T)
            image = _flat(image if rows.ndim == 1 else image.T)
            if isinstance(vector, np.ndarray):
                return image
            if not bool(image.isfinite().all()):
                raise _overflow(descent)
            return image / size

        steps = lanczos(product, direction, period)
        if steps.diagonal.size < period:
            raise ValueError(
                f"`period` must be at most {steps.diagonal.size}, the number of distinct "
                f"eigenvalues that the data touch, got {period}"
            )
        nodes, vectors = Tridiagonal(steps.diagonal, steps.off_diagonal).eigh()
        wanted = np.array(coefficients) / target_norm
        reached = float((wanted**2).sum())
        return cls(
            nodes,
            norm / target_norm * vectors[0],
            wanted @ vectors,
            max(1 - reached, 0.0),
            _roots(steps, norm / target_norm, wanted),
        )


def _overflow(descent: Any) -> ValueError:
    return ValueError(
        f"`problem` overflows: a product with its Hessian is not finite in {descent.dtype}; scale "
        "the data, or give them in higher precision"
    )


def _roots(steps: Tridiagonal, norm: float, coefficients: FloatArray) -> Any:
    """Roots of ``1 − λ ∑ cₖ qₖ(λ)``: eigenvalues of the comrade matrix of the orthonormal qₖ.

    References:
        Barnett, A companion matrix analogue for orthogonal polynomials (Linear Algebra Appl. 12,
        1975).
    """
    off = steps.off_diagonal[:-1]
    matrix = np.diag(steps.diagonal) + np.diag(off, 1) + np.diag(off, -1)
    remainder = -matrix @ coefficients
    remainder[0] += norm
    last = coefficients[-1]
    tiny = np.finfo(float).eps * float(np.abs(coefficients).max())
    comrade = matrix.copy()
    comrade[-1] += remainder / (last if abs(last) > tiny else tiny)
    return np.linalg.eigvals(comrade)


def _flat(rows: Any) -> Any:
    """Rows as one float64 vector, where they are."""
    if isinstance(rows, np.ndarray):
        return np.asarray(rows, dtype=np.float64).reshape(-1)
    return rows.double().reshape(-1)


def _norm(vector: Any) -> float:
    return math.sqrt(float((vector * vector).sum()))
