"""Optimal steps: the smallest mean squared error that T steps can have, without training.

``∫ p² dμ`` over polynomials of degree T with p(0) = 1 is smallest for one whose roots are the T
Gauss quadrature nodes of ``λ dμ(λ)``. They are simple, real and inside the support of μ, so their
reciprocals are step sizes; up to order no other schedule is as good.
"""

from __future__ import annotations

from stepfold._checks import check_count
from stepfold.measure import SpectralMeasure
from stepfold.schedules.base import SCHEDULES, Schedule
from stepfold.spectrum import SpectralBounds


@SCHEDULES.register("optimal")
def optimal_steps(spectrum: SpectralMeasure | SpectralBounds, period: int) -> Schedule:
    """Steps with the smallest mean squared error over a spectrum.

    Args:
        spectrum: How the error is spread over the eigenvalues. Bounds alone stand for the uniform
            density on them.
        period: T, the number of steps before the schedule repeats.

    Returns:
        A schedule of shape (T,), in units of 1 / Hessian, in Leja order, which knows of clusters
        and outliers. Its mean squared error is `optimal_mean_squared_error(spectrum, T)`.

        That holds as far as step sizes of 16 digits can express it. For few eigenvalues far apart
        and many steps (κ = 1e8, 300 eigenvalues in geometric progression, T from about 35 on) roots
        fall on eigenvalues between which the polynomial is astronomic, and no list of floats will
        do; compare `mean_squared_error` with the optimum, and take a shorter period, or the measure
        that `ensemble_measure` makes.

    Raises:
        ValueError: If the measure has fewer than T distinct nodes above 0: fewer steps already
            reach the smallest error, and no further step has a best size.

    References:
        Gautschi, Orthogonal Polynomials: Computation and Approximation (2004), section 1.4 (Gauss
        quadrature); Golub and Meurant, Matrices, Moments and Quadrature (2010), section 6.2.

    >>> optimal_steps(SpectralMeasure.from_eigenvalues([1.0, 3.0]), 1).steps
    array([0.4])
    """
    period = check_count("period", period)
    bounds = builder = None
    if isinstance(spectrum, SpectralBounds):
        bounds, builder = spectrum, "optimal"
        spectrum = SpectralMeasure.uniform(spectrum, num_nodes=max(256, period + 1))
    if not isinstance(spectrum, SpectralMeasure):
        raise TypeError(
            "`spectrum` must be a SpectralMeasure or SpectralBounds, got "
            f"{type(spectrum).__name__}; wrap eigenvalues as "
            "`SpectralMeasure.from_eigenvalues(values)`"
        )
    roots = spectrum.gauss_nodes_of_weighted(period)
    if roots.size < period:
        raise ValueError(
            f"`period` must not exceed the number of distinct eigenvalues above 0, which is "
            f"{roots.size}, got {period}; {roots.size} steps reach the smallest error already"
        )
    return Schedule(1 / roots, "optimal", bounds=bounds, builder=builder).reordered("leja")
