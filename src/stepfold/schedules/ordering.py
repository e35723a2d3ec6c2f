"""Orders in which to take T steps. In exact arithmetic none matters; in floating point all do.

A rounding error made after t steps is multiplied by the product of the remaining factors, and the
iterate itself by the product of the first t. With steps ascending or descending one of the two is
astronomic (T = 64, κ = 1e4: 1e31). Interleaved orders keep both small.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stepfold._checks import check_vector
from stepfold._registry import Registry
from stepfold._typing import FloatArray
from stepfold.spectrum import SpectralBounds


class Order(Protocol):
    """An order: maps T ascending steps to a permutation of 0 … T − 1."""

    def __call__(self, steps: FloatArray, /) -> NDArray[np.intp]:
        """Return the permutation for T ascending ``steps``."""


ORDERS: Registry[Order] = Registry("order", "stepfold.schedules")


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
    """Lebedev–Finogenov order: each pair that opens an interval splits it in two.

    Args:
        steps: Any T = 2ᵖ ascending numbers; only T is looked at.

    Raises:
        ValueError: If T is not a power of two.

    References:
        Lebedev and Finogenov, Zh. Vychisl. Mat. Mat. Fiz. 11 (1971) 425.

    >>> lebedev_order(np.arange(8)) + 1
    array([1, 8, 4, 5, 2, 7, 3, 6])
    """
    if not _is_power_of_two(steps.size):
        raise ValueError(
            f"the Lebedev order exists for a power of two, got {steps.size} steps; "
            "take the order 'leja', which exists for any number"
        )
    order = np.zeros(1, dtype=np.intp)
    while order.size < steps.size:
        order = np.column_stack([order, 2 * order.size - 1 - order]).ravel()
    return order


@ORDERS.register("leja")
def leja_order(steps: FloatArray) -> NDArray[np.intp]:
    """Leja order of the roots 1/γ: each next root has the largest product of distances to the last.

    Args:
        steps: Any T ascending positive numbers, repeated ones included.

    References:
        Reichel, The Application of Leja Points to Richardson Iteration and Polynomial
        Preconditioning, Linear Algebra Appl. 154–156 (1991) 389.

    >>> leja_order(np.array([0.25, 1 / 3, 0.5, 1.0]))
    array([0, 3, 1, 2])
    """
    # Relative to the largest root, so that the order has no scale and no reciprocal overflows.
    roots = steps.min() / steps
    chosen = np.empty(roots.size, dtype=np.intp)
    log_product = np.zeros(roots.size)
    taken = np.zeros(roots.size, dtype=bool)
    index = int(roots.argmax())
    for position in range(roots.size):
        chosen[position] = index
        taken[index] = True
        with np.errstate(divide="ignore"):
            log_product += np.log(np.abs(roots - roots[index]))
        # Repeated roots have product 0; they come last, in any order.
        candidates = np.where(taken, -np.inf, np.maximum(log_product, -1e300))
        # Symmetric roots tie: were rounding to choose, the order would depend on the unit.
        index = int((candidates >= candidates.max() - 1e-9).argmax())
    return chosen


def safe_order(num_steps: int) -> str:
    """Name of an order that keeps rounding errors small: Lebedev's where it exists, or Leja's."""
    return "lebedev" if _is_power_of_two(num_steps) else "leja"


def roundoff_amplification(
    steps: Any, bounds: SpectralBounds, *, num_eigenvalues: int = 2000
) -> tuple[float, float]:
    """Largest product of a head and of a tail of the factors, over eigenvalues in ``bounds``.

    The first number is how far the error of the iterate can grow on the way; the second is what
    multiplies a rounding error made on the way. In exact arithmetic neither would matter.

    Args:
        steps: γ in the order in which they are taken, shape (T,).
        bounds: Interval of eigenvalues.
        num_eigenvalues: Points at which the products are taken, denser towards the ends.

    Returns:
        Growth of heads and growth of tails, each at least 1 (the empty product).

    >>> heads, tails = roundoff_amplification([1.0, 0.1], SpectralBounds(1.0, 10.0))
    >>> round(heads, 3), round(tails, 3)
    (9.0, 2.025)
    """
    gammas = check_vector("steps", steps)
    angles = np.linspace(0, np.pi / 2, num_eigenvalues)
    eigenvalues = bounds.lower * np.cos(angles) ** 2 + bounds.upper * np.sin(angles) ** 2
    head = tail = 0.0
    with np.errstate(divide="ignore"):
        logs = np.log(np.abs(1 - gammas[:, None] * eigenvalues))
    head = float(np.cumsum(logs, axis=0).max())
    tail = float(np.cumsum(logs[::-1], axis=0).max())
    with np.errstate(over="ignore"):
        return float(np.exp(max(head, 0.0))), float(np.exp(max(tail, 0.0)))


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0
