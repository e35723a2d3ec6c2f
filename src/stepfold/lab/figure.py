"""A figure as data: curves over axes, or pictures. Experiments return these; a renderer draws."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stepfold._checks import (
    check_array,
    check_choice,
    check_instance,
    check_items,
    check_positive,
    check_real,
    check_text,
    check_vector,
)
from stepfold._codec import JsonRecord
from stepfold.lab.roles import ROLES, full_number, role_of

STYLES = ("line", "points", "both")


@dataclass(frozen=True, eq=False)
class Curve(JsonRecord):
    """A named series of points.

    Args:
        label: Text of the legend.
        x: Abscissae, shape (k,).
        y: Ordinates, shape (k,); NaN leaves a gap.
        style: "line", "points" or "both".
        emphasis: Whether the curve is what the figure is about; others are drawn thinner.
        band: Smallest and largest ordinates, each of shape (k,), where the curve stands for many
            runs and ``y`` is their median; drawn as a shaded band.
        role: A key of `stepfold.lab.roles.ROLES`, which decides colour, dash and marker; found from
            the label if empty.

    Raises:
        ValueError: If shapes differ, or ``style`` or ``role`` is unknown.

    >>> Curve("Chebyshev steps", [0, 1], [1, 0.5]).role
    'chebyshev'
    >>> Curve.from_dict(Curve("c", [0, 1], [1, np.nan]).to_dict()).y
    array([ 1., nan])
    """

    label: str
    x: NDArray[Any]
    y: NDArray[Any]
    style: str = "line"
    emphasis: bool = False
    band: tuple[NDArray[Any], NDArray[Any]] | None = None
    role: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", check_vector("x", self.x))
        object.__setattr__(self, "y", self._ordinates("y", self.y))
        if self.band is not None:
            ends = check_items("band", self.band, "two arrays")
            if len(ends) != 2:
                raise ValueError(f"`band` must hold a lower and an upper array, got {len(ends)}")
            object.__setattr__(self, "band", tuple(self._ordinates("band", end) for end in ends))
        for name in ("label", "role", "style"):
            check_text(name, getattr(self, name))
        object.__setattr__(self, "role", self.role or role_of(self.label))
        check_choice("role", self.role, ROLES)
        check_choice("style", self.style, STYLES)

    def _ordinates(self, name: str, values: Any) -> NDArray[Any]:
        y = check_array(name, values)
        if y.shape != self.x.shape:
            raise ValueError(
                f"`{name}` must have the shape of `x`, {self.x.shape}, got {y.shape} for "
                f"{self.label!r}"
            )
        return y


@dataclass(frozen=True)
class Level(JsonRecord):
    """A horizontal line through ``value``, for curves to be compared with.

    Raises:
        ValueError: If ``value`` is not finite.

    >>> Level("tolerance", 1e-6).value
    1e-06
    """

    label: str
    value: float

    def __post_init__(self) -> None:
        if not math.isfinite(check_real("value", self.value)):
            raise ValueError(f"`value` must be finite, got {self.value!r} for {self.label!r}")


@dataclass(frozen=True)
class Axis(JsonRecord):
    """Label, with its unit, and scale of an axis.

    Args:
        label: What is shown, with its unit.
        log: Whether the axis is logarithmic.
        floor: Where a logarithmic axis is cut from below.
        ceiling: Where a logarithmic axis is cut from above if values go beyond; the legend names
            the curves that do, with their largest value.

    Raises:
        ValueError: Unless ``floor`` and ``ceiling`` are positive and finite, and in that order.

    >>> Axis("error", log=True).label
    'error'
    """

    label: str
    log: bool = False
    floor: float | None = None
    ceiling: float | None = None

    def __post_init__(self) -> None:
        for name in ("floor", "ceiling"):
            if (value := getattr(self, name)) is not None:
                check_positive(name, value, "it cuts a logarithmic axis")
        if self.floor is not None and self.ceiling is not None and self.floor >= self.ceiling:
            raise ValueError(
                f"`floor` must be below `ceiling`, got {self.floor!r} and {self.ceiling!r}"
            )

    def limits(self, low: float, high: float) -> tuple[float, float]:
        """The interval that a logarithmic axis shows of values from ``low`` to ``high``.

        >>> Axis("error", log=True, ceiling=10.0).limits(1e-3, 1e74)
        (0.001, 10.0)
        """
        if self.floor is not None:
            low = self.floor
        if self.ceiling is not None and low < self.ceiling:
            high = min(high, self.ceiling)
        return low, high


@dataclass(frozen=True, eq=False)
class Figure(JsonRecord):
    """Curves over a pair of axes.

    Args:
        name: Stem of the file's name.
        title: What is shown.
        alt: One sentence for readers who do not see the picture.
        curves: At least one.
        x: Horizontal axis.
        y: Vertical axis.
        levels: Horizontal lines to compare with; named in the legend like curves.

    Raises:
        ValueError: If there is no curve, or ``name`` is not fit for a file.

    >>> curve = Curve("measured", np.arange(3.0), np.ones(3))
    >>> Figure("f", "A title", "A line.", (curve,), Axis("x"), Axis("y")).name
    'f'
    """

    tag: ClassVar = ("kind", "curves")

    name: str
    title: str
    alt: str
    curves: tuple[Curve, ...]
    x: Axis
    y: Axis
    levels: tuple[Level, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in (("curves", Curve), ("levels", Level)):
            items = check_items(name, getattr(self, name), kind.__name__)
            for each in items:
                check_instance(name, each, kind, f"as `{kind.__name__}(label, …)`")
            object.__setattr__(self, name, tuple(items))
        for name in ("x", "y"):
            check_instance(name, getattr(self, name), Axis, "as `Axis(label)`")
        check_name(self.name)
        if not self.curves:
            raise ValueError("`curves` must hold at least one curve, got none")

    @property
    def counts(self) -> bool:
        """Whether the horizontal axis counts layers, iterations or ranks: whole numbers only."""
        return not self.x.log and all((c.x == np.round(c.x)).all() for c in self.curves)

    @property
    def labels(self) -> list[str]:
        """What the legend says of curves, then of levels: their labels, and which curves leave.

        >>> curve = Curve("diverging", [0, 1], [1, 2e74])
        >>> Figure("f", "t", "a", (curve,), Axis("x"), Axis("y", log=True, ceiling=10)).labels
        ['diverging (leaves the figure, up to 2·10⁷⁴)']
        """
        names = [curve.label for curve in self.curves]
        if self.y.log and self.y.ceiling is not None:
            for index, curve in enumerate(self.curves):
                largest = float(np.max(curve.y, initial=0.0, where=~np.isnan(curve.y)))
                if np.isinf(largest):
                    names[index] += " (leaves the figure, beyond all numbers)"
                elif largest > self.y.ceiling:
                    reached = full_number(float(f"{largest:.1e}"))
                    names[index] += f" (leaves the figure, up to {reached})"
        return names + [level.label for level in self.levels]

    def _repr_png_(self) -> bytes:
        """The drawing, for notebooks."""
        from stepfold.lab._matplotlib import to_bytes

        return to_bytes(self, "png")

    def _repr_html_(self) -> str:
        """Two drawings, for wide and for narrow pages, in the colours of the page's theme."""
        from stepfold.lab._matplotlib import to_html

        return to_html(self)


def check_name(name: str) -> None:
    """Raise unless ``name`` is fit for the name of a file."""
    if not re.fullmatch(r"[\w-]+", check_text("name", name)):
        raise ValueError(
            "`name` becomes a file's name and must be made of letters, digits, - and _, "
            f"got {name!r}"
        )
