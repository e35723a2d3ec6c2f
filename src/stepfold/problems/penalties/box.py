"""Indicators of boxes: their proximal operator, the projection, clips every entry."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepfold._arrays import from_host
from stepfold._checks import check_array
from stepfold._typing import ArrayT
from stepfold.problems._rows import check_is_real, fitting, indicator, largest
from stepfold.problems.penalties.base import PENALTIES, DualDomain, Face, SeparablePenalty


@PENALTIES.register("box")
class Box(SeparablePenalty):
    """0 where ``lower ≤ x ≤ upper``, infinite elsewhere.

    Args:
        lower: A number, or one for each entry; −∞ for none.
        upper: Likewise; ∞ for none.

    Raises:
        ValueError: If the box is empty or an end is NaN.

    >>> Box(0.0, [1.0, 2.0]).prox(np.array([-3.0, 4.0]), 1.0)
    array([0., 2.])
    """

    def __init__(self, lower: Any, upper: Any) -> None:
        self.lower, self.upper = check_array("lower", lower), check_array("upper", upper)
        for name, end in (("lower", self.lower), ("upper", self.upper)):
            if end.ndim > 1 or end.size == 0:
                raise ValueError(
                    f"`{name}` must be a number, or one for each entry, got shape {end.shape}"
                )
        if self.lower.ndim == self.upper.ndim == 1 and self.lower.size != self.upper.size:
            raise ValueError(
                "`lower` and `upper` must have the same length, got "
                f"{self.lower.size} and {self.upper.size}"
            )
        good = (self.lower <= self.upper) & (self.lower < np.inf) & (self.upper > -np.inf)
        if not good.all():
            index = int(np.argmin(np.atleast_1d(good)))
            ends = (float(np.broadcast_to(end, good.shape).flat[index]) for end in self._ends)
            low, high = ends
            raise ValueError(
                "the box must not be empty: `lower` <= `upper` in every entry, got "
                f"lower={low!r}, upper={high!r} at index {index}"
            )

    @property
    def _ends(self) -> tuple[Any, Any]:
        return self.lower, self.upper

    def value(self, x: Any) -> Any:
        """0 in the box, up to rounding."""
        return indicator(largest(abs(x - self.prox(x, 1.0))), 1.0 + self._size)

    def prox(self, v: ArrayT, step: Any) -> ArrayT:
        """``v`` clipped to the box, whatever the step."""
        vector: Any = v
        check_is_real("a box", v)
        clipped: ArrayT = vector.clip(
            fitting("lower", self.lower, v), fitting("upper", self.upper, v)
        )
        return clipped

    @property
    def dual_domain(self) -> DualDomain:
        """Everything, where all ends are finite."""
        finite = np.isfinite(self.lower).all() and np.isfinite(self.upper).all()
        return "whole" if finite else "other"

    def conjugate(self, v: Any) -> Any:
        """``Σ max(lowerᵢ vᵢ, upperᵢ vᵢ)``, of entries other than 0."""
        ends = [from_host(end, v) for end in self._ends]
        if self.dual_domain == "whole":
            # Where the sign of v picks the other end, its part is 0 times a finite number.
            return (v.clip(None, 0) * ends[0] + v.clip(0, None) * ends[1]).sum(-1)
        raise ValueError(
            "the conjugate of a box is finite everywhere only where all ends are finite, got "
            "an infinite one; give finite ends, or judge by the gradient"
        )

    def face(self, x: Any) -> Face:
        """Entries inside the box are free."""
        lower, upper = fitting("lower", self.lower, x), fitting("upper", self.upper, x)
        return Face((x > lower) & (x < upper), 0.0, 0.0, lower, upper)

    @property
    def _size(self) -> float:
        ends = np.concatenate([np.atleast_1d(self.lower), np.atleast_1d(self.upper)])
        return float(np.abs(ends[np.isfinite(ends)]).max(initial=0.0))


@PENALTIES.register("nonnegative")
def nonnegative() -> Box:
    """0 where every entry is at least 0, infinite elsewhere: a `Box` without an upper end.

    >>> nonnegative().prox(np.array([-3.0, 4.0]), 1.0)
    array([0., 4.])
    """
    return Box(0.0, np.inf)
