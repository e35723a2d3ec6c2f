"""Bounds from Lanczos steps with a random start, by the one-sided rule.

For a `Gram` the recurrence is Golub–Kahan's on A and Aᵀ, on the shorter side, and its bidiagonal
matrix is squared only as 2k numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold._checks import check_count, check_positive, check_share
from stepfold._krylov import Bidiagonal, Tridiagonal, golub_kahan, lanczos
from stepfold._typing import FloatArray
from stepfold.spectrum.adjoint import AdjointTest
from stepfold.spectrum.bounds import Certainty, SpectralBounds
from stepfold.spectrum.exact import NotSemidefiniteError, check_range
from stepfold.spectrum.one_sided import (
    RESOLUTION,
    floored,
    log_growth,
    log_growth_needed,
    outer_end,
)
from stepfold.spectrum.target import Products, Target

# Up to this many rows all Lanczos vectors are kept and made orthogonal; beyond, the three-term
# recurrence with its two vectors takes over, which the one-sided rule does not mind (see there).
KEEP_BASIS_UP_TO = 20_000
# Steps over which the speed of growth at 0 is measured, to tell whether the lower end is in reach.
WINDOW = 8


@dataclass(frozen=True, slots=True)
class Lanczos:
    """Lanczos steps from a random start, with ends that lie outside except by chance.

    The upper end is at most ``rtol`` above the largest eigenvalue unless the budget ends first (it
    is a bound all the same; `SpectralBounds.upper_uncertainty` tells). Steps go on for the lower
    end only while it looks within reach of the budget.

    Args:
        max_steps: Most Lanczos steps: one product each, two for a `Gram`.
        rtol: Stop looking for the upper end once it is this close to the largest Ritz value.
        lower_rtol: The same for the lower end; None to spend nothing on it.
        failure_probability: Chance, over random starts, that an end lies inside the spectrum; at
            most, for each end. A factor of ten costs some 12 % more steps.
        persistent: Whether to spend the budget on the lower end even while it looks out of reach.

    Raises:
        ValueError: If an argument is out of range.

    >>> from stepfold.spectrum import estimate_bounds
    >>> hessian = np.diag(np.linspace(1.0, 10.0, 500))
    >>> bounds = estimate_bounds(hessian, method=Lanczos())
    >>> bool(10.0 <= bounds.upper <= 10.3 and 0.5 <= bounds.lower <= 1.0)
    True
    """

    max_steps: int = 80
    rtol: float = 0.03
    lower_rtol: float | None = 0.25
    failure_probability: float = 1e-5
    persistent: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_steps", check_count("max_steps", self.max_steps))
        check_positive("rtol", self.rtol)
        if self.lower_rtol is not None:
            check_share("lower_rtol", self.lower_rtol, ", or None")
        check_share("failure_probability", self.failure_probability)

    def bounds(self, target: Target) -> SpectralBounds:
        """Bounds of the target's spectrum; the ceiling it carries ends the search early."""
        target = target.in_real_numbers()
        if target.factor is None:
            return self._of_symmetric(target)
        return self._of_gram(target)

    def _of_symmetric(self, target: Target) -> SpectralBounds:
        size = target.matrix.shape[0]
        products = Products(target.matrix, "hessian")
        run = _Run(self, size, products, target, power=1)
        projection = lanczos(
            AdjointTest(products, symmetric=True).forward,
            target.random_vector(size),
            self.max_steps,
            stop=run.close_enough,
            reorthogonalise=size <= KEEP_BASIS_UP_TO,
        )
        return run.bounds(projection, _counted(projection.diagonal.size, "Lanczos"), target.seed)

    def _of_gram(self, target: Target) -> SpectralBounds:
        num_rows, num_columns = target.matrix.shape
        # The shorter side: AᵀA and AAᵀ share their eigenvalues but for zeros.
        wide = num_rows < num_columns
        size = min(num_rows, num_columns)
        products = Products(target.matrix, "factor")
        test = AdjointTest(products, transposed=wide)
        run = _Run(self, size, products, target, power=2, singular=wide)
        projection = golub_kahan(
            test.forward,
            test.backward,
            target.random_vector(size),
            self.max_steps,
            stop=lambda bidiagonal: run.close_enough(_squared(bidiagonal)),
            reorthogonalise=max(num_rows, num_columns) <= KEEP_BASIS_UP_TO,
        )
        method = _counted(projection.diagonal.size, "Golub–Kahan")
        return run.bounds(_squared(projection), method, target.seed)


