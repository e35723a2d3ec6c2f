"""Steps composed of shorter ones, for smooth convex functions with a known upper bound only.

A schedule of normalised steps ``hₜ = L γₜ`` balances two worst cases: a Huber function, on which it
goes too slowly, and a quadratic, which it overshoots. Two balanced schedules are joined by one step
1 + v in between that balances the whole. With the sums of the steps s₁, s₂ of the parts and
A = 1 + s, B = 1 + 2s,

    S join S:   v (A₁ + A₂ + v) = A₁ A₂        both worst cases of f and of its gradient
    S join F:   v² (2A₁ + B₂ + 2v) = A₁² B₂    the value f(x_T) − f*, from ‖x₀ − x*‖

and G is F backwards: the gradient's norm, from f(x₀) − f*. Each length takes the cut with the
largest sum. Silver steps are S join S of equal parts. The guarantee depends on the sum alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, count, repeat

import numpy as np
from numpy.typing import NDArray

from stepfold._checks import LONGEST_LIST, check_period
from stepfold._typing import FloatArray
from stepfold.schedules.base import SCHEDULES, Schedule, check_schedule, check_upper
from stepfold.schedules.silver import SILVER_RATIO, silver_convex_steps
from stepfold.spectrum import SpectralBounds

_UNIT = SpectralBounds(0.0, 1.0)
# The best cuts of all lengths up to T take a time that grows as T²: 5 s there.
_LONGEST = 20_000


@SCHEDULES.register("obs-s")
def obs_s_steps(bounds: SpectralBounds, period: int) -> Schedule:
    """Silver steps of any length: good for the value and for the gradient's norm at once.

    For T = 2ᵏ − 1 they are `silver_convex_steps`.

    Args:
        bounds: Interval of the eigenvalues of every Hessian; only its upper end L is looked at.
        period: T, the number of steps, for which they are made: the guarantee holds at their end.

    Returns:
        A schedule of shape (T,), in units of 1 / Hessian, in the order in which it must be taken.
        With Σ the sum of L γₜ, every L-smooth convex f has
        ``f(x_T) − f* ≤ L ‖x₀ − x*‖² / (2 + 4Σ)`` (`composed_period_rate`) and
        ``‖∇f(x_T)‖² ≤ 2L (f(x₀) − f*) / (1 + 2Σ)``. With proximal steps on f + g, g convex, the
        worst case of the objective is ``L ‖x₀ − x*‖² / 4Σ``, by PEPit's number at T ≤ 7.

    Raises:
        ValueError: If ``bounds.upper`` is 0.

    References:
        Grimmer, Shu and Wang, Composing Optimized Stepsize Schedules for Gradient Descent (Math.
        Oper. Res., 2025; arXiv:2410.16249): s-composable schedules. Zhang and Jiang, Accelerated
        Gradient Descent by Concatenation of Stepsize Schedules (arXiv:2410.12395).

    >>> obs_s_steps(SpectralBounds(0.0, 1.0), 2).steps.round(4)
    array([1.6012, 1.4142])
    """
    return _schedule(bounds, period, "obs-s", "optimised basic, S")


@SCHEDULES.register("obs-f")
def obs_f_steps(bounds: SpectralBounds, period: int) -> Schedule:
    """Steps after which the value f(x_T) is smallest in the worst case, as far as is known.

    Args:
        bounds: Interval of the eigenvalues of every Hessian; only its upper end L is looked at.
        period: T, the number of steps, for which they are made: the guarantee holds at their end.

    Returns:
        A schedule of shape (T,), in units of 1 / Hessian, in the order in which it must be taken.
        `composed_period_rate` is its worst case, which a Huber function and a quadratic attain.

    Raises:
        ValueError: If ``bounds.upper`` is 0.

    References:
        Grimmer, Shu and Wang (arXiv:2410.16249): f-composable schedules; that no other steps are
        better is their conjecture.

    >>> obs_f_steps(SpectralBounds(0.0, 1.0), 2).steps.round(4)
    array([1.4142, 1.8768])
    """
    return _schedule(bounds, period, "obs-f", "optimised basic, F")


@SCHEDULES.register("obs-g")
def obs_g_steps(bounds: SpectralBounds, period: int) -> Schedule:
    """Steps after which ‖∇f(x_T)‖ is smallest in the worst case, as far as is known.

    Args:
        bounds: Interval of the eigenvalues of every Hessian; only its upper end L is looked at.
        period: T, the number of steps, for which they are made: the guarantee holds at their end.

    Returns:
        A schedule of shape (T,), in units of 1 / Hessian: `obs_f_steps` backwards. With Σ the sum
        of L γₜ, ``‖∇f(x_T)‖² ≤ 2L (f(x₀) − f*) / (1 + 2Σ)`` for every L-smooth convex f.

    Raises:
        ValueError: If ``bounds.upper`` is 0.

    References:
        Grimmer, Shu and Wang (arXiv:2410.16249): g-composable schedules.

    >>> obs_g_steps(SpectralBounds(0.0, 1.0), 2).steps.round(4)
    array([1.8768, 1.4142])
    """
    return _schedule(bounds, period, "obs-g", "optimised basic, G")


@SCHEDULES.register("anytime")
def anytime_steps(bounds: SpectralBounds, period: int) -> Schedule:
    """Steps that do not depend on when they end: every shorter schedule begins a longer one.

    The silver schedule of 2ʲ − 1 steps is joined ``⌊2ρʲ⌋`` times to what there is, for j = 1, 2, …

    Args:
        bounds: Interval of the eigenvalues of every Hessian; only its upper end L is looked at.
        period: T, the number of steps that are made.

    Returns:
        A schedule of shape (T,), in units of 1 / Hessian, in the order in which it must be taken.
        ``f(x_t) − f*`` is of the order of ``t^−1.119`` after every t, and
        `composed_period_rate` where a silver schedule ends.

    Raises:
        ValueError: If ``bounds.upper`` is 0.

    References:
        Zhang, Lee, Du and Chen, Anytime Acceleration of Gradient Descent (COLT 2025;
        arXiv:2411.17668): silver schedules joined by their φ.

    >>> anytime_steps(SpectralBounds(0.0, 1.0), 4).steps.round(3)
    array([1.601, 1.414, 2.261, 1.414])
    """
    return _schedule(bounds, period, "anytime", "anytime")


def composed_period_rate(schedule: Schedule) -> float:
    """Guaranteed ``(f(x_T) − f*) / ‖x₀ − x*‖²`` of ``obs-s``, ``obs-f`` and ``anytime`` steps.

    It is ``L / (2 + 4Σ)``, L the upper bound and Σ the sum of the L γₜ; a Huber function attains
    it. 4L times it is the guaranteed ``‖∇f(x_T)‖² / (f(x₀) − f*)`` of ``obs-s`` and ``obs-g``.

    Args:
        schedule: What a builder of this module made, in its own order.

    Raises:
        ValueError: If it is another schedule, or anytime steps that end within a silver schedule:
            the sum guarantees nothing then.

    References:
        Grimmer, Shu and Wang (arXiv:2410.16249), as `obs_f_steps`.

    >>> composed_period_rate(obs_f_steps(SpectralBounds(0.0, 1.0), 1))
    0.125
    """
    check_schedule(schedule, or_none=False)
    if schedule.builder not in FAMILIES or schedule.order != "given" or schedule.bounds is None:
        raise ValueError(
            f"`schedule` must be {', '.join(FAMILIES)} steps in their own order to have this "
            f"guarantee, got {schedule.name} in order {schedule.order}; take `obs_f_steps`"
        )
    if schedule.builder == "anytime":
        ends = list(_ends(schedule.period))
        if schedule.period not in ends:
            raise ValueError(
                "`schedule` of anytime steps must end where a silver schedule does, got period "
                f"{schedule.period}; take {' or '.join(map(str, ends[-2:]))}"
            )
    upper = schedule.bounds.upper
    return upper / (2 + 4 * math.fsum(upper * schedule.steps))


def _schedule(bounds: SpectralBounds, period: int, family: str, name: str) -> Schedule:
    period = check_period(period, maximum=LONGEST_LIST if family == "anytime" else _LONGEST)
    check_upper(f"{family.replace('-', '_')}_steps", bounds)
    with np.errstate(over="ignore"):  # the schedule refuses steps that are not finite
        steps = FAMILIES[family](period) / bounds.upper
    return Schedule(steps, name, bounds=bounds, builder=family)


def _join(first: FloatArray, second: FloatArray) -> FloatArray:
    """The v of S join S, from A₁ and A₂."""
    total, product = first + second, first * second
    return 2 * product / (total + np.sqrt(total * total + 4 * product))


def _join_value(first: FloatArray, second: FloatArray) -> FloatArray:
    """The v of S join F, from A₁ and B₂: Newton's method, from above on a convex function."""
    linear, target = 2 * first + second, first * first * second
    v = np.minimum(np.sqrt(target / linear), np.cbrt(target / 2))
    for _ in range(60):
        better = v - (v * v * (linear + 2 * v) - target) / (2 * v * linear + 6 * v * v)
        if np.all(better >= v):
            break
        v = np.minimum(v, better)
    return v


