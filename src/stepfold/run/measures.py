"""What a run looks at: the size that its tolerances are about, and what rounding makes of it.

A look at an iterate costs one gradient, which the next step takes: looks at known steps are free.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import epsilon, norms
from stepfold._typing import FloatArray
from stepfold.problems import Composite, Problem, QuadraticProblem
from stepfold.problems.composite import optimality
from stepfold.problems.duality import look
from stepfold.run.diagnosis import lower_ritz_value
from stepfold.run.ledger import Seen

# Units of rounding, of the numbers that a size is the difference of, below which it may be rounding
# only: sums of n terms in blocks, and periods that multiply rounding errors, account for so many.
RESTING = 100.0
# Lanczos steps that test a lower bound before an error is certified by it.
PROBE_STEPS = 6

Places = NDArray[np.intp]


class Measure(ABC):
    """Judges iterates; keeps the tolerances of all rows.

    Attributes:
        upper: An upper bound of the spectrum, or nearly: what rounding of x is multiplied by.
        lower: A lower bound that a certificate of the error may rest on; 0 if there is none.
        num_products: Products spent on more than the looks themselves, to be booked.
        notes: Sentences for the result.
    """

    def __init__(self) -> None:
        self.upper = self.lower = 0.0
        self.num_products = 0
        self.notes: list[str] = []

    @abstractmethod
    def look(self, problem: Any, places: Places, x: Any, known: Any = None) -> Seen:
        """Look at an iterate.

        Args:
            problem: The problem of the rows ``places``.
            places: Which rows of the batch they are.
            x: Their iterates.
            known: The gradient there in the usual inner product, if it is known.
        """

    def may_be_met(self, places: Places, x: Any, sizes: FloatArray, gain: FloatArray) -> bool:
        """Whether a look is worth its cost, by sizes that were carried along.

        Args:
            places: Which rows.
            x: Their iterates.
            sizes: About what a look would see.
            gain: By how much f has fallen since the last look.
        """
        del places, x, sizes, gain
        return True


class GradientNorm(Measure):
    """‖∇f(x)‖ ≤ max(rtol·‖∇f(0)‖, atol), and a certified error where one is asked for.

    Args:
        rtol: See above; infinite for no such criterion.
        atol: See above.
        error_rtol: Bound of ‖x − x*‖/‖x*‖ that is to be certain; None for none.
        reference: ‖∇f(0)‖ for each row; where it is 0 or not known (NaN), the size at the first
            look takes its place.
        lower: A lower bound of the spectrum, for certificates.
        confirms: Whether the lower bound is tested before an error is certified by it.
    """

    def __init__(
        self,
        rtol: float,
        atol: float,
        error_rtol: float | None,
        reference: FloatArray,
        *,
        lower: float = 0.0,
        confirms: bool = True,
    ) -> None:
        super().__init__()
        self._rtol, self._atol, self._error_rtol = rtol, atol, error_rtol
        self._reference = reference
        self.lower = lower
        self._confirms = confirms
        self._tolerance: FloatArray | None = None

    @property
    def asked_rtol(self) -> float:
        """The reduction of the gradient norm that is asked for."""
        return self._rtol if self._error_rtol is None else min(self._rtol, self._error_rtol)

    def look(self, problem: Problem[Any], places: Places, x: Any, known: Any = None) -> Seen:
        if isinstance(problem, QuadraticProblem):
            # The norm of M⁻¹∇f in the inner product in which the Hessian is symmetric.
            dual = problem.euclidean.gradient(x) if known is None else known
            known, sizes = problem.precondition(dual), problem.gradient_norms(dual)
        else:
            dual = known = problem.gradient(x) if known is None else known
            sizes = norms(known)
        if self._tolerance is None:
            reference = np.where(self._reference > 0, self._reference, sizes)
            # 0 times infinity: a norm of 0 meets every relative tolerance.
            with np.errstate(invalid="ignore"):
                tolerance = np.fmax(self._rtol * reference, self._atol)
            self._tolerance = np.where(reference == 0, self._atol, tolerance)
        met = self._met(places, x, sizes)
        if self._error_rtol is not None and self._confirms and met.any():
            self._confirm(problem, dual, int(np.flatnonzero(met)[0]))
            met = self._met(places, x, sizes)
        magnitude = (
            problem.gradient_magnitude(x, self.upper)
            if isinstance(problem, QuadraticProblem)
            else self.upper * norms(x)
        )
        return Seen(sizes, met, RESTING * epsilon(x) * magnitude, known, dual)

    def _confirm(self, problem: Any, dual: Any, row: int) -> None:
        """Test the lower bound by a few Lanczos steps from the gradient of one row.

        After many steps the gradient is made of what they shrink least, which are the eigenvalues
        below the bound if there are any.
        """
        start = dual if dual.ndim == 1 else dual[row]
        found = lower_ritz_value(problem, start, PROBE_STEPS)
        self.num_products += found.num_products
        if not found.value < self.lower * (1 - 1e3 * epsilon(dual)):
            return
        refuted = self.lower
        self.lower = 0.75 * (found.value - found.residual)
        if not self.lower > found.value / 4:
            self.lower = 0.0
        remedy = f"it was lowered to {self.lower:.4g}" if self.lower else "no error is certified"
        self.notes.append(
            f"The lower bound {refuted:.6g} is refuted by an eigenvalue at {found.value:.6g} or "
            f"below; {remedy}."
        )

    def _met(self, places: Places, x: Any, sizes: FloatArray) -> NDArray[np.bool_]:
        assert self._tolerance is not None  # noqa: S101
        met: NDArray[np.bool_] = sizes <= self._tolerance[places]
        if self._error_rtol is not None:
            if not self.lower > 0:
                return np.zeros_like(met)
            # ‖e‖ ≤ ‖g‖/a and ‖x*‖ ≥ ‖x‖ − ‖e‖.
            error = sizes / self.lower
            met &= error * (1 + self._error_rtol) <= self._error_rtol * norms(x)
        return met

    def may_be_met(self, places: Places, x: Any, sizes: FloatArray, gain: FloatArray) -> bool:
        del gain
        return bool(self._met(places, x, sizes).any())


class ProximalStep(Measure):
    """‖x − prox_{γg}(x − γ∇f(x))‖/γ ≤ max(rtol·(that at 0), atol), and the duality gap.

    Args:
        composite: The objective.
        gamma: γ.
        rtol: See above; None for no such criterion.
        atol: See above.
        gap_rtol: Of the duality gap, relative to the objective at 0; None for none.
        gap_atol: The same, absolute.
    """

    def __init__(
        self,
        composite: Composite[Any],
        gamma: float,
        rtol: float | None,
        atol: float,
        gap_rtol: float | None,
        gap_atol: float,
    ) -> None:
        super().__init__()
        self._composite, self._gamma = composite, gamma
        self._on_norm = rtol is not None or atol > 0
        self.on_gap = gap_rtol is not None or gap_atol > 0
        self._rtol, self._atol = rtol or 0.0, atol
        self._gap_rtol, self._gap_atol = gap_rtol or 0.0, gap_atol
        self._tolerance: FloatArray | None = None
        self._gap_tolerance = np.zeros(1)
        self.upper = 1 / gamma

    def set_scales(self, problem: Problem[Any], zero: Any) -> Any:
        """Measure the objective at 0, which relative tolerances refer to; the gradient there."""
        sizes, _, values, gradient = self._measured(problem, zero)
        self._tolerance = np.maximum(self._rtol * sizes, self._atol)
        # Where 0 is infeasible its objective is infinite, and no measure for anything.
        values = np.where(np.isfinite(values), abs(values), 0.0)
        self._gap_tolerance = np.maximum(self._gap_rtol * values, self._gap_atol)
        return gradient

    def _measured(self, problem: Problem[Any], x: Any) -> tuple[Any, ...]:
        composite = self._composite
        seen = look(problem, x)
        return (
            _numbers(optimality(composite.penalty, x, seen.gradient, self._gamma)),
            _numbers(composite.gap_at(x, seen)) if composite.has_gap else None,
            _numbers(seen.value + composite.penalty.value(x)),
            seen.gradient,
        )

    def look(self, problem: Problem[Any], places: Places, x: Any, known: Any = None) -> Seen:
        del known
        sizes, gaps, values, gradient = self._measured(problem, x)
        if self._tolerance is None:
            self._tolerance = np.maximum(self._rtol * sizes, self._atol)
            self._gap_tolerance = np.maximum(self._gap_rtol * abs(values), self._gap_atol)
        met = np.ones(sizes.shape, dtype=bool)
        if self._on_norm:
            met &= sizes <= self._tolerance[places]
        if self.on_gap:
            met &= gaps <= self._gap_tolerance[places]
        # x and the point that the step ends at are rounded to eps·‖x‖ each.
        rounding = epsilon(x) * (self.upper * norms(x) + norms(gradient))
        floor = RESTING * rounding
        scores = gaps if self.on_gap else None
        return Seen(sizes, met, floor, gradient, gaps=gaps, scores=scores)


def _numbers(values: Any) -> FloatArray:
    """One number per row, as float64 of shape (rows,)."""
    return np.atleast_1d(np.asarray(values.tolist(), dtype=np.float64))
