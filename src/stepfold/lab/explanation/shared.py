"""The best steps that layers can share: those that repeat after p of T layers.

Their residual polynomial is a product of powers, and its mean square has no minimum in closed form.
Over the logarithms of the p steps it is minimised from several starts, by the slopes that a
training follows, added up over the layers that share a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from stepfold._typing import FloatArray
from stepfold.schedules import Schedule

LogError = Callable[[FloatArray], tuple[float, FloatArray]]
"""Of T steps: logarithm of the mean squared error, and its slopes ``γₜ ∂ log MSE/∂γₜ``."""

# A step may be so many times shorter or longer than 1/λ_max and 1/λ_min.
REACH = 1e6


def period_of(steps: FloatArray) -> int:
    """Smallest p after which the steps repeat exactly; T if they do not.

    >>> period_of(np.array([0.1, 0.2, 0.1])), period_of(np.array([0.1, 0.2, 0.3]))
    (2, 3)
    """
    for period in range(1, steps.size):
        if np.array_equal(steps[period:], steps[:-period]):
            return period
    return int(steps.size)


def added_up(slopes: FloatArray, period: int) -> FloatArray:
    """Slopes with respect to what layers share, shape (p,).

    >>> added_up(np.array([1.0, 2.0, 3.0]), 2)
    array([4., 2.])
    """
    total: FloatArray = np.zeros(period)
    np.add.at(total, np.arange(slopes.size) % period, slopes)
    return total


def best_shared_steps(
    log_error: LogError, starts: Sequence[FloatArray], num_layers: int, reach: tuple[float, float]
) -> Schedule:
    """A local minimum over steps that repeat, the best of those that the starts lead to.

    Args:
        log_error: What is minimised.
        starts: Values that layers share, shape (p,).
        num_layers: T.
        reach: Smallest and largest eigenvalue above 0.

    Returns:
        T steps, no worse than any start.
    """
    from scipy.optimize import minimize

    period = starts[0].size

    def shared(logarithms: FloatArray) -> tuple[float, FloatArray]:
        value, slopes = log_error(np.resize(np.exp(logarithms), num_layers))
        return value, added_up(slopes, period)

    limits = (-np.log(REACH * reach[1]), np.log(REACH / reach[0]))
    found = [
        minimize(
            shared,
            np.clip(np.log(start), *limits),
            jac=True,
            method="L-BFGS-B",
            bounds=[limits] * period,
            options={"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-9},
        )
        for start in starts
    ]
    best = min(found, key=lambda each: float(each.fun))
    return Schedule(np.resize(np.exp(best.x), num_layers), f"best of period {period}")