def _cuts(period: int) -> tuple[FloatArray, NDArray[np.intp]]:
    """A = 1 + s of obs-s schedules of 0 … ``period`` steps, and the steps before the middle one."""
    sums, cuts = np.ones(period + 1), np.zeros(period + 1, dtype=np.intp)
    for length in range(1, period + 1):
        # The mirror image of a cut is as good, so that half of them suffice.
        first = sums[: (length + 1) // 2]
        second = sums[length - 1 : length - 1 - first.size : -1] if length > 1 else sums[:1]
        whole = first + second + _join(first, second)
        cuts[length] = whole.argmax()
        sums[length] = whole[cuts[length]]
    return sums, cuts


def _simultaneous(length: int, sums: FloatArray, cuts: NDArray[np.intp]) -> list[float]:
    if length == 0:
        return []
    first = int(cuts[length])
    second = length - 1 - first
    middle = 1 + float(_join(sums[first], sums[second]))
    return [
        *_simultaneous(first, sums, cuts),
        middle,
        *_simultaneous(second, sums, cuts),
    ]


def _obs_s(period: int) -> FloatArray:
    return np.array(_simultaneous(period, *_cuts(period)))


def _obs_f(period: int) -> FloatArray:
    sums, cuts = _cuts(period)
    values, value_cuts = np.ones(period + 1), np.zeros(period + 1, dtype=np.intp)
    for length in range(1, period + 1):
        first, second = sums[:length], values[:length][::-1]
        whole = 2 * first + second + 2 * _join_value(first, second)
        value_cuts[length] = whole.argmax()
        values[length] = whole[value_cuts[length]]
    steps: list[float] = []
    left = period
    while left:
        first_length = int(value_cuts[left])
        left -= 1 + first_length
        middle = 1 + float(_join_value(sums[first_length], values[left]))
        steps += [*_simultaneous(first_length, sums, cuts), middle]
    return np.array(steps)


def _obs_g(period: int) -> FloatArray:
    return _obs_f(period)[::-1]


def _anytime(period: int) -> FloatArray:
    steps: list[float] = []
    total = 1.0
    for block in _blocks():
        joint = float(_join(np.array(total), np.array(SILVER_RATIO**block)))
        steps += [1 + joint, *silver_convex_steps(_UNIT, 2**block - 1)]
        total += joint + SILVER_RATIO**block
        if len(steps) >= period:
            break
    return np.array(steps[:period])


def _blocks() -> Iterator[int]:
    """Exponents j of the silver schedules that anytime steps consist of."""
    return chain.from_iterable(repeat(j, int(2 * SILVER_RATIO**j)) for j in count(1))


def _ends(period: int) -> Iterator[int]:
    """Lengths of anytime steps that end with a silver schedule, up to the first ≥ ``period``."""
    end = 0
    for block in _blocks():
        end += 2**block
        yield end
        if end >= period:
            return


FAMILIES: Mapping[str, Callable[[int], FloatArray]] = {
    "obs-s": _obs_s,
    "obs-f": _obs_f,
    "obs-g": _obs_g,
    "anytime": _anytime,
}
"""Normalised steps, for L = 1, by their name in ``SCHEDULES``."""
