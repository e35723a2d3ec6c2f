"""Positive steps whose residual polynomial comes closest to given values, in a least-squares sense.

Where noise or a mismatch make the best polynomial one with complex roots, no real steps have it;
what they can do is minimise ``∑ (sᵢ p(λᵢ) − tᵢ)²`` over ``p(λ) = ∏ₜ (1 − γₜ λ)``, ``γₜ > 0``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stepfold._typing import FloatArray
from stepfold.polynomial import residual_polynomial
from stepfold.schedules.base import Schedule
from stepfold.schedules.ordering import safe_order

# In units of 1/λ_max: a step that does nothing, where the best schedule has fewer than T.
IDLE = 1e-12


@dataclass(frozen=True, eq=False)
class PolynomialFit:
    """The sum of squares of ``scale·p(eigenvalues) − target``, all of shape (k,).

    The largest eigenvalue is the unit: steps are compared with `IDLE`.
    """

    eigenvalues: FloatArray
    scale: FloatArray
    target: FloatArray

    def residuals(self, steps: FloatArray) -> FloatArray:
        """``scale·p − target``, shape (k,)."""
        values: FloatArray = self.scale * residual_polynomial(steps, self.eigenvalues) - self.target
        return values

    def jacobian(self, steps: FloatArray) -> FloatArray:
        """Derivatives of the residuals with respect to the steps, shape (k, T)."""
        factors = 1 - steps[:, None] * self.eigenvalues
        ones = np.ones((1, self.eigenvalues.size))
        heads = np.cumprod(np.concatenate([ones, factors[:-1]]), axis=0)
        tails = np.cumprod(np.concatenate([ones, factors[:0:-1]]), axis=0)[::-1]
        slopes: FloatArray = (-self.eigenvalues * heads * tails * self.scale).T
        return slopes

    def value(self, steps: FloatArray) -> float:
        """The sum of squares, with the steps in a safe order; infinite where it overflows."""
        steps = Schedule(steps).reordered(safe_order(steps.size)).steps
        with np.errstate(over="ignore"):
            return float((self.residuals(steps) ** 2).sum())

    def refine(self, steps: FloatArray) -> FloatArray:
        """A local minimum over positive steps that is no worse than the start."""
        from scipy.optimize import least_squares

        steps = Schedule(steps).reordered(safe_order(steps.size)).steps
        result = least_squares(
            self.residuals,
            np.maximum(steps, 2 * IDLE),
            self.jacobian,
            bounds=(IDLE, np.inf),
            x_scale="jac",
            ftol=1e-15,
            xtol=1e-15,
            gtol=1e-15,
            max_nfev=100,
        )
        return np.asarray(result.x, dtype=np.float64)
