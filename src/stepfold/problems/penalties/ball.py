"""The indicator of a Euclidean ball; its proximal operator is the projection."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepfold._arrays import without_labels
from stepfold._checks import check_nonnegative, check_numbers, check_vector
from stepfold._typing import ArrayT
from stepfold.problems._rows import fitting, indicator, real_products, squares
from stepfold.problems.penalties.base import (
    PENALTIES,
    ConjugatePenalty,
    DualDomain,
)


@PENALTIES.register("ball")
class Ball(ConjugatePenalty):
    """0 where ``‖x − centre‖₂ ≤ radius``, infinite elsewhere.

    Args:
        radius: At least 0.
        center: Vector of shape (n,), real or complex; 0 if not given.

    Raises:
        ValueError: If ``radius`` is negative or not finite.

    >>> Ball(1.0).prox(np.array([3.0, 4.0]), 1.0)
    array([0.6, 0.8])
    """

    takes_complex = True

    def __init__(self, radius: float, center: Any = None) -> None:
        self.radius = float(check_nonnegative("radius", radius))
        self.center: Any = np.zeros(())
        center = without_labels("center", center)
        if np.iscomplexobj(center):
            self.center = np.array(check_numbers("center", np.asarray(center), allow_complex=True))
        elif center is not None:
            self.center = check_vector("center", center)

    def value(self, x: Any) -> Any:
        """0 in the ball, up to rounding."""
        offset = x - fitting("center", self.center, x)
        distance = squares(offset).sum(-1) ** 0.5
        size = float(np.abs(self.center).max()) + self.radius
        return indicator(distance - self.radius, size)

    def prox(self, v: ArrayT, step: Any) -> ArrayT:
        """The nearest point of the ball, whatever the step."""
        center = fitting("center", self.center, v)
        offset: Any = v - center
        if self.radius == 0:
            point: ArrayT = 0 * offset + center
            return point
        # The root of what is clipped, so that its derivative at the centre is a number.
        lengths = squares(offset).sum(-1)[..., None].clip(self.radius**2, None)
        nearest: ArrayT = center + offset * (self.radius / lengths**0.5)
        return nearest

    @property
    def dual_domain(self) -> DualDomain:
        """Everything."""
        return "whole"

    def conjugate(self, v: Any) -> Any:
        """``radius·‖v‖ + Re centreᴴv``."""
        along = real_products(fitting("center", self.center, v), v)
        return self.radius * squares(v).sum(-1) ** 0.5 + along
