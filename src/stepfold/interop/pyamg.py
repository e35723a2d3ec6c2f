"""Stepfold beside PyAMG: Chebyshev steps as the smoothers of its multigrid hierarchies.

A smoother takes T steps ``x ← x + γₜ D⁻¹(b − A x)``, D the diagonal of A, before and after each
correction from the coarser level. It has to shrink the upper part of the spectrum of ``D⁻¹A``,
which the coarser level does not see, so that an upper bound is all that it needs. The same steps
before and after make a symmetric V-cycle, which conjugate gradients may use.

`solver` makes the whole, `change_smoothers` mends a hierarchy that PyAMG or you have made, and
`smoother` serves one level. Written for PyAMG 5.3 and later.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepfold._checks import check_array, check_count, check_share
from stepfold._extras import check_version, not_installed
from stepfold.kernels.smoothing import DiagonalSteps
from stepfold.polynomial import worst_case_period_rate
from stepfold.problems import Preconditioned, Quadratic
from stepfold.schedules import Schedule, ScheduleBuilder, chebyshev_steps
from stepfold.schedules.base import check_schedule
from stepfold.spectrum import (
    Gershgorin,
    Lanczos,
    NotSemidefiniteError,
    SpectralBounds,
    Tightest,
    estimate_bounds,
)

NEED = "`stepfold.interop.pyamg` needs pyamg >= 5.3"
try:
    import pyamg
except ModuleNotFoundError as error:
    raise not_installed(NEED, "pyamg", error) from error
check_version(pyamg, NEED, "pyamg")

__all__ = ["FOURTH_KIND", "Smoother", "change_smoothers", "smoother", "solver"]

FOURTH_KIND: ScheduleBuilder = functools.partial(chebyshev_steps, kind=4)
"""The steps that are taken unless others are asked for; they look at the upper bound only."""
PART = 0.25
"""Lower end of what first-kind steps are made for, as a share of the upper end."""
# A coarse matrix is a product of three, level after level: how many times the rounding of its own
# entries its smallest eigenvalue may be below 0.
COARSENING = 100
# The bound decides within a tenth; a hierarchy has many matrices, so that it must be cheap.
_METHOD = Tightest((Gershgorin(), Lanczos(max_steps=40, rtol=0.1, lower_rtol=None)))


class Smoother:
    """T steps with the matrix of one level, called as PyAMG calls smoothers.

    Args:
        matrix: A of that level, as it is in the hierarchy.
        inverse: The diagonal of D⁻¹, real, shape (n,).
        schedule: The steps, in units of 1 / ``D⁻¹A``.
        bounds: Bounds of the spectrum of ``D⁻¹A``.
    """

    def __init__(
        self, matrix: Any, inverse: Any, schedule: Schedule, bounds: SpectralBounds
    ) -> None:
        self.matrix, self.schedule, self.bounds = matrix, schedule, bounds
        self._steps = DiagonalSteps(matrix.tocsr(), inverse, list(schedule))

    def __call__(self, A: Any, x: Any, b: Any) -> None:
        """Take the steps on ``A x = b``, changing x.

        Args:
            A: The matrix that the smoother was made for.
            x: Array of shape (n,) or (n, 1), changed in place.
            b: Array of the shape of x.

        Raises:
            ValueError: If A is another matrix, for which the bound says nothing.
        """
        if A is not self.matrix:
            raise ValueError(
                "`A` must be the matrix that the smoother was made for, got another one; call "
                "`change_smoothers` again after a level has been changed"
            )
        flat = x.reshape(-1)
        self._steps(flat, b.reshape(-1))
        if not np.shares_memory(flat, x):
            x[...] = flat.reshape(x.shape)

    def __repr__(self) -> str:
        return (
            f"Smoother({self.schedule.period} {self.schedule.name} steps on D⁻¹A, eigenvalues up "
            f"to {self.bounds.upper:.6g})"
        )


def smoother(
    A: Any,
    steps: ScheduleBuilder = FOURTH_KIND,
    degree: int = 2,
    *,
    part: float = PART,
    seed: int = 0,
) -> Smoother:
    """Smoother for one matrix, to be a level's ``presmoother`` and ``postsmoother``.

    Args:
        A: Symmetric or Hermitian positive semidefinite sparse matrix of shape (n, n) with a
            positive diagonal, in any format.
        steps: A family of schedules: `FOURTH_KIND`, ``optimised_fourth_kind_steps``,
            ``chebyshev_steps`` (on the upper part of the spectrum), or anything that makes steps
            from bounds and their number.
        degree: T, the number of steps, each of which costs a product with A.
        part: ``steps`` are made for eigenvalues in [part·b, b], b the upper bound; fourth-kind
            steps look at b only.
        seed: Seed of the random start of `estimate_bounds`.

    Raises:
        TypeError: If A is not a sparse matrix, or ``steps`` makes no schedules.
        ValueError: If A is not square, symmetric, positive semidefinite and finite, as far as
            entries and products show, if its diagonal is not positive, or if the steps would
            amplify an error.

    >>> from pyamg.gallery import poisson
    >>> smoother(poisson((40, 40), format="csr")).bounds.upper
    2.0
    """
    _check_arguments(steps, degree, part)
    _check_matrix(A)
    bounds = _bounds(A, seed)
    return _smoother(A, bounds, steps, degree, part)


def change_smoothers(
    hierarchy: Any,
    steps: ScheduleBuilder = FOURTH_KIND,
    degree: int = 2,
    *,
    part: float = PART,
    seed: int = 0,
) -> list[Smoother]:
    """Put steps in the place of the smoothers on every level of a hierarchy but the coarsest.

    Args:
        hierarchy: ``pyamg.MultilevelSolver`` of a symmetric or Hermitian matrix, from any of
            PyAMG's constructors or made by hand; changed in place.
        steps, degree, part, seed: As in `smoother`.

    Returns:
        The smoothers, finest level first. Each serves before and after the correction.

    Raises:
        TypeError: If it is no hierarchy, or ``steps`` makes no schedules.
        ValueError: As `smoother`, naming the level; the hierarchy is then as it was.

    >>> import pyamg
    >>> hierarchy = pyamg.ruge_stuben_solver(pyamg.gallery.poisson((40, 40), format="csr"))
    >>> change_smoothers(hierarchy, degree=3)[0]
    Smoother(3 Chebyshev, fourth kind steps on D⁻¹A, eigenvalues up to 2)
    """
    if not isinstance(hierarchy, pyamg.MultilevelSolver):
        raise TypeError(
            "`hierarchy` must be a pyamg.MultilevelSolver, got "
            f"{type(hierarchy).__name__}; for a matrix take `solver(A)`"
        )
    _check_arguments(steps, degree, part)
    return _change(hierarchy, steps, degree, part, seed, [])


def solver(
    A: Any,
    B: Any = None,
    *,
    steps: ScheduleBuilder = FOURTH_KIND,
    degree: int = 2,
    part: float = PART,
    seed: int = 0,
) -> Any:
    """Smoothed aggregation with Chebyshev smoothers, as a solver object of PyAMG.

    ``solver(A).solve(b, tol=1e-8, accel="cg")`` solves ``A x = b`` by conjugate gradients
    preconditioned by the V-cycle; ``aspreconditioner()`` gives the cycle to SciPy's solvers.

    Args:
        A: Symmetric or Hermitian positive semidefinite sparse matrix of shape (n, n) with a
            positive diagonal, of real or complex floating-point numbers: CSR, BSR or any format
            that converts to CSR.
        B: Near-nullspace candidates of shape (n, k), as PyAMG takes them; None for constants.
        steps, degree, part, seed: As in `smoother`.

    Returns:
        A ``pyamg.MultilevelSolver``.

    Raises:
        TypeError: If A is not a sparse matrix of floating-point numbers.
        ValueError: As `smoother`.

    >>> from pyamg.gallery import poisson
    >>> A = poisson((64, 64), format="csr")
    >>> x = solver(A).solve(A @ np.ones(4096), tol=1e-10, accel="cg")
    >>> bool(abs(x - 1).max() < 1e-8)
    True
    """
    _check_arguments(steps, degree, part)
    _check_matrix(A)
    if A.dtype.kind not in "fc":
        raise TypeError(
            f"`A` must hold floating-point numbers, got {A.dtype}; convert it with "
            "`A.astype(float)`"
        )
    if A.format not in ("csr", "bsr"):
        A = A.tocsr()
    if B is not None:
        B = check_array("B", B) if np.isrealobj(np.asarray(B)) else np.asarray(B)
        if B.shape[:1] != A.shape[:1] or B.ndim > 2 or not np.isfinite(B).all():
            raise ValueError(
                f"`B` must hold finite columns of {A.shape[0]} entries, got shape {B.shape}"
            )
    bounds = _bounds(A, seed)
    hierarchy = pyamg.smoothed_aggregation_solver(
        A, B=B, symmetry="hermitian", presmoother=None, postsmoother=None
    )
    _change(hierarchy, steps, degree, part, seed, [bounds])
    return hierarchy


def _change(
    hierarchy: Any,
    steps: ScheduleBuilder,
    degree: int,
    part: float,
    seed: int,
    known: Sequence[SpectralBounds],
) -> list[Smoother]:
    """The same with bounds of the finest levels that are ``known``."""
    made = []
    for number, level in enumerate(hierarchy.levels[:-1]):
        try:
            if number < len(known):
                bounds = known[number]
            else:
                _check_matrix(level.A)
                bounds = _bounds(level.A, seed, is_coarse=number > 0)
            made.append(_smoother(level.A, bounds, steps, degree, part))
        except ValueError as error:
            raise ValueError(f"level {number} of the hierarchy: {error}") from None
    for level, smooth in zip(hierarchy.levels, made, strict=False):
        level.presmoother = level.postsmoother = smooth
    hierarchy.symmetric_smoothing = True
    return made


def _smoother(
    A: Any,
    bounds: SpectralBounds,
    steps: ScheduleBuilder,
    degree: int,
    part: float,
) -> Smoother:
    upper = SpectralBounds(0.0, bounds.upper)
    schedule = steps(SpectralBounds(part * bounds.upper, bounds.upper), degree)
    check_schedule(schedule, or_none=False)
    growth = worst_case_period_rate(schedule, upper)
    if growth > 1 + 1e-9:
        raise ValueError(
            "`steps` must not amplify an error, got a residual polynomial that reaches "
            f"{growth:.3g} on [0, {bounds.upper:.6g}]; take `FOURTH_KIND`, or first-kind steps on "
            "a smaller part"
        )
    inverse = (1 / _scale(A)).astype(np.float32 if A.dtype in ("f4", "c8") else np.float64)
    return Smoother(A, inverse, schedule, bounds)


def _check_arguments(steps: Any, degree: int, part: float) -> None:
    check_count("degree", degree)
    check_share("part", part)
    if not callable(steps):
        raise TypeError(
            "`steps` must be a function of bounds and a number of steps such as "
            f"`chebyshev_steps`, got {type(steps).__name__}"
        )


def _check_matrix(A: Any) -> None:
    if not hasattr(A, "tocsr"):
        raise TypeError(
            f"`A` must be a sparse matrix, got {type(A).__name__}; give `scipy.sparse.csr_array(A)`"
        )
    if A.ndim != 2 or A.shape[0] != A.shape[1] or A.shape[0] == 0:
        raise ValueError(f"`A` must be square and not empty, got shape {A.shape}")
    if not np.isfinite(A.tocsr().data).all():
        raise ValueError("`A` must be finite; remove or replace the missing and infinite entries")


def _scale(A: Any) -> Any:
    """The diagonal of D: that of A, and 1 in rows of zeros, of which coarse levels have some."""
    diagonal = A.diagonal().real.astype(np.float64)
    return np.where(diagonal > 0, diagonal, 1.0)


def _bounds(A: Any, seed: int, *, is_coarse: bool = False) -> SpectralBounds:
    """Bounds of the spectrum of D⁻¹A."""
    diagonal = A.diagonal()
    bad = ~(diagonal.real > 0)
    if is_coarse:
        bad &= ~((diagonal == 0) & (abs(A).sum(axis=1) == 0))
    if bad.any():
        index = int(bad.argmax())
        raise ValueError(
            f"`A` must have a positive diagonal, got {diagonal[index]} at index {index}; remove "
            "rows of zeros, and keep PyAMG's `gauss_seidel_nr` or `gmres` for an indefinite matrix"
        )
    matrix, scale = A.tocsr(), _scale(A)
    try:
        try:
            return _bounds_of(matrix, scale, seed)
        except NotSemidefiniteError as error:
            if not is_coarse or -error.eigenvalue > COARSENING * error.rounding:
                raise
            # Lifted above 0, by as much as rounding has put it below.
            from scipy.sparse import diags_array

            lift = diags_array(-2 * error.eigenvalue * scale)
            return _bounds_of((matrix + lift).tocsr(), scale, seed)
    except ValueError as error:
        evidence = str(error).split(";")[0]
        raise ValueError(
            f"`A` must be symmetric (Hermitian) and positive semidefinite: {evidence}; keep "
            "PyAMG's `gauss_seidel_nr` or `gmres` for another one"
        ) from None


def _bounds_of(matrix: Any, scale: Any, seed: int) -> SpectralBounds:
    problem = Preconditioned(Quadratic(matrix, np.zeros(matrix.shape[0], matrix.dtype)), scale)
    return estimate_bounds(problem, method=_METHOD, seed=seed)
