"""Nonlinear maps: a network's layer that feeds itself, and powers in two dimensions.

References:
    Wadayama and Takabe, Chebyshev Inertial Iteration for Accelerating Fixed-Point Iterations
    (arXiv:2001.03280), the section on nonlinear maps.
"""

from __future__ import annotations

import numpy as np

from gallery.base import GALLERY, GalleryMap
from stepfold._typing import FloatArray


@GALLERY.register("tanh_network")
def tanh_network(rng: np.random.Generator) -> GalleryMap:
    """``x ← tanh(Wx + b)`` with 100 units; W is symmetric, its eigenvalues between ±0.95.

    The solution is by Newton's method.
    """
    size = 100
    weights = rng.standard_normal((size, size))
    weights = weights + weights.T
    weights *= 0.95 / np.linalg.norm(weights, 2)
    bias = 0.3 * rng.standard_normal(size)
    solution = np.zeros(size)
    for _ in range(50):
        image = np.tanh(weights @ solution + bias)
        jacobian = (1 - image**2)[:, None] * weights
        solution = solution + np.linalg.solve(np.eye(size) - jacobian, image - solution)
    return GalleryMap(lambda x: np.tanh(weights @ x + bias), np.zeros(size), solution)


@GALLERY.register("powers")
def powers(rng: np.random.Generator) -> GalleryMap:
    """``(x₁^0.2 + x₂^0.5, x₁^0.5 + x₂^0.2)`` from (1, 4); both coordinates end at 2.96457.

    The solution is that of ``x = x^0.2 + x^0.5`` by bisection.
    """
    low, high = 1.0, 9.0
    while high - low > 4e-16 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if middle**0.2 + middle**0.5 > middle else (low, middle)

    def image(x: FloatArray) -> FloatArray:
        return np.array([x[0] ** 0.2 + x[1] ** 0.5, x[0] ** 0.5 + x[1] ** 0.2])

    return GalleryMap(image, np.array([1.0, 4.0]), np.full(2, low))
