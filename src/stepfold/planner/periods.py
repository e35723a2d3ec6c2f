"""How long a period of Chebyshev steps should be."""

from __future__ import annotations

import math

from stepfold.polynomial import chebyshev_period_rate
from stepfold.spectrum import SpectralBounds

# Fourth-kind steps shrink the smallest eigenvalues' share the more, the longer the period.
PERIOD_WITHOUT_LOWER = 128
LONGEST_PERIOD = 1024
"""Longest period for which the default orders are shown to be safe in float64."""
_OUT_OF_REACH = 10**15


def period_without_lower(bounds: SpectralBounds) -> int:
    """Twice √κ for the κ seen from inside; beyond, a longer period gains nothing."""
    lowest = bounds.reached_lower or bounds.lower
    if lowest == 0:
        return PERIOD_WITHOUT_LOWER
    root = math.sqrt(bounds.upper) / math.sqrt(lowest)
    return math.ceil(min(max(PERIOD_WITHOUT_LOWER, 2 * root), LONGEST_PERIOD))


def shortest_good_period(bounds: SpectralBounds, rtol: float) -> int:
    """The shortest T with which at most a tenth more steps are taken than with one long period.

    Args:
        bounds: Interval [a, b] with a > 0.
        rtol: The reduction of the gradient that is asked for.
    """
    single = _period_for(bounds, rtol)
    # Each period loses up to a factor of 2, so that about 0.15·log(1/rtol) of them cost a tenth;
    # without the limit an ill-conditioned problem would be looked at for minutes.
    most = min(math.ceil(single / 8), 2 + math.ceil(-0.5 * math.log(rtol)))
    for num_periods in range(max(1, most), 0, -1):
        period = _period_for(bounds, rtol ** (1 / num_periods))
        if num_periods * period <= 1.1 * single:
            return min(period, LONGEST_PERIOD)
    return min(single, LONGEST_PERIOD)


def _period_for(bounds: SpectralBounds, rate: float) -> int:
    """Smallest T for which Chebyshev steps have at most ``rate`` per period."""
    if bounds.lower == bounds.upper:
        return 1
    exponent = 2 * math.atanh(math.sqrt(bounds.lower / bounds.upper))
    # acosh(1/rate), where 1/rate may be too large for a float.
    angle = math.acosh(1 / rate) if rate > 1e-100 else math.log(2) - math.log(rate)
    if angle >= exponent * _OUT_OF_REACH:
        return _OUT_OF_REACH
    period = max(1, math.ceil(angle / exponent * (1 - 1e-12)))
    if period > LONGEST_PERIOD**2:
        return period  # nobody takes so many: one more or less does not matter
    return period if chebyshev_period_rate(bounds, period) <= rate * (1 + 1e-9) else period + 1
