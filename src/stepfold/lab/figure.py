"""A figure as data. Experiments return these; a renderer draws them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._checks import check_vector

STYLES = ("line", "points", "both")


@dataclass(frozen=True, eq=False)
class Curve:
    """A named series of points.

    Args:
        label: Text of the legend.
        x: Abscissae, shape (k,).
        y: Ordinates, shape (k,); NaN leaves a gap.
        style: "line", "points" or "both".
        emphasis: Whether the curve is what the figure is about; others are drawn thinner.
    """

    label: str
    x: NDArray[Any]
    y: NDArray[Any]
    style: str = "line"
    emphasis: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", check_vector("x", self.x))
        y = np.array(self.y, dtype=np.float64)
        if y.shape != self.x.shape:
            raise ValueError(
                f"`y` must have the shape of `x`, {self.x.shape}, got {y.shape} for {self.label!r}"
            )
        object.__setattr__(self, "y", y)
        if self.style not in STYLES:
            raise ValueError(f"`style` must be one of {', '.join(STYLES)}, got {self.style!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain Python values; NaN becomes None."""
        y = [value if np.isfinite(value) else None for value in self.y.tolist()]
        return {"label": self.label, "x": self.x.tolist(), "y": y, "style": self.style}


@dataclass(frozen=True)
class Axis:
    """Label, with its unit, and scale of an axis; ``floor`` cuts a logarithmic one from below."""

    label: str
    log: bool = False
    floor: float | None = None


@dataclass(frozen=True, eq=False)
class Figure:
    """Curves over a pair of axes.

    Args:
        name: Stem of the file's name.
        title: What is shown.
        alt: One sentence for readers who do not see the picture.
        curves: At least one.
        x: Horizontal axis.
        y: Vertical axis.

    Raises:
        ValueError: If there is no curve, or ``name`` is not fit for a file.
    """

    name: str
    title: str
    alt: str
    curves: tuple[Curve, ...]
    x: Axis
    y: Axis

    def __post_init__(self) -> None:
        object.__setattr__(self, "curves", tuple(self.curves))
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ValueError(
                "`name` becomes a file's name and must be made of letters, digits, - and _, "
                f"got {self.name!r}"
            )
        if not self.curves:
            raise ValueError("`curves` must hold at least one curve, got none")

    def to_dict(self) -> dict[str, Any]:
        """Return the figure's data as plain Python values, ready for JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "x": self.x.label,
            "y": self.y.label,
            "curves": [curve.to_dict() for curve in self.curves],
        }
