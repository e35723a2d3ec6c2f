"""Chebyshev steps: reciprocals of the roots of Chebyshev polynomials moved to [a, b].

First kind: p has the smallest maximum over [a, b], for any T. Second kind: p has the smallest mean
square over the semicircle density weighted by 1/λ, which is the Marchenko–Pastur law of large
Gaussian matrices; there these are the optimal steps.
"""

from __future__ import annotations

import functools

import numpy as np

from stepfold._checks import check_count
from stepfold.schedules.base import SCHEDULES, Schedule, check_lower
from stepfold.schedules.ordering import safe_order
from stepfold.spectrum import SpectralBounds


def chebyshev_steps(bounds: SpectralBounds, num_steps: int, *, kind: int = 1) -> Schedule:
    """Steps whose residual polynomial is smallest, in the worst case, over ``bounds``.

    Args:
        bounds: Interval [a, b] with a > 0, in units of the Hessian.
        num_steps: T, the number of steps before the schedule repeats.
        kind: 1 for the worst case, 2 for the average over a Marchenko–Pastur spectrum.

    Returns:
        A schedule of shape (T,), in units of 1 / Hessian, in Lebedev order if T is a power of two
        and in Leja order otherwise.

    Raises:
        ValueError: If ``bounds.lower`` is 0 (the optimum then does not exist), or if ``kind`` is
            neither 1 nor 2.

    References:
        Takabe and Wadayama, Theoretical Interpretation of Learned Step Size in Deep-Unfolded
        Gradient Descent (arXiv:2001.05142), definition of the Chebyshev step.

    >>> chebyshev_steps(SpectralBounds(1.0, 3.0), 2).steps.round(3)
    array([0.369, 0.773])
    """
    num_steps = check_count("num_steps", num_steps)
    check_lower("chebyshev_steps", bounds)
    if kind == 1:
        half_angles = (2 * np.arange(num_steps) + 1) * (np.pi / (4 * num_steps))
    elif kind == 2:
        half_angles = np.arange(1, num_steps + 1) * (np.pi / (2 * (num_steps + 1)))
    else:
        raise ValueError(f"`kind` must be 1 or 2, got {kind!r}")
    # (a+b)/2 + (b−a)/2 cos φ without the cancellation that costs digits of the roots near a.
    roots = bounds.lower * np.sin(half_angles) ** 2 + bounds.upper * np.cos(half_angles) ** 2
    name = "Chebyshev" if kind == 1 else "Chebyshev, second kind"
    return Schedule(1 / roots, name).reordered(safe_order(num_steps))


SCHEDULES.register("chebyshev")(chebyshev_steps)
SCHEDULES.register("chebyshev-second-kind")(functools.partial(chebyshev_steps, kind=2))
