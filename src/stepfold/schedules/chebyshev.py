"""Chebyshev steps: reciprocals of the roots of Chebyshev polynomials moved to the spectrum.

First kind: p has the smallest maximum over [a, b], for any T. Second kind: p has the smallest mean
square over the semicircle density weighted by 1/λ, which is the Marchenko–Pastur law of large
Gaussian matrices; there these are the optimal steps. Fourth kind: √λ·|p| has the smallest maximum
over [0, b]. There ``p(b sin²φ) = sin((2T+1)φ) / ((2T+1) sin φ)``, hence T + 1 equal extrema of
√λ·p with alternating signs, and no polynomial with p(0) = 1 can stay below all of them.
"""

from __future__ import annotations

import functools

import numpy as np

from stepfold._checks import check_period
from stepfold.schedules.base import SCHEDULES, Schedule, check_lower, check_upper
from stepfold.schedules.ordering import safe_order
from stepfold.spectrum import SpectralBounds

_NAMES = {1: "Chebyshev", 2: "Chebyshev, second kind", 4: "Chebyshev, fourth kind"}
_BUILDERS = {1: "chebyshev", 2: "chebyshev-second-kind", 4: "chebyshev-fourth-kind"}


def chebyshev_steps(bounds: SpectralBounds, period: int, *, kind: int = 1) -> Schedule:
    """Steps whose residual polynomial is smallest, in the worst case, over ``bounds``.

    Args:
        bounds: Interval [a, b], in units of the Hessian. Kinds 1 and 2 need a > 0; kind 4 looks at
            b only.
        period: T, the number of steps before the schedule repeats.
        kind: 1 for the worst case of the error; 2 for its average over a Marchenko–Pastur spectrum;
            4 for the worst case of √λ times the error (the energy norm, relative to the error at
            the start) where no lower bound is known.

    Returns:
        A schedule of shape (T,), in units of 1 / Hessian, in Lebedev order if T is a power of two
        and in Leja order otherwise. Its worst case is `chebyshev_period_rate` (kinds 1 and 2) or
        `fourth_kind_period_rate`.

    Raises:
        ValueError: If ``bounds.lower`` is 0 and the kind needs it (the optimum then does not
            exist), if ``bounds.upper`` is 0, or if ``kind`` is none of 1, 2 and 4.

    References:
        Takabe and Wadayama, Theoretical Interpretation of Learned Step Size in Deep-Unfolded
        Gradient Descent (arXiv:2001.05142), definition of the Chebyshev step. Fourth kind: Lottes,
        Optimal Polynomial Smoothers for Multigrid V-cycles (Numer. Linear Algebra Appl. 30, 2023,
        e2518; arXiv:2202.08830); Phillips and Fischer, Optimal Chebyshev Smoothers and One-sided
        V-cycles (arXiv:2210.03179).

    >>> chebyshev_steps(SpectralBounds(1.0, 3.0), 2).steps.round(3)
    array([0.369, 0.773])
    >>> chebyshev_steps(SpectralBounds(0.0, 4.0), 1, kind=4).steps.round(6)
    array([0.333333])
    """
    period = check_period(period)
    if not isinstance(kind, int) or kind not in _NAMES:
        raise ValueError(
            f"`kind` must be 1, 2 or 4, got {kind!r}; take 1 for the worst case, 2 for the average "
            "over a random matrix, 4 if no lower bound is known"
        )
    if kind == 4:
        check_upper("chebyshev_steps", bounds)
        angles = np.arange(1, period + 1) * (np.pi / (2 * period + 1))
        roots = bounds.upper * np.sin(angles) ** 2
    else:
        check_lower("chebyshev_steps", bounds)
        if kind == 1:
            half_angles = (2 * np.arange(period) + 1) * (np.pi / (4 * period))
        else:
            half_angles = np.arange(1, period + 1) * (np.pi / (2 * (period + 1)))
        # (a+b)/2 + (b−a)/2 cos φ without the cancellation that costs digits of the roots near a.
        roots = bounds.lower * np.sin(half_angles) ** 2 + bounds.upper * np.cos(half_angles) ** 2
    with np.errstate(over="ignore", divide="ignore"):  # the schedule refuses infinite steps
        schedule = Schedule(1 / roots, _NAMES[kind], bounds=bounds, builder=_BUILDERS[kind])
    return schedule.reordered(safe_order(period))


SCHEDULES.register("chebyshev")(chebyshev_steps)
SCHEDULES.register("chebyshev-second-kind")(functools.partial(chebyshev_steps, kind=2))
SCHEDULES.register("chebyshev-fourth-kind")(functools.partial(chebyshev_steps, kind=4))
