"""Optimal steps: the smallest mean squared error that T steps can have, without training.

``∫ p² dμ`` over polynomials of degree T with p(0) = 1 is smallest for one whose roots are the T
Gauss quadrature nodes of ``λ dμ(λ)``. They are simple, real and inside the support of μ, so their
reciprocals are step sizes; up to order no other schedule is as good.

In floating point a root θ that falls on an eigenvalue λ leaves the factor ``1 − λ/θ`` at about
``ε λ_max/θ``: steps are rounded, and so is every gradient. Where the other factors are huge there,
as at an eigenvalue far above the others, that is too much, and no order helps: the root must be
taken twice. So a root whose rounding would cost more than a share of the optimum is fixed at its
eigenvalue, the weights are multiplied by the square of its rounded factor, and the other roots are
found for what is left.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stepfold._checks import check_period
from stepfold._typing import FloatArray
from stepfold.measure import SpectralMeasure
from stepfold.measure._rules import gauss_nodes
from stepfold.measure.base import check_measure
from stepfold.polynomial import mean_squared_error, optimal_mean_squared_error
from stepfold.schedules.base import SCHEDULES, Schedule
from stepfold.spectrum import SpectralBounds

# The mean squared error of the steps is at most this many times the optimum, or they are refused.
SLACK = 1.5
# Of the optimum: what the rounding of one root may cost before the root is fixed and repeated.
SHARE = 1e-4
_EPS = float(np.finfo(np.float64).eps)
# Smaller mean squared errors count as 0: squares underflow.
_TINY = 1e-280
# The time of optimal steps grows as T³ and comes to half a minute there.
_LONGEST = 2_500


@SCHEDULES.register("optimal")
def optimal_steps(spectrum: SpectralMeasure | SpectralBounds, period: int) -> Schedule:
    """Steps with the smallest mean squared error over a spectrum.

    Args:
        spectrum: How the error is spread over the eigenvalues. Bounds alone stand for the uniform
            density on them.
        period: T, the number of steps before the schedule repeats.

    Returns:
        A schedule of shape (T,), in units of 1 / Hessian, in Leja order, which knows of clusters
        and outliers. Its mean squared error, in float64, is `optimal_mean_squared_error`, or up to
        1.5 times that where steps of 16 digits cannot express the optimum: a root that falls on an
        eigenvalue at which the rest of the polynomial is huge is then repeated.

    Raises:
        TypeError: If ``spectrum`` is neither a measure nor bounds.
        ValueError: If the measure has fewer than T distinct nodes above 0: fewer steps already
            reach the smallest error, and no further step has a best size. Or if no T steps that
            were found keep the promise in float64, as for many steps and eigenvalues many decades
            apart; the message has the largest T that does.

    References:
        Gautschi, Orthogonal Polynomials: Computation and Approximation (2004), section 1.4 (Gauss
        quadrature); Golub and Meurant, Matrices, Moments and Quadrature (2010), section 6.2.

    >>> optimal_steps(SpectralMeasure.from_eigenvalues([1.0, 3.0]), 1).steps
    array([0.4])
    """
    period = check_period(period, maximum=_LONGEST)
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
    roots, optimum = optimal_roots(spectrum, period), optimal_mean_squared_error(spectrum, period)
    steps = _rounded_steps(roots, optimum, spectrum)
    if not _keeps_promise(steps, optimum, spectrum):
        raise _out_of_reach(steps, optimum, spectrum)
    return Schedule(steps, "optimal", "leja", bounds=bounds, builder=builder)


def nearly_optimal_steps(measure: SpectralMeasure, period: int) -> FloatArray:
    """The best T steps of 16 digits that are known, shape (T,), in Leja order; no promise is made.

    Raises:
        ValueError: If the measure has fewer than T distinct nodes above 0.
    """
    roots = optimal_roots(measure, period)
    return _rounded_steps(roots, optimal_mean_squared_error(measure, period), measure)


def _rounded_steps(roots: FloatArray, optimum: float, measure: SpectralMeasure) -> FloatArray:
    period = roots.size
    nodes, weights = measure.atoms(above_zero=True)
    unit = float(nodes[-1])
    nodes, roots = nodes / unit, roots / unit
    threshold = math.log(max(SHARE * optimum, _TINY))
    fixed: list[float] = []
    # Logarithms of the weights times the square of what the fixed roots leave.
    logs = np.log(weights)
    while roots.size > 0:
        place, cost = _costs_of_rounding(roots, nodes, logs)
        worst = int(cost.argmax())
        if cost[worst] <= threshold and len(fixed) + roots.size == period:
            break
        root = float(nodes[place[worst]])
        fixed.append(root)
        logs += 2 * _rounded_log_factor(root, nodes)
        roots = _free_roots(nodes, logs, period - len(fixed))
    with np.errstate(over="ignore"):  # eigenvalues whose reciprocals are no floats are refused
        steps = 1 / (unit * np.concatenate([fixed, roots]))
    return Schedule(steps).reordered("leja").steps


def optimal_roots(measure: SpectralMeasure, period: int) -> FloatArray:
    """Reciprocals of the optimal T steps in exact arithmetic, each to nearly all digits, ascending.

    Raises:
        ValueError: If the measure has fewer than T distinct nodes above 0.
    """
    period = check_period(period, maximum=_LONGEST)
    roots = check_measure(measure).gauss_nodes_of_weighted(period)
    if roots.size < period:
        raise ValueError(
            f"`period` must not exceed the number of distinct eigenvalues above 0, which is "
            f"{roots.size}, got {period}; {roots.size} steps reach the smallest error already"
        )
    return roots


def longest_optimal_period(measure: SpectralMeasure, most: int) -> int:
    """The largest T up to ``most`` for which `optimal_steps` keep their promise; 0 if none does."""
    most = measure.gauss_nodes_of_weighted(most).size
    for period in range(most, 0, -1):
        optimum = optimal_mean_squared_error(measure, period)
        steps = _rounded_steps(optimal_roots(measure, period), optimum, measure)
        if _keeps_promise(steps, optimum, measure):
            return period
    return 0


def _free_roots(nodes: FloatArray, logs: FloatArray, count: int) -> FloatArray:
    """The best roots for what is left; fewer where less than so many nodes are worth one."""
    if count == 0:
        return np.empty(0)
    mass = np.log(nodes) + logs
    mass = np.exp(mass - mass.max())
    support = mass > 0
    return gauss_nodes(nodes[support], mass[support], count)


def _rounded_log_factor(root: float, nodes: FloatArray) -> FloatArray:
    """``log |1 − λ/θ|``, with what rounding leaves of 0; the largest node is the unit."""
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(np.abs(1 - nodes / root)), math.log(_EPS) - math.log(root))


def _costs_of_rounding(
    roots: FloatArray, nodes: FloatArray, logs: FloatArray
) -> tuple[NDArray[np.intp], FloatArray]:
    """For each root the nearest node, and the logarithm of what its rounding adds to the error."""
    right = np.searchsorted(nodes, roots).clip(0, nodes.size - 1)
    left = np.maximum(right - 1, 0)
    place = np.where(roots - nodes[left] < nodes[right] - roots, left, right)
    factors = np.stack([_rounded_log_factor(root, nodes[place]) for root in roots.tolist()])
    others = factors.sum(axis=0) - np.diagonal(factors)
    return place, logs[place] + 2 * (others + math.log(_EPS) - np.log(roots))


def _keeps_promise(steps: FloatArray, optimum: float, measure: SpectralMeasure) -> bool:
    promise = SLACK * optimum
    # Rounding may leave half of the digits, however small the error of the steps alone is.
    if _rounded_error(steps, measure) > max(promise, _EPS):
        return False
    if optimum == measure.weight_at_zero:
        return True  # promised is nothing beside that, which rounding never leaves
    return mean_squared_error(steps, measure) <= max(promise, _TINY)


def _rounded_error(steps: FloatArray, measure: SpectralMeasure) -> float:
    """Mean squared error of the steps, with what rounding leaves of factors that would be 0.

    Runs on dense matrices of 14 spectra had 1 to 1.1 times this wherever it kept the promise.
    """
    nodes, weights = measure.atoms()
    unit, logs = nodes[-1], np.log(weights)
    for root in (1 / (steps * unit)).tolist():
        logs += 2 * _rounded_log_factor(root, nodes / unit)
    with np.errstate(over="ignore"):
        return float(np.exp(logs).sum())


def _out_of_reach(steps: FloatArray, optimum: float, measure: SpectralMeasure) -> ValueError:
    period = steps.size
    longest = longest_optimal_period(measure, period - 1)
    return ValueError(
        f"`period` must be at most {longest} for this spectrum, got {period}: no {period} steps of "
        f"16 digits are known whose mean squared error is the optimal {optimum:.3g}, the best have "
        f"{_rounded_error(steps, measure):.3g}; take a shorter period, Chebyshev steps, or the "
        "measure that `ensemble_measure` makes of eigenvalues that vary"
    )
