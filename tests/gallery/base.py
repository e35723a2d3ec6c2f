"""Maps with known fixed points, for tests, measures and trying things out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold._registry import Registry
from stepfold.problems.composite import Composite


@dataclass(frozen=True, eq=False)
class GalleryMap:
    """A map, where to start it, and where it must end.

    Args:
        map: f, on NumPy arrays of the shape of ``start``.
        start: x₀.
        solution: The fixed point, from a computation that does not iterate f.
        composite: The objective that f is a proximal or a gradient step of, if it is one.
    """

    map: Callable[[Any], Any]
    start: Any
    solution: Any
    composite: Composite[Any] | None = None

    def error(self, x: Any) -> float:
        """``‖x − solution‖/‖start − solution‖``."""
        return float(np.linalg.norm(x - self.solution) / np.linalg.norm(self.start - self.solution))


GALLERY: Registry[Callable[[np.random.Generator], GalleryMap]] = Registry("gallery map", "gallery")
