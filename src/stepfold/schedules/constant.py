"""One step size for every iteration: the schedules to beat."""

from __future__ import annotations

import numpy as np

from stepfold._checks import check_period
from stepfold.schedules.base import SCHEDULES, Schedule, check_lower, check_upper
from stepfold.spectrum import SpectralBounds


@SCHEDULES.register("constant")
def constant_steps(bounds: SpectralBounds, period: int = 1) -> Schedule:
    """Steps ``2/(a + b)``: the best constant step in the worst case.

    Args:
        bounds: Interval [a, b] with a > 0, in units of the Hessian.
        period: T, how often the step is listed before the schedule repeats.

    Returns:
        A schedule of shape (T,), in units of 1 / Hessian; its factor per step is
        `constant_rate(bounds)`.

    Raises:
        ValueError: If ``bounds.lower`` is 0, where 2/b would not converge.

    References:
        Nesterov, Lectures on Convex Optimization (2018), section 2.1.5.

    >>> constant_steps(SpectralBounds(1.0, 3.0)).steps
    array([0.5])
    """
    period = check_period(period)
    check_lower("constant_steps", bounds)
    step = 2 / (bounds.lower + bounds.upper)
    return Schedule(np.full(period, step), "constant", "ascending", bounds, "constant")


@SCHEDULES.register("inverse-upper-bound")
def inverse_upper_bound_steps(bounds: SpectralBounds, period: int = 1) -> Schedule:
    """Steps ``1/b``: half as long as is safe, and no lower bound is needed.

    Args:
        bounds: Interval [a, b]; only b is looked at.
        period: T, how often the step is listed before the schedule repeats.

    Returns:
        A schedule of shape (T,), in units of 1 / Hessian; its factor per step is 1 − a/b.

    Raises:
        ValueError: If ``bounds.upper`` is 0.

    References:
        Nesterov, Lectures on Convex Optimization (2018), section 2.1.5.

    >>> inverse_upper_bound_steps(SpectralBounds(0.0, 4.0), 2).steps
    array([0.25, 0.25])
    """
    period = check_period(period)
    check_upper("inverse_upper_bound_steps", bounds)
    steps = np.full(period, 1 / bounds.upper)
    return Schedule(steps, "inverse upper bound", "ascending", bounds, "inverse-upper-bound")
