"""The Jacobian of a map at a point: products with vectors, and the spectrum of ``B = I − J``."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepfold._arrays import (
    derivative_along,
    detached,
    dtype_kind,
    epsilon,
    from_host,
    is_numpy,
    largest_entry,
    to_host,
)
from stepfold._checks import check_count, check_nonnegative, check_seed
from stepfold._typing import FloatArray
from stepfold.problems.fixed_point import FixedPoint, start_of
from stepfold.spectrum import Certainty, SpectralBounds
from stepfold.spectrum.arnoldi import arnoldi_values
from stepfold.spectrum.ellipse import Ellipse, enclosing_ellipse

# A derivative by torch and one by differences that differ by more than this do not mean one map.
AGREEMENT = 0.05
# Imaginary parts up to this share of the largest value are taken for errors of differences.
REAL = 1e-3


class Jacobian:
    """Products ``J v`` with the Jacobian of a map at a point.

    By forward-mode differentiation (as by ``torch.func.jvp``) where the library of ``x`` and the
    map support it, by forward differences otherwise. A map that supports it in appearance only
    (because it detaches what it works on) is found out by one difference.

    Args:
        problem: The map.
        x: Where, an array of any shape.

    >>> jacobian = Jacobian(FixedPoint(np.sin), np.array([0.0, 1.0]))
    >>> jacobian.product(np.array([1.0, 1.0])).round(6)
    array([1.      , 0.540302])
    """

    def __init__(self, problem: FixedPoint[Any], x: Any) -> None:
        self._problem = problem
        self._x: Any = start_of(x)
        self._image: Any = None
        self.num_products = 0
        """Evaluations of the map; a product by "jvp" counts as two."""
        self.method = "differences"
        """"jvp" or "differences"."""
        if not is_numpy(self._x):
            self.method = self._choose()

    def product(self, direction: Any) -> Any:
        """``J v`` for ``v`` of the shape of ``x``."""
        return self._forward(direction) if self.method == "jvp" else self._difference(direction)

    def _forward(self, direction: Any) -> Any:
        self.num_products += 2
        return derivative_along(self._problem.map, self._x, direction)

    def _image_at(self, x: Any) -> Any:
        self.num_products += 1
        return detached(self._problem.image(x))

    def _difference(self, direction: Any) -> Any:
        if self._image is None:
            self._image = self._image_at(self._x)
        size = largest_entry(direction)
        if size == 0:
            return 0 * direction
        # Half of the digits are lost to rounding, half to curvature.
        step = epsilon(self._x) ** 0.5 * max(1.0, largest_entry(self._x)) / size
        return (self._image_at(self._x + step * direction) - self._image) / step

    def _choose(self) -> str:
        rng = np.random.default_rng(0)
        direction = _array(rng.standard_normal(_vector(self._x).size), self._x)
        try:
            forward = self._forward(direction)
        except (NotImplementedError, RuntimeError, TypeError):
            return "differences"  # an error of the map itself shows again when it is evaluated
        if forward is None:
            self.num_products -= 2  # nothing was evaluated
            return "differences"
        apart = largest_entry(forward - self._difference(direction))
        return "jvp" if apart <= AGREEMENT * largest_entry(direction) else "differences"


def jacobian_spectrum(
    map: FixedPoint[Any] | Any,  # noqa: A002 (the field's word)
    x: Any,
    *,
    max_products: int = 40,
    rtol: float = 1e-2,
    seed: int = 0,
) -> SpectralBounds | Ellipse:
    """Where the eigenvalues of ``B = I − J`` lie, J the Jacobian of a map at ``x``.

    Arnoldi's method on products ``J v``. Ritz values approach the ends of a spectrum from inside;
    the ends returned lie outside of them by the Ritz residuals, as long as B is near normal.

    Args:
        map: f, or a `FixedPoint` of it.
        x: Where, an array of NumPy or torch of any shape; best a fixed point, or near one.
        max_products: Budget of products.
        rtol: Stop when the residuals at the ends are below this share of the largest Ritz value.
        seed: Seed of the random start.

    Returns:
        The interval if the Ritz values are real, else the `Ellipse` of the smallest rate around
        them. ``num_products`` counts evaluations of the map.

    Raises:
        ValueError: If an eigenvalue of B has no positive real part, that is if J has one whose real
            part is 1 or more: the iteration then has no polynomial that makes it converge. Or if
            the map is not finite near ``x``.

    >>> bounds = jacobian_spectrum(lambda x: np.array([0.9, 0.5, -0.2]) * x, np.zeros(3))
    >>> round(bounds.lower, 6), round(bounds.upper, 6)
    (0.1, 1.2)
    """
    problem = map if isinstance(map, FixedPoint) else FixedPoint(map)
    max_products = check_count("max_products", max_products)
    jacobian = Jacobian(problem, x)
    like = start_of(x)

    def product(vector: FloatArray) -> FloatArray:
        image = _vector(jacobian.product(_array(vector, like)))
        if not np.isfinite(image).all():
            raise ValueError("`map` must be differentiable near `x`, got what is not finite there")
        return vector - image

    check_nonnegative("rtol", rtol)
    start = np.random.default_rng(check_seed("seed", seed)).standard_normal(_vector(like).size)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        values, residuals, _ = arnoldi_values(product, start, max_products, tolerance=rtol)
    spent = jacobian.num_products
    smallest, largest = float(values.real[0]), float(values.real[-1])
    noise = REAL * float(np.abs(values).max())
    rounding = epsilon(like) ** (1 if jacobian.method == "jvp" else 0.5)
    if smallest <= rounding:
        raise ValueError(
            "`map` must have a spectrum of I − J that lies right of the imaginary axis, got an "
            f"eigenvalue near {smallest:.4g}, that is {1 - smallest:.4g} of the Jacobian: near "
            "this point the map is no contraction, and no relaxation of it is; give a point nearer "
            "to a fixed point"
        )
    method = f"Arnoldi, {values.size} steps, by {jacobian.method}"
    if np.abs(values.imag).max() > noise:
        return enclosing_ellipse(values, method=method, num_products=spent, seed=seed)
    return SpectralBounds(
        max(smallest - float(residuals[0]), 0.0),
        largest + float(residuals[-1]),
        Certainty.ESTIMATED,
        Certainty.ESTIMATED,
        method=method,
        num_products=spent,
        seed=seed,
        reached_lower=smallest,
        reached_upper=largest,
    )


def _vector(x: Any) -> FloatArray:
    """The real numbers of an array, as float64 of shape (n,)."""
    values = np.ravel(to_host(x))
    if values.dtype.kind == "c":
        values = values.astype(np.complex128).view(np.float64)
    return values.astype(np.float64)


def _array(vector: FloatArray, like: Any) -> Any:
    """The array such as ``like`` whose real numbers are ``vector``."""
    values = vector.view(np.complex128) if dtype_kind(like.dtype) == "c" else vector
    return from_host(values.reshape(tuple(like.shape)), like)
