"""A schedule as a preconditioner: a fixed symmetric polynomial of A.

Running T steps from 0 on ``Az = r`` gives ``z = q(A) r`` with ``I − A q(A) = p(A)``, p the
residual polynomial of the steps. So ``q(λ) = (1 − p(λ))/λ``, and ``A q(A)`` has the eigenvalues
``1 − p(λ)``.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from stepfold._arrays import is_torch
from stepfold._checks import check_matrix, check_square
from stepfold.interop.scipy._inputs import convert, system_dtype
from stepfold.polynomial import extrema_between, residual_polynomial
from stepfold.schedules import Schedule
from stepfold.schedules.base import check_schedule
from stepfold.spectrum import SpectralBounds, estimate_bounds
from stepfold.spectrum.bounds import check_bounds


def as_preconditioner(A: Any, schedule: Schedule, *, bounds: SpectralBounds | None = None) -> Any:
    """``q(A)`` with ``I − A q(A) = p(A)``, to be given to SciPy's solvers as ``M``.

    It makes no inner products, and is the same linear map at each application, which conjugate
    gradients need.

    Args:
        A: Hermitian positive definite matrix of shape (n, n): ndarray, sparse array or
            ``LinearOperator``.
        schedule: T step sizes; one application costs T − 1 products with A.
        bounds: Interval [a, b] of the eigenvalues of A, on which ``|p| < 1`` is checked; estimated
            if not given. Of a lower end of 0 the point 0 itself is left out.

    Returns:
        A ``LinearOperator`` of the shape of A, symmetric to rounding. Its products with A have
        eigenvalues in [1 − ρ, 1 + ρ], ρ the largest ``|p|`` on the interval.

    Raises:
        TypeError: If ``schedule`` is not a `Schedule`, or A is no matrix; for a complex A also if
            ``bounds`` are not given.
        ValueError: If A is not square, or ``|p|`` reaches 1 on the interval, which says where: q
            may then not be positive definite.

    >>> from scipy.sparse.linalg import cg
    >>> from stepfold import chebyshev_steps
    >>> A = np.diag(np.linspace(1.0, 100.0, 200))
    >>> schedule = chebyshev_steps(SpectralBounds(1.0, 100.0), 8)
    >>> x, info = cg(A, A @ np.ones(200), M=as_preconditioner(A, schedule))
    >>> info, x.round(4).min(), x.round(4).max()
    (0, np.float64(1.0), np.float64(1.0))
    """
    from scipy.sparse.linalg import LinearOperator

    check_schedule(schedule, or_none=False)
    matrix = check_matrix("A", A, allow_complex=True, looks=False)
    check_square("A", matrix)
    if is_torch(matrix):
        raise TypeError("`A` must be a matrix or an operator of NumPy or SciPy, got a tensor")
    dtype = system_dtype(matrix.dtype)
    if bounds is None:
        if dtype.kind == "c":
            raise TypeError("`bounds` must be given for a complex `A`, got None")
        bounds = estimate_bounds(matrix)
    _check_contraction(schedule, bounds)
    matrix = convert(matrix, dtype)
    # Not a function in here, which could not be copied to other processes.
    apply = functools.partial(_apply, matrix, list(schedule))
    return LinearOperator(
        matrix.shape, matvec=apply, rmatvec=apply, matmat=apply, rmatmat=apply, dtype=dtype
    )


def _apply(matrix: Any, steps: list[float], residual: Any) -> Any:
    residual = np.asarray(residual)
    z = steps[0] * residual
    for gamma in steps[1:]:
        z = z + gamma * (residual - matrix @ z)
    return z


def _check_contraction(schedule: Schedule, bounds: SpectralBounds) -> None:
    check_bounds(bounds, or_none=False)
    inner = extrema_between(schedule.steps)
    inside = inner[(inner > bounds.lower) & (inner < bounds.upper)]
    points = np.concatenate([[bounds.lower], inside, [bounds.upper]])
    points = points[points > 0]
    values = residual_polynomial(schedule, points)
    if points.size and np.abs(values).max() < 1:
        return
    if not points.size:
        raise ValueError("`A` must not be zero, got an upper bound of 0.0 for its eigenvalues")
    worst = int(np.abs(values).argmax())
    raise ValueError(
        "`schedule` must have |p| < 1 on the spectrum of `A` to be a positive definite "
        f"preconditioner, got p({points[worst]:.6g}) = {values[worst]:.6g} with eigenvalues in "
        f"[{bounds.lower:.6g}, {bounds.upper:.6g}]; build the schedule from these bounds"
    )
