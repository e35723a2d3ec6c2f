"""The interval that holds the eigenvalues of a Hessian, and how reliable each end is.

An upper end that is too low makes every schedule diverge; one that is a little too high costs
almost nothing. A lower end that is too low only slows. So ends lie outside the spectrum, and what
was reached from inside is kept beside them: the distance between the two is the uncertainty.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from stepfold._checks import (
    check_count,
    check_instance,
    check_items,
    check_nonnegative,
    check_real,
    check_share,
)
from stepfold._codec import JsonRecord
from stepfold._show import counted, lines


class Certainty(enum.StrEnum):
    """How reliable an end of the interval is.

    >>> str(SpectralBounds(1.0, 2.0).lower_certainty)
    'assumed'
    """

    GUARANTEED = "guaranteed"
    """Computed from all eigenvalues, or proved: no eigenvalue lies beyond, up to rounding."""
    ESTIMATED = "estimated"
    """From a Krylov space with a random start: beyond it only with small probability."""
    ASSUMED = "assumed"
    """Given by the caller, or derived from what the caller says about the operator."""


_RANK = {Certainty.GUARANTEED: 0, Certainty.ESTIMATED: 1, Certainty.ASSUMED: 2}


@dataclass(frozen=True, slots=True)
class SpectralBounds(JsonRecord):
    """Interval that contains every eigenvalue of the Hessian, in units of the Hessian.

    Args:
        lower: Lower end, at least 0. A lower end of 0 (or of the shift of a `Gram`) is what
            semidefiniteness alone gives; with ``reached_lower`` above it, it means *unknown*.
        upper: Upper end, at least ``lower`` and finite.
        lower_certainty: How reliable the lower end is.
        upper_certainty: How reliable the upper end is.
        method: What the ends come from, for people to read.
        num_products: Products with the operator (and with its transpose, counted singly) spent;
            a pass over the entries counts as one.
        seed: Seed of the random start, if there was one.
        reached_lower: A Rayleigh quotient: the smallest eigenvalue is at most this.
        reached_upper: A Rayleigh quotient: the largest eigenvalue is at least this.
        failure_probability: For estimated ends, how likely each lies inside the spectrum, at most.

    Raises:
        TypeError: If a field is of another kind.
        ValueError: Unless 0 <= lower <= upper < inf, and what was reached lies between; if a
            certainty is none of `Certainty`, a count is negative, or a probability is not between
            0 and 1.

    >>> SpectralBounds(1.0, 9.0).condition_number
    9.0
    """

    lower: float
    upper: float
    lower_certainty: Certainty = Certainty.ASSUMED
    upper_certainty: Certainty = Certainty.ASSUMED
    method: str = "given"
    num_products: int = 0
    seed: int | None = None
    reached_lower: float | None = None
    reached_upper: float | None = None
    failure_probability: float | None = None

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            object.__setattr__(self, name, float(check_real(name, getattr(self, name))))
        if not 0 <= self.lower <= self.upper < math.inf:
            raise ValueError(
                "`bounds` must satisfy 0 <= lower <= upper < inf, "
                f"got lower={self.lower!r}, upper={self.upper!r}"
            )
        for name in ("reached_lower", "reached_upper"):
            value = getattr(self, name)
            if value is None:
                continue
            value = float(check_real(name, value))
            if not self.lower <= value <= self.upper:
                raise ValueError(
                    f"`{name}` is a Rayleigh quotient and must lie between lower={self.lower!r} "
                    f"and upper={self.upper!r}, got {value!r}; the bounds do not hold the spectrum"
                )
            object.__setattr__(self, name, value)
        self._check_provenance()

    def _check_provenance(self) -> None:
        for name in ("lower_certainty", "upper_certainty"):
            value = getattr(self, name)
            if not isinstance(value, str) or value not in tuple(Certainty):
                raise ValueError(
                    f"`{name}` must be one of {', '.join(map(repr, map(str, Certainty)))}, got "
                    f"{value!r}"
                )
            object.__setattr__(self, name, Certainty(value))
        if not isinstance(self.method, str):
            raise TypeError(f"`method` must be a string, got {type(self.method).__name__}")
        for name in ("num_products", "seed"):
            value = getattr(self, name)
            if value is not None or name == "num_products":
                object.__setattr__(self, name, check_count(name, value, minimum=0))
        if self.failure_probability is not None:
            chance = float(check_real("failure_probability", self.failure_probability))
            check_share("failure_probability", chance)
            object.__setattr__(self, "failure_probability", chance)

    @property
    def condition_number(self) -> float:
        """κ = upper / lower; infinite if ``lower`` is 0."""
        return self.upper / self.lower if self.lower > 0 else math.inf

    @property
    def lower_uncertainty(self) -> float | None:
        """``1 − lower / λ_min`` is at most this: 0 exact, 1 unknown; None for given bounds.

        >>> SpectralBounds(3.0, 9.0, reached_lower=4.0).lower_uncertainty
        0.25
        """
        if self.reached_lower is None:
            return None
        return 1 - self.lower / self.reached_lower if self.reached_lower > 0 else 0.0

    @property
    def upper_uncertainty(self) -> float | None:
        """``upper / λ_max − 1`` is at most this: 0 exact; None for given bounds.

        >>> SpectralBounds(3.0, 9.0, reached_upper=8.0).upper_uncertainty
        0.125
        """
        if self.reached_upper is None:
            return None
        if self.reached_upper == 0:
            return 0.0 if self.upper == 0 else math.inf
        return self.upper / self.reached_upper - 1

    def __str__(self) -> str:
        """Two lines: the ends and how reliable they are; where they are from.

        >>> print(SpectralBounds(1.0, 9.0))
        eigenvalues in [1, 9] (both ends assumed), condition number 9
        given
        """
        low, high = self.lower_certainty, self.upper_certainty
        sure = f"both ends {low}" if low is high else f"lower end {low}, upper end {high}"
        ratio = self.condition_number
        known = (
            f"condition number {ratio:.4g}" if math.isfinite(ratio) else "no lower bound above 0"
        )
        chance = self.failure_probability
        return lines(
            (
                f"eigenvalues in [{self.lower:.4g}, {self.upper:.4g}] ({sure}), {known}",
                self.method
                + (f", {counted(self.num_products, 'product')}" if self.num_products else "")
                + (f", wrong with a probability of at most {chance:.1g} an end" if chance else ""),
            )
        )

    def __contains__(self, eigenvalue: float) -> bool:
        return self.lower <= eigenvalue <= self.upper

    def shifted(self, shift: float) -> SpectralBounds:
        """Bounds of ``hessian + shift·I``, as certain as those of the Hessian.

        Args:
            shift: μ, at least 0: the weight of a ridge term ½μ‖x‖².

        >>> SpectralBounds(0.0, 9.0).shifted(0.5).lower
        0.5
        """
        if check_nonnegative("shift", shift) == 0:
            return self
        return replace(
            self,
            lower=self.lower + shift,
            upper=self.upper + shift,
            method=f"{self.method}; shift {shift:g}",
            reached_lower=None if self.reached_lower is None else self.reached_lower + shift,
            reached_upper=None if self.reached_upper is None else self.reached_upper + shift,
        )


def check_bounds(bounds: Any, *, or_none: bool = True) -> None:
    """Raise unless these are `SpectralBounds`, or None where that is allowed."""
    if not isinstance(bounds, SpectralBounds) and not (or_none and bounds is None):
        raise TypeError(
            f"`bounds` must be SpectralBounds{' or None' * or_none}, got {type(bounds).__name__}; "
            "wrap the ends as `SpectralBounds(lower, upper)`, or take those of "
            "`estimate_bounds(hessian)`"
        )


def check_positive_bounds(bounds: Any, *, or_none: bool = True) -> None:
    """Raise unless these are `SpectralBounds` with an upper end above 0, or an allowed None."""
    check_bounds(bounds, or_none=or_none)
    if bounds is not None and bounds.upper == 0:
        raise ValueError("`bounds.upper` must be positive, got 0.0; the operator is zero")


def tightest(parts: Iterable[SpectralBounds]) -> SpectralBounds:
    """Intersection of several bounds of one spectrum; of equal ends the more certain one counts.

    Raises:
        ValueError: If there are none, or the bounds contradict each other, that is if one lies
            inside what another reached.

    >>> proved = SpectralBounds(0.0, 4.0, upper_certainty=Certainty.GUARANTEED, method="discs")
    >>> tightest([SpectralBounds(1.0, 4.5, method="steps"), proved]).method
    'upper: discs (tighter than steps); lower: steps'
    """
    parts = check_items("parts", parts, "SpectralBounds")
    for part in parts:
        check_instance("parts", part, SpectralBounds, "take those of `estimate_bounds`")
    if not parts:
        raise ValueError("`parts` must hold at least one record of bounds, got none")
    # Last in the keys: a method that has looked from inside as well can say what it did not see.
    low = min(parts, key=lambda p: (-p.lower, _RANK[p.lower_certainty], p.reached_lower is None))
    high = min(parts, key=lambda p: (p.upper, _RANK[p.upper_certainty], p.reached_upper is None))
    reached_lower = [p.reached_lower for p in parts if p.reached_lower is not None]
    reached_upper = [p.reached_upper for p in parts if p.reached_upper is not None]
    _check_agreement(low, high, reached_lower, reached_upper)
    # What rounding left outside of a guaranteed end is that end.
    reached_lower = [min(max(value, low.lower), high.upper) for value in reached_lower]
    reached_upper = [min(max(value, low.lower), high.upper) for value in reached_upper]
    estimated = Certainty.ESTIMATED in (low.lower_certainty, high.upper_certainty)
    probabilities = [p.failure_probability for p in (low, high) if p.failure_probability]
    return SpectralBounds(
        low.lower,
        high.upper,
        low.lower_certainty,
        high.upper_certainty,
        method=_joint_method(low, high, parts),
        num_products=sum(part.num_products for part in parts),
        seed=next((part.seed for part in parts if part.seed is not None), None),
        reached_lower=min(reached_lower, default=None),
        reached_upper=max(reached_upper, default=None),
        failure_probability=max(probabilities, default=None) if estimated else None,
    )


def _check_agreement(
    low: SpectralBounds,
    high: SpectralBounds,
    reached_lower: list[float],
    reached_upper: list[float],
) -> None:
    # A guaranteed end and an eigenvalue may differ by rounding; what differs by more is a wrong
    # statement of the caller's about the operator (or of the operator about its entries).
    slack = 1e-10 * high.upper
    if reached_upper and max(reached_upper) > high.upper + slack:
        raise ValueError(
            f"the upper end {high.upper:.6g} from `{high.method}` is contradicted by a Rayleigh "
            f"quotient of {max(reached_upper):.6g}; the operator is not what the method was told"
        )
    if reached_lower and min(reached_lower) < low.lower - slack:
        raise ValueError(
            f"the lower end {low.lower:.6g} from `{low.method}` is contradicted by a Rayleigh "
            f"quotient of {min(reached_lower):.6g}; the operator is not what the method was told"
        )


def _joint_method(low: SpectralBounds, high: SpectralBounds, parts: list[SpectralBounds]) -> str:
    if low is high:
        return low.method
    beaten = [part.method.split(",")[0] for part in parts if part.upper > high.upper]
    tighter = f" (tighter than {', '.join(beaten)})" if beaten else ""
    return f"upper: {high.method}{tighter}; lower: {low.method}"
