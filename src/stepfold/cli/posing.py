"""What a matrix and right-hand sides pose: a symmetric system, or least squares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
import numpy as np

from stepfold.planner import plan
from stepfold.problems import LeastSquares, Quadratic
from stepfold.ridge import RidgeChoice, choose_ridge
from stepfold.schedules import SCHEDULES, Schedule
from stepfold.solve import default_rtol
from stepfold.spectrum import SpectralBounds, estimate_bounds

KINDS = ("auto", "least-squares", "symmetric")
# A difference from the transpose below this share of the largest entry is rounding.
SYMMETRIC_TO = 1e-10
ROWS_AT_ONCE = 256
INDEFINITE = ", for the matrix is symmetric but indefinite"


@dataclass(frozen=True)
class Asked:
    """What options say of a problem and of the steps on it.

    Args:
        rtol: Tolerance on the gradient norm; the one that a solve takes if None.
        kind: One of `KINDS`.
        ridge: Weight of a ridge term; None to have it chosen.
        noise: Standard deviation of the noise, for that choice.
        bounds: Bounds of the spectrum.
        period: T.
    """

    rtol: float | None
    kind: str
    ridge: float | None
    noise: float | None
    bounds: SpectralBounds | None
    period: int | None

    def tolerance(self, problem: Any) -> float:
        """What a plan is made for."""
        if self.rtol is not None:
            return self.rtol
        return default_rtol(problem.rhs if hasattr(problem, "rhs") else problem.linear_term)


@dataclass(frozen=True)
class Posed:
    """A problem, and why it is posed so.

    Args:
        problem: The problem.
        why: The reason, to be read after the file's name.
        bounds: Bounds of its spectrum, if they came up and have a positive lower end.
        num_products: Products that finding out took.
    """

    problem: LeastSquares[Any] | Quadratic[Any]
    why: str
    bounds: SpectralBounds | None = None
    num_products: int = 0


def known_steps(
    asked: Asked, problem: Any, bounds: SpectralBounds | None, method: str | None
) -> tuple[Schedule, int]:
    """The schedule asked for, and products that its bounds took."""
    known = asked.bounds or bounds
    advice = plan(problem, rtol=asked.tolerance(problem), period=asked.period, bounds=known)
    schedule = advice.schedule
    if method is not None:
        schedule = SCHEDULES[method](advice.bounds, schedule.period)
    return schedule, 0 if known else advice.bounds.num_products


def pose(matrix: Any, rhs: Any, kind: str, ridge: float, *, look: bool = True) -> Posed:
    """Pose a problem.

    Args:
        matrix: Dense, or sparse by rows.
        rhs: One right-hand side, or one per row.
        kind: One of `KINDS`; "auto" takes a symmetric matrix as it is unless it is seen to have a
            negative eigenvalue.
        ridge: Weight of a ridge term, which goes with least squares.
        look: Look at the spectrum of a symmetric matrix. Whoever solves by conjugate gradients
            sees a negative eigenvalue that matters on the way.

    Raises:
        click.UsageError: If a ridge term is asked for on a symmetric system.
        ValueError: If shapes do not fit or an entry is not finite.
    """
    if kind == "symmetric":
        if ridge:
            raise click.UsageError("--ridge goes with least squares; add it to the matrix instead")
        return Posed(Quadratic(matrix, rhs), "a symmetric system, as asked for")
    reason = ", as asked for" if kind == "least-squares" else _why_least_squares(matrix, ridge)
    if reason:
        return Posed(LeastSquares(matrix, rhs, ridge=ridge), f"least squares{reason}")
    if not look:
        return Posed(Quadratic(matrix, rhs), "a symmetric system")
    try:
        bounds = estimate_bounds(matrix)
    except ValueError:  # it has a negative eigenvalue
        return Posed(LeastSquares(matrix, rhs), f"least squares{INDEFINITE}")
    what = "positive definite" if bounds.lower > 0 else "positive semidefinite"
    # Bounds whose lower end is unknown are left to the planner, which looks harder.
    known = bounds if bounds.lower > 0 else None
    return Posed(Quadratic(matrix, rhs), f"a symmetric {what} system", known, bounds.num_products)


def _why_least_squares(matrix: Any, ridge: float) -> str | None:
    """What is seen at once; None for a symmetric matrix that may have no negative eigenvalue."""
    if ridge:
        return " with a ridge term"
    if matrix.shape[0] != matrix.shape[1]:
        return ", for the matrix is not square"
    if not _is_hermitian(matrix):
        return ", for the matrix is not symmetric"
    return INDEFINITE if (matrix.diagonal().real < 0).any() else None


def find_ridge(asked: Asked, matrix: Any, rhs: Any) -> tuple[float, RidgeChoice | None]:
    """The weight that ``--ridge`` gives, or that it leaves to be chosen, and how that was done."""
    if asked.ridge is not None:
        if asked.noise is not None:
            raise click.UsageError("--noise goes with --ridge auto")
        return asked.ridge, None
    if asked.kind == "symmetric":
        raise click.UsageError("--ridge goes with least squares; add it to the matrix instead")
    if rhs is None:
        raise click.UsageError(
            "--ridge auto needs a right-hand side; give one to `stepfold explain --rhs` or "
            "`stepfold solve`"
        )
    choice = choose_ridge(LeastSquares(matrix, rhs), noise=asked.noise)
    return choice.ridge, choice


def _is_hermitian(matrix: Any) -> bool:
    largest, difference = 0.0, 0.0
    if 0 in matrix.shape:
        return True  # refused where it is posed
    for block, mirrored in _blocks(matrix):
        largest = max(largest, float(abs(block).max()))
        difference = max(difference, float(abs(block - mirrored).max()))
    return difference <= SYMMETRIC_TO * largest


def _blocks(matrix: Any) -> Iterator[tuple[Any, Any]]:
    """Rows of the matrix and of its adjoint; of a dense one a few at a time, to spare memory."""
    kind = np.result_type(matrix.dtype, np.float32)  # differences of bytes would wrap
    if hasattr(matrix, "tocsr"):
        yield matrix.astype(kind), matrix.astype(kind).conj().T.tocsr()
        return
    for first in range(0, len(matrix), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        yield matrix[rows].astype(kind), matrix[:, rows].conj().T.astype(kind)
