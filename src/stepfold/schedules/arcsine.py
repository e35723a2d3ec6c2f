"""Random steps whose inverses are drawn from the arcsine distribution of the spectrum.

The logarithm of ``|1 − γλ|`` has the same mean for every λ in [a, b], log((√κ − 1)/(√κ + 1)), as
charges on a conductor have the same potential everywhere. So no quadratic is worse than another,
and the rate in the long run is the best that first-order methods can have. They are no family in
``SCHEDULES``: what was drawn may grow where it repeats.
"""

from __future__ import annotations

import numpy as np

from stepfold._checks import check_period
from stepfold.schedules.base import Schedule, check_lower
from stepfold.spectrum import SpectralBounds


def arcsine_steps(
    bounds: SpectralBounds, period: int, *, rng: np.random.Generator | None = None
) -> Schedule:
    """Steps ``1/((a+b)/2 + (b−a)/2 · cos πU)``, U uniform on [0, 1], drawn independently.

    Args:
        bounds: Interval [a, b] with a > 0, in units of the Hessian.
        period: T, the number of steps that are drawn.
        rng: Source of randomness; one with seed 0 if not given, so that the steps are reproducible.

    Returns:
        A schedule of shape (T,), in units of 1 / Hessian, in the order in which it was drawn. The
        geometric mean of ``|p(λ)|^(1/T)`` over draws is ``first_order_lower_bound(bounds)`` for
        every λ in [a, b], and for each coordinate of a separable function. A single draw varies:
        near λ = b the logarithm of ``|p(λ)|`` has a standard deviation of up to ``π√T``, so
        that a short schedule may grow errors. Draw as many steps as the run takes; on quadratics
        `chebyshev_steps` have the same rate for certain.

    Raises:
        TypeError: If ``rng`` is no generator.
        ValueError: If ``bounds.lower`` is 0.

    References:
        Altschuler and Parrilo, Acceleration by Random Stepsizes: Hedging, Equalization, and the
        Arcsine Stepsize Schedule (arXiv:2412.05790), abstract.

    >>> arcsine_steps(SpectralBounds(1.0, 1.0), 2).steps
    array([1., 1.])
    """
    period = check_period(period)
    check_lower("arcsine_steps", bounds)
    if rng is None:
        rng = np.random.default_rng(0)
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"`rng` must be a numpy.random.Generator or None, got {type(rng).__name__}; give "
            "`np.random.default_rng(seed)`"
        )
    # (1 − c) a + (1 + c) b halved: no cancellation near a.
    half = np.pi / 2 * rng.random(period)
    inverse = bounds.lower * np.sin(half) ** 2 + bounds.upper * np.cos(half) ** 2
    return Schedule(1 / inverse, "arcsine", bounds=bounds)
