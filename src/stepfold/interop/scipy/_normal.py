"""The normal equations of `lsq_chebyshev`, with the criteria of ``lsqr``.

*One sweep.* Where `LeastSquares` has a kernel, a gradient and a product ``AᵀA p`` are one sweep
over A each. The norm of the residual, which a sweep does not tell, comes from two gradients: with
``g = Aᵀ(b − Ax) − damp²x`` (minus the gradient) at x and h at y,

    ‖b − Ax‖² + damp²‖x‖² = ‖b − Ay‖² + damp²‖y‖² − (x − y)·(g + h),

exactly, because the function is quadratic. Where the residual is so small that digits cancel, it is
computed from x.

*Digits.* Conjugate gradients carry g along, ``g ← g − α AᵀA p``. What that loses grows with κ, of
AᵀA, where products with A and Aᵀ in turn lose with its root. So g is computed from x anew whenever
it has fallen by a third of its digits, and beyond κ = 1/√eps it is no longer carried at all.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from stepfold.interop.scipy._adaptive import ABOVE_ROUNDING, System
from stepfold.interop.scipy._gram import GramSteps, RoundedGram
from stepfold.interop.scipy._inputs import check_entries
from stepfold.problems import LeastSquares
from stepfold.problems.base import apply
from stepfold.problems.rows import with_rhs

# Share of a squared norm, as a power of the machine's epsilon, below which a difference of such
# squares is not trusted: seven digits are left in float64, three in float32.
CANCELLED = 0.4
# In such powers, too: the fall of a carried gradient after which it is computed anew, and the
# condition number of AᵀA beyond which it is not carried.
FALLEN = 1 / 3
MOST_CARRIED = -1 / 2
# The fall after which it is computed anew where the norm of the residual has no digits left.
SOON = 0.1


class Normal(System):
    """``(AᴴA + damp²I) d = Aᴴ(b − Ax₀)``, d = x − x₀.

    Args:
        matrix: A.
        data: b, shape (m,) or (k, m).
        start: x₀, of the shape of the solution; None for 0.
        settings: damp, atol and btol.
    """

    def __init__(
        self, matrix: Any, data: Any, start: Any, settings: tuple[float, float, float]
    ) -> None:
        self._matrix, self._transpose = matrix, matrix.T
        self._damp, self._atol, self._btol = settings
        self._ridge = self._damp**2
        self._complex = data.dtype.kind == "c"
        self._eps = float(np.finfo(data.dtype).eps)
        self._data_size = norms(data)
        self.num_products = 0
        if start is None:
            self.start = np.zeros((*data.shape[:-1], matrix.shape[1]), data.dtype)
            self._data = data
        else:
            self.start = start
            self._data = data - self._forward(start)
        self._remainder = self._image = self._data
        self.gradient_norm = self.data_norm = self.residual_norm = self._data_size
        # Where the gradient was last computed from x: x, it, and the squared residual norms.
        self._place: tuple[Any, Any, Any] | None = None
        self._carries = self._is_carried = True
        self._grams: GramSteps | None = None
        self._gram: RoundedGram | None = None

    @functools.cached_property
    def _problem(self) -> LeastSquares[Any] | None:
        # It hides the one-pass kernels, and is real.
        if self._complex:
            return None
        try:
            return LeastSquares(self._matrix, self._data, ridge=self._ridge)
        except ValueError:
            self.check()  # says the same of `A`
            raise

    @functools.cached_property
    def _product(self) -> LeastSquares[Any]:
        """Its gradient is ``(AᵀA + damp²I) p``."""
        product: LeastSquares[Any] = with_rhs(self._problem, np.zeros_like(self._data))
        return product

    @property
    def _sweeps(self) -> bool:
        return self._problem is not None and self._problem.kernel is not None

    @property
    def is_patient(self) -> bool:
        return self._carries and (self._sweeps or self._gram is not None)

    def use(self, grams: GramSteps) -> None:
        """Take steps with a Gram matrix where that is less work; residuals still come from A."""
        self._grams = grams
        self.renew()

    def check(self) -> None:
        check_entries("A", self._matrix)

    def _forward(self, x: Any) -> Any:
        self.num_products += 1
        return apply(self._matrix, x)

    def _backward(self, y: Any) -> Any:
        self.num_products += 1
        if self._complex:
            return np.conj(apply(self._transpose, np.conj(y)))
        return apply(self._transpose, y)

    def _gradient(self, x: Any) -> Any:
        gradient = self._backward(self._remainder)
        if self._ridge:
            gradient -= self._ridge * x
        self._measure(x, gradient, norms(self._remainder) ** 2)
        return gradient

    def _measure(self, x: Any, gradient: Any, squares: Any) -> None:
        self.data_norm = np.sqrt(squares)
        self.residual_norm = np.hypot(self.data_norm, self._damp * norms(x))
        self.gradient_norm = norms(gradient)

    def residual(self, x: Any) -> Any:
        # The start is 0 always, and its product known.
        at_start = not x.any()
        if not self._sweeps:
            self._remainder = self._data if at_start else self._data - self._forward(x)
            gradient = self._gradient(x)
        else:
            problem: Any = self._problem
            gradient = problem.linear_term if at_start else -problem.gradient(x)
            self.num_products += 1 if at_start else 2
            squares = None if at_start else self._squares(x, gradient)
            if squares is None:
                remainder = self._data if at_start else self._data - self._forward(x)
                squares = norms(remainder) ** 2
            self._measure(x, gradient, squares)
        if at_start:
            self._check_range(gradient)
        if self._sweeps or self._grams is not None:
            self._place = x.copy(), gradient, self.data_norm**2
        return gradient

    def _check_range(self, gradient: Any) -> None:
        # The data have entries near 1, so this is near the norm of A, or below by cancellation.
        peak = float(abs(gradient).max())
        numbers = np.finfo(gradient.dtype)
        low, high = float(numbers.tiny) ** (1 / 3), float(numbers.max) ** (1 / 4)
        if math.isfinite(peak) and peak > 0 and not low <= peak <= high:
            raise ValueError(
                f"`A` must have a norm whose fourth power {gradient.dtype} holds, got a norm near "
                f"{peak:.2g}; divide it by that, and the solution too"
            )

    def _squares(self, x: Any, gradient: Any) -> Any | None:
        """Squared norms of ``b − Ax``; None if digits have cancelled in one of them."""
        y, known, squares = self._reference
        total = squares + self._ridge * (norms(y) ** 2 - norms(x) ** 2)
        squares = total - ((x - y) * (gradient + known)).sum(-1)
        first = norms(self._data) ** 2
        trusted = squares > self._eps**CANCELLED * np.maximum(total, first)
        return squares if np.all(trusted | (first == 0)) else None

    @property
    def _reference(self) -> tuple[Any, Any, Any]:
        assert self._place is not None, "the first residual is computed from x"  # noqa: S101
        return self._place

    def renew(self) -> bool:
        before = self._gram
        if self._grams is not None:
            self._gram = self._grams.at(self.condition)
            self.precision = self._gram.eps if self._gram is not None else 0.0
            self.num_products += self._gram is not None and self._gram is not before
        return self._gram is not before

    def advance(self, x: Any, gamma: float) -> Any:
        self.renew()
        if self._gram is not None:
            y, known, _ = self._reference
            return x + gamma * (known - self._gram.product(x - y))
        if self._problem is None:
            return x + gamma * self.residual(x)
        self.num_products += 2
        return self._problem.gradient_step(x, gamma)

    def precondition(self, residual: Any) -> Any:
        return residual

    def probe(self, direction: Any) -> float:
        self._is_carried = self._gram is not None or (self._carries and self._sweeps)
        if self._gram is not None:
            self._image = self._gram.product(direction)
        elif self._is_carried:
            self.num_products += 2
            self._image = self._product.gradient(direction)
        else:
            self._image = self._forward(direction)
            square = float(np.vdot(self._image, self._image).real)
            return square + self._ridge * float(np.vdot(direction, direction).real)
        return float(np.vdot(direction, self._image))

    def follow(self, x: Any, residual: Any, direction: Any, step: float) -> Any:
        x += step * direction
        if not self._is_carried:
            self._remainder = self._remainder - step * self._image
            return self._gradient(x)
        if self.condition > self._eps**MOST_CARRIED and self._gram is None:
            self._carries = False
            self._remainder = self._data - self._forward(x)
            return self._gradient(x)
        gradient = residual - step * self._image
        squares = self._squares(x, gradient)
        least = max(self._eps**FALLEN, ABOVE_ROUNDING * self.precision * self.condition)
        if squares is None:
            # Not known until it is computed, which is not done in every step.
            squares, least = self._reference[2], max(least, SOON)
        if np.linalg.norm(gradient) < least * np.linalg.norm(self._reference[1]):
            return self.residual(x)
        self._measure(x, gradient, squares)
        return gradient

    def _excesses(self, x: Any) -> tuple[Any, Any]:
        """How many times its tolerance each row's residual and gradient are."""
        norm = math.sqrt(self.squared_norm)
        allowed = self._btol * self._data_size + self._atol * norm * norms(self.start + x)
        least = self._atol * norm * self.residual_norm
        return _over(self.residual_norm, allowed), _over(self.gradient_norm, least)

    def rules(self, x: Any) -> Any:
        """Which rule holds for each row, 1 or 2 as in ``lsqr``; 0 if none does."""
        compatible, stationary = self._excesses(x)
        return np.where(compatible <= 1, 1, np.where(stationary <= 1, 2, 0))

    def excess(self, x: Any, residual: Any) -> float:
        return float(np.max(np.minimum(*self._excesses(x))))


def norms(rows: Any) -> Any:
    """Norm of each row."""
    return np.linalg.norm(rows, axis=-1)


def _over(values: Any, allowed: Any) -> Any:
    """``values/allowed``; 0 for ``0/0``, infinite for what is not 0 over 0."""
    ratio = values / np.where(allowed > 0, allowed, 1.0)
    return np.where(allowed > 0, ratio, np.where(values == 0, 0.0, np.inf))
