"""Ellipses that hold a complex spectrum, and the rate of Chebyshev's iteration on them.

An ellipse symmetric about the real axis has its centre at d > 0 and semi-axes a along that axis and
b across it; c² = a² − b² is the squared distance of its foci from the centre, negative where the
foci lie above and below it. Chebyshev polynomials moved to the foci shrink the errors by
``(a + b)/(d + √(d² − c²))`` a step. For b = 0 that is the interval's rate, for a = b that of a
constant step.

References:
    Manteuffel, The Tchebychev iteration for nonsymmetric linear systems (Numer. Math. 28, 1977).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._checks import check_real
from stepfold._codec import JsonRecord


@dataclass(frozen=True, slots=True)
class Ellipse(JsonRecord):
    """Ellipse in the right half-plane that contains the spectrum of a real operator.

    Args:
        center: d, above 0, in units of the operator, as the semi-axes are.
        real_axis: a, the semi-axis along the real axis, at least 0.
        imaginary_axis: b, the semi-axis across it, at least 0.
        method: What it comes from, for people to read.
        num_products: Products with the operator spent on it.
        seed: Seed of the random start, if there was one.

    Raises:
        ValueError: Unless 0 ≤ real_axis < center < inf and 0 ≤ imaginary_axis < inf: an ellipse
            that holds or touches the origin leaves no polynomial with p(0) = 1 below 1.

    References:
        Manteuffel, The Tchebychev iteration for nonsymmetric linear systems (Numer. Math. 28,
        1977).

    >>> round(Ellipse(1.0, 0.8, 0.0).rate, 12)  # the interval [0.2, 1.8], κ = 9
    0.5
    """

    center: float
    real_axis: float
    imaginary_axis: float
    method: str = "given"
    num_products: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("center", "real_axis", "imaginary_axis"):
            check_real(name, getattr(self, name))
        inside = 0 <= self.real_axis < self.center < math.inf
        if not (inside and 0 <= self.imaginary_axis < math.inf):
            raise ValueError(
                "an ellipse must satisfy 0 <= `real_axis` < `center` < inf and 0 <= "
                f"`imaginary_axis` < inf, got center={self.center!r}, "
                f"real_axis={self.real_axis!r}, imaginary_axis={self.imaginary_axis!r}; one that "
                "holds or touches the origin leaves nothing to accelerate"
            )
        for name in ("center", "real_axis", "imaginary_axis"):
            object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def focal_square(self) -> float:
        """c² = a² − b²; negative where the foci lie above and below the centre."""
        return (self.real_axis - self.imaginary_axis) * (self.real_axis + self.imaginary_axis)

    @property
    def rate(self) -> float:
        """Factor of the error per step in the long run; 1 or more if acceleration cannot help."""
        # d² − c² > 0 always, because c² ≤ a² < d².
        return (self.real_axis + self.imaginary_axis) / (
            self.center + math.sqrt(self.center**2 - self.focal_square)
        )

    @property
    def plain_rate(self) -> float:
        """Largest ``|1 − λ|`` over the ellipse: the rate of ``x ← f(x)``."""
        angles = np.linspace(0, np.pi, 2001)
        points = (
            self.center
            + self.real_axis * np.cos(angles)
            + 1j * self.imaginary_axis * np.sin(angles)
        )
        return float(np.abs(1 - points).max())

    def __contains__(self, eigenvalue: complex) -> bool:
        value = complex(eigenvalue)
        across = value.real - self.center, value.imag
        axes = self.real_axis, self.imaginary_axis
        if any(axis == 0 and part != 0 for part, axis in zip(across, axes, strict=True)):
            return False
        square = sum((p / a) ** 2 for p, a in zip(across, axes, strict=True) if a > 0)
        return square <= 1 + 1e-12


def rate_at(points: NDArray[Any], center: Any, focal_square: Any) -> Any:
    """Convergence factor per step at each eigenvalue for the Chebyshev polynomials of (d, c²).

    ``|(d − λ) + √((d − λ)² − c²)| / |d + √(d² − c²)|``, the root taken outside of the segment
    between the foci.
    """
    shifted = np.asarray(center - points, dtype=complex)
    root = np.sqrt(shifted**2 - focal_square)
    outer = np.maximum(np.abs(shifted + root), np.abs(shifted - root))
    start = np.sqrt(np.asarray(center, dtype=complex) ** 2 - focal_square)
    return outer / np.maximum(np.abs(center + start), np.abs(center - start))


def enclosing_ellipse(points: Any, **record: Any) -> Ellipse:
    """Ellipse of the smallest rate that holds all ``points``, which lie right of the origin.

    What is minimised, over centre and foci, is the largest factor over the points, which is
    Manteuffel's criterion; the ellipse is the confocal one through the worst of them.

    Args:
        points: Eigenvalues or Ritz values, shape (k,), in units of the operator; conjugates need
            not be given.
        record: ``method``, ``num_products`` and ``seed`` of the `Ellipse`.

    Raises:
        TypeError: If ``points`` are no numbers.
        ValueError: If a point has no positive real part, or no ellipse without the origin holds
            them all.

    References:
        Manteuffel, The Tchebychev iteration for nonsymmetric linear systems (Numer. Math. 28,
        1977).

    >>> ellipse = enclosing_ellipse([1 + 1j, 1 - 1j, 1.0])
    >>> round(ellipse.center, 3), round(ellipse.imaginary_axis, 3)
    (1.0, 1.0)
    """
    values = np.asarray(points)
    if values.dtype.kind not in "buifc":
        raise TypeError(f"`points` must hold numbers, got dtype {values.dtype}")
    values = np.unique(values.astype(complex).ravel())
    if values.size == 0 or not np.isfinite(values).all() or values.real.min() <= 0:
        raise ValueError(
            "`points` must be finite with positive real parts, "
            f"got real parts down to {values.real.min() if values.size else None!r}; a spectrum "
            "that reaches the imaginary axis cannot be accelerated by one family of polynomials"
        )
    # In units of the largest: squares of what is near either end of float64 have no room there.
    size = float(np.abs(values).max())
    values = values / size
    low, high, tall = values.real.min(), values.real.max(), np.abs(values.imag).max()
    best_center, best_square = _smallest_rate(values, float(low), float(high), float(tall))
    shifted = best_center - values
    root = np.sqrt(shifted**2 - best_square)
    # Sum of the semi-axes of the confocal ellipse through each point; their product is c² / sum.
    total = float(np.maximum(np.abs(shifted + root), np.abs(shifted - root)).max())
    other = best_square / total if total > 0 else 0.0
    real_axis, imaginary_axis = (total + other) / 2, (total - other) / 2
    return Ellipse(
        size * best_center, size * max(real_axis, 0.0), size * max(imaginary_axis, 0.0), **record
    )


def _smallest_rate(values: Any, low: float, high: float, tall: float) -> tuple[float, float]:
    """Centre d and c² of the smallest rate: the best of a grid, made better by Nelder and Mead."""
    from scipy.optimize import minimize

    # The shape c²/d² is below 1, and 1 − exp(q) for any q.
    centers = np.geomspace(low, max(2 * high, high + tall), 21)
    shapes = np.linspace(-14.0, 8.0, 23)
    center, shape = np.meshgrid(centers, shapes, indexing="ij")
    square = (1 - np.exp(shape)) * center**2
    rates = rate_at(values[:, None, None], center[None], square[None]).max(axis=0)
    place = np.unravel_index(int(np.argmin(rates)), rates.shape)

    def rate(unknowns: Any) -> float:
        middle = math.exp(unknowns[0])
        return float(rate_at(values, middle, (1 - math.exp(unknowns[1])) * middle**2).max())

    begin = [math.log(center[place]), float(shape[place])]
    corners = np.array([begin, [begin[0] + 0.1, begin[1]], [begin[0], begin[1] + 0.5]])
    options: Any = {"initial_simplex": corners, "xatol": 1e-4, "fatol": 1e-5, "maxiter": 200}
    found = minimize(rate, begin, method="Nelder-Mead", options=options)
    # An exponent far from the grid would overflow, and be no ellipse that anybody needs.
    middle, exponent = math.exp(found.x[0]), min(float(found.x[1]), 30.0)
    return middle, (1 - math.exp(exponent)) * middle**2
