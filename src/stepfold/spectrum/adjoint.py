"""Randomised tests of symmetry, on products that the recurrences make anyway."""

from __future__ import annotations

import math

import numpy as np

from stepfold._typing import FloatArray
from stepfold.spectrum.exact import not_symmetric
from stepfold.spectrum.target import Products


class SymmetryTest:
    """Products with H that compare ``uᵀHv`` with ``vᵀHu`` for the first two Lanczos vectors.

    v is random and ``u = (Hv − αv)/β``, so the difference is a quadratic form in v whose mean is
    −½‖H − Hᵀ‖²_F/(nβ): it vanishes with probability 0 unless H is symmetric. It costs no product.

    Args:
        products: With H.
    """

    def __init__(self, products: Products) -> None:
        self._products = products
        self._first: tuple[FloatArray, FloatArray] | None = None

    def __call__(self, vector: FloatArray) -> FloatArray:
        """``H v``."""
        image = self._products.forward(vector)
        if self._products.count == 1:
            # A copy: Lanczos writes into the image, but into the vector only after the next call.
            self._first = (vector, image.copy())
        elif self._first is not None:
            first_vector, first_image = self._first
            self._first = None
            _check_adjoint(
                float(vector @ first_image),
                float(first_vector @ image),
                max(float(np.linalg.norm(image)), float(np.linalg.norm(first_image))),
                self._products.eps,
                symmetric=True,
            )
        return image


class AdjointTest:
    """Products with A and Aᵀ that compare ``uᵀ(Av)`` with ``(Aᵀu)ᵀv`` for the first two pairs.

    The second pair sees what the first cannot: an A whose AᵀD is skew, D the error of the adjoint.

    Args:
        products: With A.
        transposed: Whether the recurrence runs on Aᵀ, so that forward means backward.
    """

    def __init__(self, products: Products, *, transposed: bool) -> None:
        self._products = products
        self._products_forward = products.backward if transposed else products.forward
        self._products_backward = products.forward if transposed else products.backward
        self._right: tuple[FloatArray, FloatArray] | None = None
        self._left: tuple[FloatArray, FloatArray] | None = None

    def forward(self, vector: FloatArray) -> FloatArray:
        """``A v``."""
        image = self._products_forward(vector)
        if self._products.count == 1:
            self._right = (vector, image.copy())
        elif self._left is not None:
            left, left_image = self._left
            self._left = None
            self._check(vector, image, left, left_image)
        return image

    def backward(self, vector: FloatArray) -> FloatArray:
        """``Aᵀ u``."""
        image = self._products_backward(vector)
        if self._right is not None:
            right, right_image = self._right
            self._right = None
            self._check(right, right_image, vector, image)
            self._left = (vector, image.copy())
        return image

    def _check(self, v: FloatArray, av: FloatArray, u: FloatArray, atu: FloatArray) -> None:
        size = max(float(np.linalg.norm(av)), float(np.linalg.norm(atu)))
        _check_adjoint(float(u @ av), float(atu @ v), size, self._products.eps, symmetric=False)


def _check_adjoint(one: float, other: float, size: float, eps: float, *, symmetric: bool) -> None:
    # Unit vectors; √eps is far above rounding and far below any asymmetry worth the name.
    if abs(one - other) <= math.sqrt(eps) * size:
        return
    difference = abs(one - other) / size
    if symmetric:
        raise not_symmetric(
            "the randomised test uᵀ(Hv) = vᵀ(Hu) failed, the two differ by "
            f"{difference:.2g} of ‖Hv‖"
        )
    raise ValueError(
        "`factor.T` must be the transpose of `factor`: the randomised test uᵀ(Av) = (Aᵀu)ᵀv "
        f"failed, the two differ by {difference:.2g} of ‖Av‖; check the operator's adjoint"
    )
