"""Stepfold beside PETSc: the options that make its multigrid smooth with our bounds.

PETSc's ``KSPCHEBYSHEV`` estimates eigenvalues by Krylov steps, from below, and multiplies by 1.1.
Options that state the ends of the interval switch that off. PETSc itself is not imported.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepfold._checks import check_items, check_text
from stepfold.schedules import Schedule
from stepfold.schedules.base import check_schedule
from stepfold.spectrum.bounds import check_positive_bounds

KINDS = {
    "chebyshev": "first",
    "chebyshev-fourth-kind": "fourth",
    "chebyshev-fourth-kind-optimised": "opt_fourth",
}
"""What PETSc calls our families; the fourth kinds need PETSc 3.19 or later."""
MOST_OPTIMISED = 16
"""PETSc tabulates the optimised fourth kind up to this number of steps."""


def multigrid_options(schedules: Schedule | Sequence[Schedule], *, prefix: str = "") -> str:
    """Options text for the smoothers of PETSc's multigrid (PCMG, GAMG), with D = diag(A).

    Args:
        schedules: One schedule for ``D⁻¹A`` of every level, or one for each level but the
            coarsest, finest first, as the ``schedule`` of each of
            `stepfold.interop.pyamg.change_smoothers`. Their ``bounds`` are what PETSc is told.
        prefix: Prefix of the solver's options, with its underscore.

    Returns:
        Text for ``PETSC_OPTIONS``, a file of options, or ``PetscOptionsInsertString``: a line for
        each option.

    Raises:
        TypeError: If these are not schedules.
        ValueError: If PETSc does not have the family, if the lower end that it insists on is 0,
            or if the optimised fourth kind has more than 16 steps.

    >>> from stepfold import SpectralBounds, chebyshev_steps
    >>> print(multigrid_options(chebyshev_steps(SpectralBounds(0.5, 2.0), 2, kind=4)))
    -mg_levels_ksp_type chebyshev
    -mg_levels_ksp_chebyshev_kind fourth
    -mg_levels_ksp_chebyshev_eigenvalues 0.5,2.0
    -mg_levels_ksp_max_it 2
    -mg_levels_pc_type jacobi
    """
    check_text("prefix", prefix)
    if isinstance(schedules, Schedule):
        return "\n".join(_options(schedules, f"-{prefix}mg_levels_"))
    # PETSc counts from the coarsest level, which is 0 and has no smoother.
    schedules = check_items("schedules", schedules, "Schedule")
    count = len(schedules)
    return "\n".join(
        line
        for number, schedule in enumerate(schedules)
        for line in _options(schedule, f"-{prefix}mg_levels_{count - number}_")
    )


def _options(schedule: Schedule, prefix: str) -> list[str]:
    check_schedule(schedule, or_none=False)
    kind = KINDS.get(schedule.builder or "")
    if kind is None or schedule.bounds is None:
        raise ValueError(
            "`schedules` must be of a family that PETSc has, made from bounds, got "
            f"{schedule.name} steps; take `chebyshev_steps` of kind 1 or 4, or "
            "`optimised_fourth_kind_steps`"
        )
    check_positive_bounds(schedule.bounds)
    if schedule.bounds.lower == 0:
        raise ValueError(
            "`schedules` must have `bounds.lower > 0`, got 0.0: PETSc refuses 0 even where its "
            "steps do not depend on it; give a share of `bounds.upper` such as a quarter"
        )
    if kind == "opt_fourth" and schedule.period > MOST_OPTIMISED:
        raise ValueError(
            f"`schedules` must have at most {MOST_OPTIMISED} optimised steps, of which PETSc has "
            f"a table, got {schedule.period}; take the plain fourth kind"
        )
    return [
        f"{prefix}ksp_type chebyshev",
        f"{prefix}ksp_chebyshev_kind {kind}",
        f"{prefix}ksp_chebyshev_eigenvalues {schedule.bounds.lower!r},{schedule.bounds.upper!r}",
        f"{prefix}ksp_max_it {schedule.period}",
        f"{prefix}pc_type jacobi",
    ]