class _Run:
    """Decides when to stop, and makes the record, in units of ``2**(power·exponent)``."""

    def __init__(
        self,
        method: Lanczos,
        size: int,
        products: Products,
        target: Target,
        *,
        power: int,
        singular: bool = False,
    ) -> None:
        self._method = method
        self._size = size
        self._products = products
        self._power = power
        self._target = target
        self._singular = singular
        # That a symmetric map is semidefinite is what its owner says.
        self._certainty_of_zero = Certainty.GUARANTEED if power == 2 else Certainty.ASSUMED
        self._needed = log_growth_needed(size, method.failure_probability)
        self._growth_at_zero: list[float] = []

    def _unscaled(self, value: float) -> float:
        with np.errstate(over="ignore", under="ignore"):
            return float(np.ldexp(value, self._power * (self._products.exponent or 0)))

    def _rounding(self, projection: Tridiagonal) -> float:
        # A Rayleigh quotient is a sum of n rounded terms, whose errors are independent.
        size = max(np.abs(projection.diagonal).max(), projection.off_diagonal.max())
        return 10 * math.sqrt(self._size) * self._products.eps * float(size)

    def close_enough(self, projection: Tridiagonal) -> bool:
        """Whether further steps are not worth their products."""
        size = projection.diagonal.size
        if self._method.persistent and size > 100 and size % (size // 50):
            # Looking takes O(k²) operations: in a long run only at every fiftieth part of it.
            return False
        lowest, highest = _ends(projection)
        rounding = self._rounding(projection)
        if lowest < -rounding:
            return True  # indefinite: there is the evidence already
        alpha, beta = projection.diagonal, floored(projection.off_diagonal, rounding)
        self._growth_at_zero.append(log_growth(-alpha, beta, 0.0))
        enough = (1 + self._method.rtol / (1 + RESOLUTION)) * highest
        upper_done = (
            self._target.ceiling <= self._unscaled(enough)
            or log_growth(alpha, beta, enough) >= self._needed
        )
        return upper_done and self._lower_done(alpha, beta, lowest, rounding)

    def _lower_done(
        self, alpha: FloatArray, beta: FloatArray, lowest: float, rounding: float
    ) -> bool:
        if self._method.lower_rtol is None or self._singular or lowest <= rounding:
            return True
        if self._target.floor >= self._unscaled((1 - self._method.lower_rtol) * lowest):
            return True
        growth = self._growth_at_zero[-1]
        if growth >= self._needed:
            enough = (1 - self._method.lower_rtol / (1 + RESOLUTION)) * lowest
            return log_growth(-alpha, beta, -enough) >= self._needed
        window = min(WINDOW, len(self._growth_at_zero) - 1)
        if window == 0 or self._method.persistent:
            return False
        speed = (growth - self._growth_at_zero[-1 - window]) / window
        left = self._method.max_steps - alpha.size
        return growth + left * speed < self._needed

    def bounds(self, projection: Tridiagonal, name: str, seed: int) -> SpectralBounds:
        """The record, or an error if what was seen is no semidefinite map."""
        lowest, highest = _ends(projection)
        rounding = self._rounding(projection)
        if lowest < -rounding:
            raise NotSemidefiniteError(self._unscaled(lowest), self._unscaled(rounding))
        alpha, beta = projection.diagonal, floored(projection.off_diagonal, rounding)
        if highest <= 0 or not np.any(beta):
            upper = lower = reached_lower = reached_upper = 0.0
            name = f"{name}: the product with a random vector is 0"
        else:
            upper = outer_end(alpha, beta, highest, self._needed, rounding) + rounding
            lower = -outer_end(-alpha, beta, -lowest, self._needed, rounding) - rounding
            # Less what rounding may have added, so that no guaranteed end is contradicted.
            reached_lower, reached_upper = lowest + rounding, max(highest - rounding, 0.0)
            if self._singular or lowest <= rounding:
                lower = reached_lower = 0.0
                name = f"{name}, singular" + ("" if self._singular else " to rounding")
            elif lower <= rounding:
                lower = 0.0
                name = f"{name}, smallest eigenvalue not resolved"
        if self._power == 2:
            norm = np.ldexp(math.sqrt(reached_upper), self._products.exponent or 0)
            check_range(float(norm), self._unscaled(upper))
        return SpectralBounds(
            self._unscaled(lower),
            self._unscaled(upper),
            Certainty.ESTIMATED if lower > 0 else self._certainty_of_zero,
            Certainty.ESTIMATED,
            method=name,
            num_products=self._products.count,
            seed=seed,
            reached_lower=self._unscaled(reached_lower),
            reached_upper=self._unscaled(reached_upper),
            failure_probability=self._method.failure_probability,
        )


def _counted(num_steps: int, name: str) -> str:
    return f"{num_steps} {name} step{'' if num_steps == 1 else 's'}"


def _ends(projection: Tridiagonal) -> tuple[float, float]:
    from scipy.linalg import eigvalsh_tridiagonal

    values: Any = eigvalsh_tridiagonal(projection.diagonal, projection.off_diagonal[:-1])
    return float(values[0]), float(values[-1])


def _squared(bidiagonal: Bidiagonal) -> Tridiagonal:
    """``BᵀB`` of an upper bidiagonal B, with the coupling to the next step."""
    diagonal = bidiagonal.diagonal**2
    diagonal[1:] += bidiagonal.off_diagonal[:-1] ** 2
    return Tridiagonal(diagonal, bidiagonal.diagonal * bidiagonal.off_diagonal)
