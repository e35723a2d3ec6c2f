"""Orders in which to take T steps. In exact arithmetic none matters; in floating point all do.

A rounding error made after t steps is multiplied by the product of the remaining factors, and the
iterate itself by the product of the first t. With steps ascending or descending one of the two is
astronomic (T = 64, κ = 1e4: 1e31). Interleaved orders keep both small.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stepfold._checks import check_period, check_vector
from stepfold._registry import Registry
from stepfold._typing import FloatArray
from stepfold.spectrum import SpectralBounds
from stepfold.spectrum.bounds import check_bounds

_EPS = float(np.finfo(np.float64).eps)
# Leja's order takes 2e-9 T² seconds: 0.1 s for the first, 5 s for the second.
_MOST_FREE_LEJA = 8192
_MOST_LEJA = 50_000


class Order(Protocol):
    """An order: maps T ascending steps to a permutation of 0 … T − 1."""

    def __call__(self, steps: FloatArray, /) -> NDArray[np.intp]:
        """Return the permutation for T ascending ``steps``."""


ORDERS: Registry[Order] = Registry("order", "stepfold.schedules", "stepfold.orders")


@ORDERS.register("ascending")
def ascending_order(steps: FloatArray) -> NDArray[np.intp]:
    """Smallest step first. Loses all digits from about T = 40 on; for demonstrations."""
    return np.arange(steps.size)


@ORDERS.register("descending")
def descending_order(steps: FloatArray) -> NDArray[np.intp]:
    """Largest step first: the iterate grows astronomically on the way; for demonstrations."""
    return np.arange(steps.size)[::-1]


@ORDERS.register("outside-in")
def outside_in_order(steps: FloatArray) -> NDArray[np.intp]:
    """Largest, smallest, second largest, …: the zig-zag that incremental training finds.

    >>> outside_in_order(np.array([1.0, 2.0, 3.0, 4.0]))
    array([3, 0, 2, 1])
    """
    indices = np.arange(steps.size)
    order = np.empty_like(indices)
    order[::2] = indices[::-1][: order[::2].size]
    order[1::2] = indices[: order[1::2].size]
    return order


@ORDERS.register("lebedev")
def lebedev_order(steps: FloatArray) -> NDArray[np.intp]:
    """Lebedev–Finogenov order for any T: interleave an order of T/2 with its mirror image.

    For odd T the middle step is left out of that and taken last. The order looks at T only and
    suits steps spread like Chebyshev's; for clustered ones take Leja's.

    Args:
        steps: Any T ascending numbers; only T is looked at.

    References:
        Lebedev and Finogenov, Zh. Vychisl. Mat. Mat. Fiz. 11 (1971) 425, for powers of two;
        Samarskii, The Theory of Difference Schemes (2001), section on two-layer iteration schemes,
        Eqs. (44)–(46), for any T.

    >>> lebedev_order(np.arange(8)) + 1
    array([1, 8, 4, 5, 2, 7, 3, 6])
    >>> lebedev_order(np.arange(5)) + 1
    array([1, 5, 2, 4, 3])
    """
    order = np.zeros(1, dtype=np.intp)
    for digit in bin(steps.size)[3:]:
        size = 2 * order.size + int(digit)
        order = np.column_stack([order, size - 1 - order]).ravel()
        if digit == "1":
            order = np.append(order, size // 2)
    return order


@ORDERS.register("random")
def random_order(steps: FloatArray, rng: np.random.Generator | None = None) -> NDArray[np.intp]:
    """A random order; for demonstrations.

    Args:
        steps: Any T numbers; only T is looked at.
        rng: Source of randomness; one with seed 0 if not given, so that the order is reproducible.

    >>> random_order(np.arange(4.0))
    array([2, 0, 1, 3])
    """
    rng = np.random.default_rng(0) if rng is None else rng
    return rng.permutation(steps.size)


@ORDERS.register("leja")
def leja_order(steps: FloatArray) -> NDArray[np.intp]:
    """Leja order of the roots 1/γ: each next root has the largest product of distances to the last.

    That product is what is left of an error at the root. No distance counts as less than the
    rounding of the largest root: a repeated root comes when the others have let its error grow
    again.

    Args:
        steps: Any T ascending positive numbers, repeated ones included.

    Raises:
        ValueError: If T is above 50 000: the time grows as T² and comes to seconds there.

    References:
        Reichel, The Application of Leja Points to Richardson Iteration and Polynomial
        Preconditioning, Linear Algebra Appl. 154–156 (1991) 389.

    >>> leja_order(np.array([0.25, 1 / 3, 0.5, 1.0]))
    array([0, 3, 1, 2])
    """
    if steps.size > _MOST_LEJA:
        raise ValueError(
            f"`steps` must be at most {_MOST_LEJA:,} in Leja order, whose time grows with their "
            f"square, got {steps.size:,}; take Lebedev order, or repeat fewer steps"
        )
    # Relative to the largest root, so that the order has no scale and no reciprocal overflows.
    roots = steps.min() / steps
    chosen = np.empty(roots.size, dtype=np.intp)
    log_product = np.zeros(roots.size)
    index = int(roots.argmax())
    for position in range(roots.size):
        chosen[position] = index
        # Divided by the root taken, each distance is a factor of what is left of an error.
        distances = np.abs(roots - roots[index])
        np.maximum(distances, _EPS, out=distances)
        distances /= roots[index]
        log_product += np.log(distances, out=distances)
        log_product[index] = -np.inf
        # Symmetric roots tie: were rounding to choose, the order would depend on the unit.
        index = int((log_product >= log_product.max() - 1e-9).argmax())
    return chosen


def safe_order(period: int) -> str:
    """Name of an order that keeps rounding errors small, whatever T.

    Both are equally safe for Chebyshev steps (table: docs/theory/orders.md): Lebedev's, for
    powers of two, costs nothing; Leja's, for the rest, has the smaller tails, in a time that grows
    as T²: above T = 8192 it is Lebedev's always. For clustered steps "leja" is the one to ask for,
    whatever T.

    >>> safe_order(64), safe_order(100), safe_order(100_000)
    ('lebedev', 'leja', 'lebedev')
    """
    period = check_period(period)
    return "lebedev" if period & (period - 1) == 0 or period > _MOST_FREE_LEJA else "leja"


def roundoff_amplification(steps: Any, bounds: SpectralBounds) -> tuple[float, float]:
    """Largest product of a head and of a tail of the factors, over eigenvalues in ``bounds``.

    The first number is how far the error of the iterate can grow on the way; the second is what
    multiplies a rounding error made on the way. In exact arithmetic neither would matter.

    Args:
        steps: γ in the order in which they are taken, shape (T,).
        bounds: Interval of eigenvalues.

    Returns:
        Growth of heads and growth of tails, each at least 1 (the empty product), and infinite where
        a float cannot hold it.

    References:
        Ehlich and Zeller, Schwankung von Polynomen zwischen Gitterpunkten, Math. Z. 86 (1964) 41:
        how little a polynomial can rise between Chebyshev points.

    >>> heads, tails = roundoff_amplification([1.0, 0.1], SpectralBounds(1.0, 10.0))
    >>> round(heads, 3), round(tails, 3)
    (9.0, 2.025)
    """
    gammas = check_vector("steps", steps)
    check_bounds(bounds, or_none=False)
    return _largest_head(gammas, bounds), _largest_head(gammas[::-1], bounds)


# Points per step. Between 8 T + 1 Chebyshev points a polynomial of degree T exceeds its largest
# value on them by at most the factor 1 / cos(π/16) = 1.02; what is left is found by bisection.
_OVERSAMPLING = 8
_SLACK = -math.log(math.cos(math.pi / (2 * _OVERSAMPLING)))
_MOST_CANDIDATES = 64


def _largest_head(gammas: FloatArray, bounds: SpectralBounds) -> float:
    angles = np.linspace(0, np.pi / 2, _OVERSAMPLING * gammas.size + 1)
    grid = bounds.lower * np.cos(angles) ** 2 + bounds.upper * np.sin(angles) ** 2
    logs = np.zeros(grid.size)
    peaks = np.empty(gammas.size)
    places = np.empty(gammas.size, dtype=np.intp)
    with np.errstate(divide="ignore", over="ignore"):
        for t, gamma in enumerate(gammas):
            logs += np.log(np.abs(1 - gamma * grid))
            places[t] = logs.argmax()
            peaks[t] = logs[places[t]]
        highest = max(float(peaks.max()), 0.0)
        near = np.flatnonzero(peaks >= highest - _SLACK)
        near = near[np.argsort(peaks[near])[-_MOST_CANDIDATES:]]
        for t in near.tolist():
            place = int(places[t])
            left, right = grid[max(place - 1, 0)], grid[min(place + 1, grid.size - 1)]
            highest = max(highest, _polished(gammas[: t + 1], left, right))
        return float(np.exp(highest))


def _polished(gammas: FloatArray, left: float, right: float) -> float:
    """Logarithm of the largest |p| in an interval: between two roots it is concave."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for _ in range(40):
            middle = left + (right - left) / 2
            if -(gammas / (1 - gammas * middle)).sum() > 0:
                left = middle
            else:
                right = middle
        return float(np.log(np.abs(1 - gammas * left)).sum())
