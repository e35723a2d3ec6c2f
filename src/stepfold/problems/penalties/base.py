"""What a proximal method asks of a penalty: its value and its proximal operator.

``prox(v, γ) = argmin_x g(x) + ‖x − v‖²/(2γ)``. Vectors are rows, (n,) or (batch, n); a batch holds
independent problems. Where the conjugate ``g*(v) = sup_x vᵀx − g(x)`` is known too, so is a duality
gap: see `stepfold.problems.composite`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from stepfold._registry import Registry
from stepfold._show import as_call
from stepfold._typing import ArrayT

DualDomain = Literal["whole", "star", "other"]
"""Where g* is finite: everywhere; on a set that every vector enters when it is scaled down; or on
one that some vectors never enter, so that no gap can be promised."""


class Penalty(ABC):
    """A convex function g, proper and lower semicontinuous, known by its proximal operator.

    Attributes:
        takes_complex: Whether vectors may be complex.
    """

    takes_complex: ClassVar[bool] = False

    def __repr__(self) -> str:
        return as_call(self)

    @abstractmethod
    def value(self, x: Any) -> Any:
        """g at a vector, or at each row of a batch, shape (batch,)."""

    @abstractmethod
    def prox(self, v: ArrayT, step: Any) -> ArrayT:
        """``argmin_x g(x) + ‖x − v‖²/(2·step)``, of the shape of ``v``.

        ``step`` may be a tensor that is being trained, so arithmetic only.

        Raises:
            ValueError: If ``step`` is a negative number and the operator depends on it.
        """


class ConjugatePenalty(Penalty):
    """A penalty whose conjugate is known."""

    @property
    @abstractmethod
    def dual_domain(self) -> DualDomain:
        """Where the conjugate is finite."""

    @abstractmethod
    def conjugate(self, v: Any) -> Any:
        """``g*(v)`` of a vector, or of each row of a batch; infinite outside its domain."""

    def dual_scale(self, v: Any) -> Any:
        """The largest s in [0, 1] with ``s·v`` in the conjugate's domain, row by row.

        1, as it is where the conjugate is finite everywhere.
        """
        return 0 * abs(v).sum(-1) + 1.0


@dataclass(frozen=True, eq=False)
class Face:
    """Where a separable penalty is a quadratic: what x stays in while no entry meets a kink.

    There g is ``slopeᵀx + ½ridge·x²``, entry by entry, up to a constant. All arrays have the shape
    of x, or are one number for all entries.

    Args:
        free: Whether an entry may move; the others rest at a kink or at an end.
        slope: Derivative of g at 0 of that quadratic.
        ridge: Its second derivative.
        lower: How far down free entries may move.
        upper: How far up.
    """

    free: Any
    slope: Any
    ridge: Any
    lower: Any
    upper: Any


class SeparablePenalty(ConjugatePenalty):
    """A sum of functions of single entries; ``prox`` takes a step for each entry too."""

    @abstractmethod
    def face(self, x: Any) -> Face:
        """The face that real ``x`` lies in."""


PENALTIES: Registry[Callable[..., Penalty]] = Registry(
    "penalty", "stepfold.problems.penalties", "stepfold.penalties"
)


def check_penalty(penalty: Any) -> Penalty:
    """Return what must be a penalty."""
    if not isinstance(penalty, Penalty):
        raise TypeError(
            f"`penalty` must be a Penalty, got {type(penalty).__name__}; give one such as `L1(0.1)`"
        )
    return penalty


def check_step(step: Any) -> None:
    """Raise for a negative step; one that is being trained is not looked at."""
    if isinstance(step, int | float) and not step >= 0:
        raise ValueError(f"`step` must be at least 0, got {step!r}; it is γ of ‖x − v‖²/(2γ)")
