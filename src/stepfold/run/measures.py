"""What a run looks at: the size that its tolerances are about, and what rounding makes of it.

A look at an iterate costs one gradient, which the next step takes: looks at known steps are free.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import epsilon, norms, norms_together, numbers_and_norms, to_host
from stepfold._typing import FloatArray
from stepfold.problems import Composite, LeastSquares, Problem, QuadraticProblem
from stepfold.problems.composite import optimality
from stepfold.problems.duality import look
from stepfold.result import Status
from stepfold.run.diagnosis import few_lanczos_steps
from stepfold.run.ledger import Ledger, Seen

# Units of rounding, of the numbers that a size is the difference of, below which it may be rounding
# only: sums of n terms in blocks, and periods that multiply rounding errors, account for so many.
RESTING = 100.0
# What rounding can make of a gradient that an error is certified by, in the same units.
ROUNDED = 4.0
# The same of the terms of a duality gap.
RESTING_GAP = 10.0
# Share of a size down to which it may be carried along by a recurrence.
CARRIED = 1e-6
# Lanczos steps that test a lower bound before an error is certified by it.
PROBE_STEPS = 6

Places = NDArray[np.intp]


class Measure(ABC):
    """Judges iterates; keeps the tolerances of all rows.

    Attributes:
        upper: An upper bound of the spectrum, or nearly: what rounding of x is multiplied by.
        lower: A lower bound that a certificate of the error may rest on; 0 if there is none.
        is_of_gradient: Whether a size is 0 where the gradient is, and nowhere else.
        amplification: What a rounding error made between two looks is multiplied by at most.
        num_products: Products spent on more than the looks themselves, to be booked.
        notes: Sentences for the result.
        is_scaled: Whether sizes are those of a problem whose columns were scaled to one norm.
        hessian_unit: Eigenvalues of the problem as it was posed are this times those of the run.
    """

    is_of_gradient: ClassVar[bool] = False

    def __init__(self) -> None:
        self.upper = self.lower = 0.0
        self.amplification = 1.0
        self.is_scaled = False
        self.hessian_unit = 1.0
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

    def sizes_of(self, problem: QuadraticProblem[Any], dual: Any, primal: Any) -> FloatArray:
        """What a look would see of a gradient.

        Args:
            problem: The problem.
            dual: A gradient in the usual inner product.
            primal: The same in that of the problem.
        """
        return problem.gradient_norms(dual, primal)

    def reason(self, status: Status | None) -> str | None:
        """What a status means for what is looked at; None for the status' own words."""
        del status
        return None

    def closing_notes(self, ledger: Ledger) -> list[str]:
        """Sentences on what was seen, once the run has ended."""
        del ledger
        return self.notes

    def loses_track(self, places: Places, gain: FloatArray) -> bool:
        """Whether what is carried along lacks the digits that criteria need; a look has them.

        Args:
            places: Which rows.
            gain: By how much twice f has fallen since the last look.
        """
        del places, gain
        return False

    @property
    def carried_target(self) -> float | None:
        """The size at which a single row may meet its criteria; None if more than that counts."""
        return None

    def may_be_met(
        self, places: Places, x: Any, sizes: FloatArray, gain: FloatArray
    ) -> NDArray[np.bool_]:
        """Which rows meet their criteria by what was carried along; a look can tell.

        Args:
            places: Which rows.
            x: Their iterates.
            sizes: About what a look would see.
            gain: By how much twice f has fallen since the last look.
        """
        del x, sizes, gain
        return np.ones(places.size, dtype=bool)


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
        is_preconditioned: Whether norms are those of the problem's own inner product; else they are
            the usual ones, whatever the preconditioner.
    """

    is_of_gradient = True

    def __init__(
        self,
        rtol: float,
        atol: float | FloatArray,
        error_rtol: float | None,
        reference: FloatArray,
        *,
        lower: float = 0.0,
        confirms: bool = True,
        is_preconditioned: bool = True,
    ) -> None:
        super().__init__()
        self._rtol, self._atol, self._error_rtol = rtol, atol, error_rtol
        self._is_preconditioned = is_preconditioned
        self._reference = reference
        self.lower = lower
        self._confirms = confirms
        self._tolerance: FloatArray | None = None
        self._roundings = np.zeros(reference.size)

    @property
    def asked_rtol(self) -> float:
        """The reduction of the gradient norm that is asked for."""
        return self._rtol if self._error_rtol is None else min(self._rtol, self._error_rtol)

    def look(self, problem: Problem[Any], places: Places, x: Any, known: Any = None) -> Seen:
        if isinstance(problem, QuadraticProblem):
            # The norm of M⁻¹∇f in the inner product in which the Hessian is symmetric.
            dual = problem.euclidean.gradient(x) if known is None else known
            known = problem.precondition(dual)
            if problem.euclidean is problem:
                sizes, lengths = norms_together(dual, x)
            else:
                sizes, lengths = self.sizes_of(problem, dual, known), problem.lengths(x)
        else:
            dual = known = problem.gradient(x) if known is None else known
            sizes, lengths = norms_together(known, x)
        if self._tolerance is None:
            reference = np.where(self._reference > 0, self._reference, sizes)
            # 0 times infinity: a norm of 0 meets every relative tolerance.
            with np.errstate(invalid="ignore"):
                tolerance = np.fmax(self._rtol * reference, self._atol)
            self._tolerance = np.where(reference == 0, self._atol, tolerance)
        magnitude = self.upper * lengths
        if isinstance(problem, QuadraticProblem):
            magnitude = problem.gradient_magnitude(lengths, self.upper)
            if not self._is_preconditioned and problem.euclidean is not problem:
                # The upper bound is of another inner product, and says nothing in this one.
                magnitude = problem.euclidean.gradient_magnitude(0 * lengths, 0.0)
        self._roundings[places] = ROUNDED * epsilon(x) * magnitude
        met = self._met(places, x, sizes)
        certified = np.flatnonzero(met & (sizes > 0))
        if self._error_rtol is not None and self._confirms and certified.size:
            self._confirm(problem, dual, int(certified[0]))
            met = self._met(places, x, sizes)
        floor = RESTING * self.amplification * epsilon(x) * magnitude
        return Seen(sizes, met, floor, known, dual)

    def sizes_of(self, problem: QuadraticProblem[Any], dual: Any, primal: Any) -> FloatArray:
        sizes = problem.gradient_norms(dual, primal)  # refuses an M that is not definite
        return sizes if self._is_preconditioned else norms(dual)

    def _confirm(self, problem: Any, dual: Any, row: int) -> None:
        """Test the lower bound by a few Lanczos steps from the gradient of one row.

        After many steps the gradient is made of what they shrink least, which are the eigenvalues
        below the bound if there are any.
        """
        start = dual if dual.ndim == 1 else dual[row]
        found, asymmetry = few_lanczos_steps(problem, start, PROBE_STEPS)
        self.num_products += problem.euclidean.products_per_gradient * found.diagonal.size
        if asymmetry is not None:
            self.lower = 0.0
            is_squared = isinstance(problem.euclidean, LeastSquares)
            claim = "The adjoint of the operator is wrong: AᵀA" if is_squared else "The Hessian"
            self.notes.append(
                f"{claim} is not symmetric: two products with it, uᵀ(Hv) and vᵀ(Hu), differ by "
                f"{asymmetry:.2g} of their size. No error is certified."
            )
            return
        low, _, residual, _ = found.ends()  # an eigenvalue lies at the Ritz value or below
        if not low < self.lower * (1 - 1e3 * epsilon(dual)):
            return
        refuted = self.lower
        self.lower = 0.75 * (low - residual)
        if not self.lower > low / 4:
            self.lower = 0.0
        unit = self.hessian_unit
        remedy = "no error is certified"
        if self.lower:
            remedy = f"it was lowered to {self.lower * unit:.4g}"
        self.notes.append(
            f"The lower bound {refuted * unit:.6g} is refuted by an eigenvalue at {low * unit:.6g} "
            f"or below; {remedy}."
        )

    @property
    def carried_target(self) -> float | None:
        if self._error_rtol is not None or self._tolerance is None:
            return None
        return float(self._tolerance[0]) if self._tolerance.size == 1 else None

    def _met(self, places: Places, x: Any, sizes: FloatArray) -> NDArray[np.bool_]:
        assert self._tolerance is not None  # noqa: S101
        met: NDArray[np.bool_] = sizes <= self._tolerance[places]
        if self._error_rtol is not None:
            if not self.lower > 0:
                return np.zeros_like(met)
            # ‖e‖ ≤ ‖g‖/a and ‖x*‖ ≥ ‖x‖ − ‖e‖.
            error = (sizes + self._roundings[places]) / self.lower
            met &= error * (1 + self._error_rtol) <= self._error_rtol * norms(x)
        return met

    def may_be_met(
        self, places: Places, x: Any, sizes: FloatArray, gain: FloatArray
    ) -> NDArray[np.bool_]:
        del gain
        return self._met(places, x, sizes)


class ProximalStep(Measure):
    """‖x − prox_{γg}(x − γ∇f(x))‖/γ ≤ max(rtol·(that at 0), atol), and the duality gap.

    Its first look must be at 0, where that is known, for relative tolerances refer to it. With a
    step for each entry sizes are those of the problem whose columns were scaled; the same in the
    units of the problem as it was posed must hold too.

    Args:
        composite: The objective.
        steps: γ, or one for each entry.
        upper: An upper bound of the spectrum in the units of the steps; 1/γ for one γ.
        rtol: See above; None for no such criterion.
        atol: See above.
        gap_rtol: Of the duality gap, relative to the objective at 0; None for none.
        gap_atol: The same, absolute.
    """

    def __init__(
        self,
        composite: Composite[Any],
        steps: Any,
        upper: float,
        rtol: float | None,
        atol: float,
        gap_rtol: float | None,
        gap_atol: float,
    ) -> None:
        super().__init__()
        self._composite, self.steps = composite, steps
        self.is_scaled = getattr(steps, "ndim", 0) > 0
        self._posed_tolerance = np.zeros(1)
        self._on_norm = rtol is not None or atol > 0
        self.on_gap = gap_rtol is not None or gap_atol > 0
        self._rtol, self._atol = rtol or 0.0, atol
        self._gap_rtol, self._gap_atol = gap_rtol or 0.0, gap_atol
        self._tolerance: FloatArray | None = None
        self._gap_tolerance = np.zeros(1)
        self.upper = upper

    def look(self, problem: Problem[Any], places: Places, x: Any, known: Any = None) -> Seen:
        del known
        composite, seen = self._composite, look(problem, x)
        scaled = x / (self.steps * self.upper) ** 0.5 if self.is_scaled else x
        found = [
            optimality(composite.penalty, x, seen.gradient, self.steps),
            composite.penalty.value(x),
            seen.value,
        ]
        if composite.has_gap:
            found.append(composite.gap_at(x, seen))
        (sizes, penalties, values, *last), (lengths, slopes) = numbers_and_norms(
            found, [scaled, seen.gradient]
        )
        gaps = last[0] if last else None
        if self.is_scaled:
            sizes = sizes * self.upper**0.5
        if self._tolerance is None:
            # Where 0 is infeasible its objective is infinite, and no measure for anything.
            objective = values + penalties
            objective = np.where(np.isfinite(objective), abs(objective), 0.0)
            self._tolerance = np.maximum(self._rtol * sizes, self._atol)
            self._gap_tolerance = np.maximum(self._gap_rtol * objective, self._gap_atol)
            if self.is_scaled and self._on_norm:
                posed = self._posed_sizes(x, seen.gradient)
                self._posed_tolerance = np.maximum(self._rtol * posed, self._atol)
        is_small = np.ones(sizes.shape, dtype=bool)
        if self._on_norm:
            is_small &= sizes <= self._tolerance[places]
            if self.is_scaled and is_small.any():
                posed = self._posed_sizes(x, seen.gradient)
                is_small &= posed <= self._posed_tolerance[places]
        # x and the point that the step ends at are rounded to eps·‖x‖ each.
        magnitude = self.upper * lengths + slopes
        if isinstance(problem, LeastSquares):
            magnitude = problem.gradient_magnitude(lengths, self.upper)
        floor = RESTING * epsilon(x) * magnitude
        resting = ~is_small & (sizes <= floor)
        if not self.on_gap:
            return Seen(sizes, is_small, floor, seen.gradient, gaps=gaps, resting=resting)
        assert gaps is not None  # noqa: S101 (`solve` refuses gap tolerances without a gap)
        is_near = gaps <= self._gap_tolerance[places]
        # A gap is a sum of terms as large as the two parts of the objective; the dual point is
        # rounded as the gradient is, and multiplied by x.
        terms = abs(values) + np.where(np.isfinite(penalties), abs(penalties), 0.0)
        rounding = RESTING_GAP * epsilon(x) * (terms + magnitude * lengths)
        resting |= ~is_near & (gaps <= rounding)
        met = is_small & is_near
        return Seen(sizes, met, floor, seen.gradient, gaps=gaps, scores=gaps, resting=resting)

    def _posed_sizes(self, x: Any, gradient: Any) -> FloatArray:
        composite = self._composite
        return numbers(optimality(composite.penalty, x, gradient, composite.step))

    def targets(self, places: Places, seen: Seen) -> FloatArray:
        """Sizes at which the criteria are likely to hold, for what sees the sizes only."""
        assert self._tolerance is not None  # noqa: S101
        targets = np.full(seen.sizes.shape, math.inf)
        if self._on_norm:
            targets = self._tolerance[places] / 2
        if self.on_gap and seen.gaps is not None:
            # The dual point's scale, and with it the gap, falls as the size does, or faster.
            with np.errstate(divide="ignore", invalid="ignore"):
                share = np.nan_to_num(self._gap_tolerance[places] / seen.gaps, nan=0.0)
            targets = np.minimum(targets, seen.sizes * np.clip(share, 0, 1) / 2)
        # Sizes that are carried along for too long are rounding.
        least: FloatArray = np.maximum(seen.floor / RESTING, CARRIED * seen.sizes)
        found: FloatArray = np.maximum(targets, least)
        return found

    def reason(self, status: Status | None) -> str | None:
        what = "duality gap" if self.on_gap else "proximal step"
        return {
            Status.CONVERGED: f"The {what} fell below the tolerance.",
            Status.BUDGET: "The budget was spent; raise `max_steps`, `max_products` or "
            "`max_seconds`, or loosen the tolerance.",
            Status.STALLED: f"The {what} stopped falling at the precision of the arithmetic; "
            "loosen the tolerance, or use a wider dtype.",
            Status.DIVERGED: "The proximal step grew beyond all bounds: step sizes must be below "
            "2/b, for `Fista` at most 1/b, for the upper bound b of the curvature.",
        }.get(status or Status.BUDGET)

    def closing_notes(self, ledger: Ledger) -> list[str]:
        smallest = math.inf if ledger.gaps is None else float(ledger.least_gaps.max())
        if not math.isfinite(smallest):
            return self.notes
        return [
            *self.notes,
            f"The duality gap came down to {smallest:.3g}: the objective is at most that far above "
            "its minimum.",
        ]


def numbers(values: Any) -> FloatArray:
    """One number per row, as float64 of shape (rows,)."""
    return np.atleast_1d(np.asarray(to_host(values), dtype=np.float64))
