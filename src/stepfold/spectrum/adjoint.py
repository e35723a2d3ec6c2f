"""Randomised tests of symmetry and of adjoints, on products that the recurrences make anyway."""

from __future__ import annotations

import math
from collections.abc import Callable

from stepfold._arrays import copy_of, dot, norms
from stepfold._typing import FloatArray
from stepfold.spectrum.exact import not_symmetric
from stepfold.spectrum.target import Products

Product = Callable[[FloatArray], FloatArray]


class AdjointTest:
    """Products that compare ``uᵀ(Av)`` with ``(Aᵀu)ᵀv`` for vectors that follow each other.

    Of a symmetric map these are the first two Lanczos vectors. v is random and ``u = (Hv − αv)/β``,
    so the difference is a quadratic form in v whose mean is −½‖H − Hᵀ‖²_F/(nβ): it vanishes with
    probability 0 unless H is symmetric. Of others the first two pairs of Golub and Kahan are
    compared; the second sees what the first cannot: an A whose AᵀD is skew, D the error of the
    adjoint. It costs no product.

    Args:
        products: With H, or with A.
        symmetric: Whether it is H, and forward and backward are one.
        transposed: Whether the recurrence runs on Aᵀ, so that forward means backward.
    """

    def __init__(
        self, products: Products, *, symmetric: bool = False, transposed: bool = False
    ) -> None:
        self._products, self._symmetric = products, symmetric
        ways: list[Product] = [products.forward, products.backward]
        self._forward, self._backward = ways[::-1] if transposed else ways
        self._num_left = 1 if symmetric else 2
        self._last: tuple[FloatArray, FloatArray] | None = None

    def forward(self, vector: FloatArray) -> FloatArray:
        """``A v``."""
        return self._product(self._forward, vector)

    def backward(self, vector: FloatArray) -> FloatArray:
        """``Aᵀ u``."""
        return self._product(self._backward, vector)

    def _product(self, product: Product, vector: FloatArray) -> FloatArray:
        image = product(vector)
        if not self._num_left:
            return image
        if self._last is not None:
            self._check(vector, image, *self._last)
            self._num_left -= 1
        # A copy: recurrences write into the image, but into the vector only after the next call.
        self._last = (vector, copy_of(image)) if self._num_left else None
        return image

    def _check(self, u: FloatArray, atu: FloatArray, v: FloatArray, av: FloatArray) -> None:
        # Unit vectors; √eps is far above rounding and far below any asymmetry worth the name.
        size = max(float(norms(av)[0]), float(norms(atu)[0]))
        difference = abs(dot(u, av) - dot(atu, v))
        if difference <= math.sqrt(self._products.eps) * size:
            return
        if self._symmetric:
            raise not_symmetric(
                "the randomised test uᵀ(Hv) = vᵀ(Hu) failed, the two differ by "
                f"{difference / size:.2g} of ‖Hv‖"
            )
        raise ValueError(
            "`factor.T` must be the transpose of `factor`: the randomised test uᵀ(Av) = (Aᵀu)ᵀv "
            f"failed, the two differ by {difference / size:.2g} of ‖Av‖; check the operator's "
            "adjoint"
        )
