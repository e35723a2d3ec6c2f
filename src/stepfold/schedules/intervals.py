"""Chebyshev steps for a spectrum with gaps: several intervals, points among them.

The smallest maximum over ``E = [a₁, b₁] ∪ [a₂, b₂] ∪ …`` of a polynomial with p(0) = 1 belongs to
exactly one p, and |p| takes that maximum at T + 1 points of E with alternating signs, because
λ, …, λᵀ are a Haar system on E. Between neighbours of them p changes sign: its T roots are real,
simple and inside the hull of E, so that their reciprocals are steps; one may lie in each gap. The
Remez exchange finds the points; given points, the roots solve a secular equation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from stepfold._checks import check_count, check_items, check_period, check_share, check_vector
from stepfold._typing import FloatArray
from stepfold.polynomial import extrema_between, residual_polynomial, worst_case_period_rate
from stepfold.schedules.base import Schedule
from stepfold.spectrum import SpectralBounds

Intervals = Iterable["tuple[float, float] | SpectralBounds"]


def chebyshev_steps_for_intervals(intervals: Intervals, period: int) -> Schedule:
    """Steps whose residual polynomial is smallest, in the worst case, over a union of intervals.

    Args:
        intervals: Pairs (lower, upper) or `SpectralBounds`, in any order, in units of the Hessian;
            those that overlap are merged. ``lower == upper`` stands for one eigenvalue, but see
            the note.
        period: T, the number of steps before the schedule repeats.

    Returns:
        A schedule of shape (T,), in units of 1 / Hessian, in Leja order. Its worst case over the
        intervals is `minimax_period_rate`.

    Raises:
        TypeError: If ``intervals`` does not hold pairs of numbers.
        ValueError: If there is no interval, if one is not 0 < lower <= upper < inf, or if the
            intervals are no more than T points, which fewer steps already hit exactly.

    Note:
        An eigenvalue that is known to some digits only deserves an interval as wide as its error:
        far below the top of the spectrum p is steep at the top, and one that is missed by a
        rounding error may be amplified.

    References:
        Schiefermayr, A Lower Bound for the Norm of the Minimal Residual Polynomial, Constr. Approx.
        33 (2011) 425; Fischer, Polynomial Based Iteration Methods for Symmetric Linear Systems
        (1996), on several intervals.

    >>> chebyshev_steps_for_intervals([(1.0, 2.0), (4.0, 5.0)], 2).steps.round(6)
    array([0.218286, 0.704791])
    """
    lows, highs = _checked(intervals)
    period = check_period(period, maximum=_LONGEST)
    scale = highs[-1]
    if lows[0] / scale == 0:
        raise ValueError(
            f"`intervals` must not span more than the floats do, got {lows[0]} and {scale}; "
            "raise the lowest end"
        )
    roots = _minimax_roots(lows / scale, highs / scale, period)
    return Schedule(1 / (roots * scale), "Chebyshev, intervals").reordered("leja")


def minimax_period_rate(intervals: Intervals, period: int) -> float:
    """Smallest maximum of ``|p|`` over a union of intervals that any T steps can reach.

    References:
        Derived from the alternation of the Remez exchange; see `chebyshev_steps_for_intervals`.

    >>> round(minimax_period_rate([(1.0, 2.0), (4.0, 5.0)], 2), 12)
    0.230769230769
    """
    intervals = check_items("intervals", intervals, "pairs (lower, upper)")
    return worst_case_period_rate_on_intervals(
        chebyshev_steps_for_intervals(intervals, period), intervals
    )


def worst_case_period_rate_on_intervals(steps: Any, intervals: Intervals) -> float:
    """Largest ``|p(λ)|`` over a union of intervals; see `worst_case_period_rate`.

    >>> worst_case_period_rate_on_intervals([0.5], [(1.0, 1.5), (2.0, 3.0)])
    0.5
    """
    lows, highs = _checked(intervals)
    return max(
        worst_case_period_rate(steps, SpectralBounds(low, high))
        for low, high in zip(lows, highs, strict=True)
    )


def spectral_intervals(
    eigenvalues: Any, num_intervals: int = 2, *, margin: float = 1e-4
) -> list[SpectralBounds]:
    """Cut a measured spectrum at its widest gaps.

    A gap is as wide as the share of Chebyshev roots that would fall into it: width is measured in
    φ, where λ = (a+b)/2 − (b−a)/2 · cos φ.

    Args:
        eigenvalues: Numbers above 0, shape (n,), in units of the Hessian, in any order.
        num_intervals: How many intervals to return; at most as many as distinct eigenvalues.
        margin: Each end is moved outwards by this share of itself, at least 0 and below 1. With
            none, p is so steep at a far eigenvalue that the rounding of a step misses it.

    Raises:
        ValueError: If an eigenvalue is not positive, there are fewer distinct ones than intervals,
            or ``margin`` is not at least 0 and below 1.

    >>> [(i.lower, i.upper) for i in spectral_intervals([1.0, 9.0, 2.0, 10.0], margin=0)]
    [(1.0, 2.0), (9.0, 10.0)]
    """
    values = np.unique(check_vector("eigenvalues", eigenvalues))
    num_intervals = check_count("num_intervals", num_intervals)
    if values[0] <= 0:
        raise ValueError(
            f"`eigenvalues` must be positive, got {values[0]}; leave zeros out (no step "
            "reduces what they belong to) or add a ridge term"
        )
    if num_intervals > values.size:
        raise ValueError(
            f"`num_intervals` must not exceed the number of distinct eigenvalues, which is "
            f"{values.size}, got {num_intervals}"
        )
    check_share("margin", margin, or_zero=True)
    share = (values - values[0]) / max(values[-1] - values[0], np.finfo(float).tiny)
    gaps = np.diff(2 * np.arcsin(np.sqrt(share)))
    cuts = np.sort(np.argsort(-gaps, kind="stable")[: num_intervals - 1])
    lows = values[np.append(0, cuts + 1)] * (1 - margin)
    highs = values[np.append(cuts, values.size - 1)] * (1 + margin)
    return [SpectralBounds(low, high) for low, high in zip(lows, highs, strict=True)]


def _checked(intervals: Intervals) -> tuple[FloatArray, FloatArray]:
    """Lower and upper ends, ascending and disjoint."""
    pairs = [
        (each.lower, each.upper) if isinstance(each, SpectralBounds) else each
        for each in check_items("intervals", intervals, "pairs (lower, upper)")
    ]
    if not pairs:
        raise ValueError("`intervals` must hold at least one pair (lower, upper), got none")
    try:
        ends = np.array(pairs, dtype=np.float64).reshape(len(pairs), 2)
    except (TypeError, ValueError):
        raise TypeError(
            f"`intervals` must hold pairs of numbers (lower, upper), got {pairs!r}"
        ) from None
    for low, high in ends:
        if not 0 < low <= high < np.inf:
            raise ValueError(
                "`intervals` must satisfy 0 < lower <= upper < inf, "
                f"got lower={low}, upper={high}; for a spectrum that reaches 0 take "
                "`chebyshev_steps(bounds, period, kind=4)`"
            )
    ends = ends[np.argsort(ends[:, 0], kind="stable")]
    highest = np.maximum.accumulate(ends[:, 1])
    opens = np.append(True, ends[1:, 0] > highest[:-1])
    return ends[opens, 0], highest[np.append(opens[1:], True)]


# Remez converges quadratically; what it can still gain below this is rounding.
_RTOL = 1e-10
_MOST_EXCHANGES = 100
# Their time grows as T² at least.
_LONGEST = 5_000


def _minimax_roots(lows: FloatArray, highs: FloatArray, period: int) -> FloatArray:
    """Roots, ascending, of the minimax polynomial on intervals scaled to end at 1."""
    points = _starting_points(lows, highs, period)
    best, best_rate = np.empty(0), np.inf
    for _ in range(_MOST_EXCHANGES):
        roots, level = _roots_and_level(points)
        points = _exchanged(roots, lows, highs)
        rate = float(np.abs(residual_polynomial(1 / roots, points)).max())
        if rate < best_rate:
            best, best_rate = roots, rate
        # Points coincide where an interval holds fewer floats than p has extrema on it.
        if not rate > level * (1 + _RTOL) or not np.all(np.diff(points) > 0):
            break
    return best


def _starting_points(lows: FloatArray, highs: FloatArray, period: int) -> FloatArray:
    """T + 1 Leja points of the intervals: spread as the extrema will be."""
    angles = np.linspace(0, np.pi / 2, 8 * period + 1)
    widths = highs - lows
    grid = np.unique(
        np.minimum(lows[:, None] + widths[:, None] * np.sin(angles) ** 2, highs[:, None])
    )
    if grid.size <= period:
        raise ValueError(
            f"`period` must be smaller than the number of eigenvalues if the intervals are "
            f"points, which is {grid.size}, got {period}; the reciprocals of the eigenvalues "
            "are steps that reach the solution"
        )
    chosen = np.empty(period + 1)
    logs = np.zeros(grid.size)
    chosen[0] = grid[-1]
    for k in range(1, period + 1):
        with np.errstate(divide="ignore"):
            logs += np.log(np.abs(grid - chosen[k - 1]))
        chosen[k] = grid[logs.argmax()]
    return np.sort(chosen)


def _roots_and_level(points: FloatArray) -> tuple[FloatArray, float]:
    """Roots of the p with p(0) = 1 that takes ±h at the points in turn, and h.

    In barycentric form p is proportional to ``∑ᵢ |vᵢ| / (λ − xᵢ)``: all terms have one sign, so the
    sum falls from +∞ to −∞ between neighbours, and h is a quotient of sums without cancellation.
    """
    differences = np.abs(points[:, None] - points)
    np.fill_diagonal(differences, 1.0)
    logs = -np.log(differences).sum(axis=1)
    weights = np.exp(logs - logs.max())
    # Divided difference of order T + 1 on 0 and the points: it vanishes for degree T.
    with_zero = logs - np.log(points)
    peak = with_zero.max()
    log_sum = peak + np.log(np.exp(with_zero - peak).sum())
    level = float(np.exp(-np.log(points).sum() - log_sum))
    left, right = points[:-1].copy(), points[1:].copy()
    for _ in range(54):
        middle = left + (right - left) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            falling = (weights / (middle[:, None] - points)).sum(axis=1) > 0
        left[falling] = middle[falling]
        right[~falling] = middle[~falling]
    return left + (right - left) / 2, level


def _exchanged(roots: FloatArray, lows: FloatArray, highs: FloatArray) -> FloatArray:
    """Where |p| is largest on the part of the intervals between each two neighbouring roots.

    There |p| has one extremum; if that lies in a gap, the largest value is at one side of the gap.
    """
    tops = np.concatenate([lows[:1], extrema_between(1 / roots), highs[-1:]])
    interval = np.searchsorted(lows, tops, side="right") - 1
    below = np.minimum(tops, highs[interval])
    following = np.minimum(interval + 1, lows.size - 1)
    above = np.where(below == tops, tops, lows[following])
    starts = np.append(-np.inf, roots)
    ends = np.append(roots, np.inf)
    logs = [
        np.where((starts < side) & (side < ends), _log_values(roots, side), -np.inf)
        for side in (below, above)
    ]
    return np.where(logs[0] >= logs[1], below, above)


def _log_values(roots: FloatArray, points: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):
        logs: FloatArray = np.log(np.abs(1 - points[:, None] / roots)).sum(axis=1)
    return logs
