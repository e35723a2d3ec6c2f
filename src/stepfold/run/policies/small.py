"""Steps of conjugate gradients on a small matrix, many to a call.

Where a product takes a few microseconds, arrays of one number and looks after every step take most
of the time. Here numbers are numbers, and vectors are changed in place.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepfold._arrays import add_scaled, dot, is_numpy
from stepfold.kernels import Steps
from stepfold.operators import apply
from stepfold.problems import LeastSquares, QuadraticProblem

# Stored entries up to which a product takes some tenths of a millisecond at most.
MOST_ENTRIES = 2**19
DTYPES = ("float64", "complex128")


def is_small(problem: QuadraticProblem[Any], x: Any) -> bool:
    """Whether `small_steps` serves: one right-hand side, NumPy and SciPy, double precision."""
    if not is_numpy(x) or x.ndim != 1 or x.dtype not in DTYPES:
        return False
    operator: Any = problem.operator if isinstance(problem, LeastSquares) else problem.hessian
    if not (is_numpy(operator) or hasattr(operator, "tocsr")) or operator.dtype not in DTYPES:
        return False
    num_entries = operator.size if is_numpy(operator) else operator.nnz
    return bool(max(num_entries, *operator.shape) <= MOST_ENTRIES)


def small_steps(
    problem: QuadraticProblem[Any],
    residual: Any,
    vectors: tuple[Any, Any, Any],
    scalars: tuple[float, float, float, bool],
    *,
    stop: float,
    better: tuple[float, float],
    flat: tuple[float, float],
    num_steps: int,
) -> Steps:
    """Make steps, in place.

    Args:
        problem: One that `is_small`.
        residual: ``Ax − b`` of least squares, which is carried along; None for a quadratic.
        vectors, scalars, stop, better, flat: As `stepfold.kernels.ConjugateBlock` takes them.
        num_steps: Most steps.
    """
    x, g, p = vectors
    square, before, lengths, is_fresh = scalars
    least, largest = better[0], flat[0]
    done: list[tuple[float, ...]] = []
    failed = saved = None
    for _ in range(num_steps):
        ratio = 0.0
        if is_fresh:
            np.negative(g, out=p)
            lengths = square
        else:
            ratio = square / before if before > 0 else 0.0
            p *= ratio
            p -= g
            lengths = square + ratio * ratio * lengths
        is_fresh = False
        if isinstance(problem, LeastSquares):
            image = apply(problem.operator, p)
            curvature = dot(image, image) + problem.ridge * lengths
        else:
            image = problem.product(p)
            curvature = dot(p, image)
        quotient = curvature / lengths if lengths > 0 else 0.0
        if math.isfinite(quotient):
            largest = max(largest, quotient)
        if not (quotient > flat[1] * largest and math.isfinite(quotient)):
            failed = np.array([ratio, lengths, curvature])
            break
        alpha = square / curvature
        add_scaled(x, alpha, p)
        if isinstance(problem, LeastSquares):
            add_scaled(residual, alpha, image)
            g[...] = problem.adjoint_product(residual)
            if problem.ridge:
                add_scaled(g, problem.ridge, x)
        else:
            add_scaled(g, alpha, image)
        after = dot(g, g)
        if after > square and square < least:
            saved = x - alpha * p, square
            least = square * better[1]
        done.append((ratio, lengths, curvature, alpha, after))
        before, square = square, after
        if not after > stop or not math.isfinite(after):
            break
    return Steps(np.array(done).reshape(-1, 5), failed, saved)
