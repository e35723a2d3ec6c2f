"""What a proximal method asks of a penalty: its value and its proximal operator.

``prox(v, γ) = argmin_x g(x) + ‖x − v‖²/(2γ)``. Vectors are rows, (n,) or (batch, n); a batch holds
independent problems.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from stepfold._registry import Registry
from stepfold._typing import ArrayT


class Penalty(ABC):
    """A convex function g, proper and lower semicontinuous, known by its proximal operator."""

    @abstractmethod
    def value(self, x: Any) -> Any:
        """g at a vector, or at each row of a batch, shape (batch,)."""

    @abstractmethod
    def prox(self, v: ArrayT, step: Any) -> ArrayT:
        """``argmin_x g(x) + ‖x − v‖²/(2·step)``, of the shape of ``v``.

        ``step`` may be a tensor that is being trained, so arithmetic only.
        """


PENALTIES: Registry[Callable[..., Penalty]] = Registry("penalty", "stepfold.problems.penalties")
