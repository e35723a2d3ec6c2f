"""How records show themselves: numbers in a line, a small drawing in a notebook, and `plot`.

The drawings are SVG written here, so that no plotting package is loaded to look at a record.
"""

from __future__ import annotations

import html
import importlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from stepfold._extras import not_installed
from stepfold._typing import FloatArray

WIDTH, HEIGHT, MARGIN = 320, 90, 6
# Points of a drawing: more cannot be told apart.
MOST_POINTS = 160
# Up to so many points each has a dot.
MOST_DOTS = 64
# Decades beyond which an axis with a logarithm is cut.
MOST_DECADES = 40


def in_a_line(values: Any, most: int = 8) -> str:
    """The first numbers of an array, and how many there are.

    >>> in_a_line([1.0, 0.5, 0.25], most=2)
    '1, 0.5, … (3 in all)'
    """
    flat = np.asarray(values).ravel()
    shown = ", ".join(f"{value:.4g}" for value in flat[:most].tolist())
    return shown if flat.size <= most else f"{shown}, … ({flat.size} in all)"


def counted(number: float, thing: str) -> str:
    """A number and a noun, in the plural unless it is 1.

    >>> counted(1, "step"), counted(0, "product")
    ('1 step', '0 products')
    """
    return f"{number:g} {thing}" + ("" if number == 1 else "s")


def as_call(owner: object, **others: Any) -> str:
    """An object as the call that made it, with arrays by their shape.

    Args:
        owner: Its public attributes are the arguments; what is computed from them is not.
        **others: Arguments that it keeps under a private name.

    >>> import types
    >>> as_call(types.SimpleNamespace(weight=np.ones((2, 3)), ridge=0.5))
    'SimpleNamespace(weight=ndarray (2 × 3) float64, ridge=0.5)'
    """
    kind = type(owner)
    own = {
        name: value
        for name, value in vars(owner).items()
        if not name.startswith("_") and not hasattr(kind, name)
    }
    words = (f"{name}={_described(value)}" for name, value in {**others, **own}.items())
    return f"{kind.__name__}({', '.join(words)})"


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape == () and hasattr(value, "tolist"):
        return repr(value.tolist())
    if not shape:
        return getattr(value, "__qualname__", None) or repr(value)
    size = " × ".join(map(str, shape))
    dtype = str(getattr(value, "dtype", "")).rpartition(".")[2]
    return " ".join(filter(None, (type(value).__name__, f"({size})", dtype)))


class Shown:
    """A record with a picture: its text stays what `print` shows."""

    __slots__ = ()

    def _drawing(self) -> str:
        """An SVG element, or nothing."""
        return ""

    def _repr_html_(self) -> str:
        """What a notebook shows: the drawing above the text."""
        text = html.escape(str(self))
        return f'<div>{self._drawing()}<pre style="white-space: pre-wrap">{text}</pre></div>'


def drawing(label: str, y: Any, x: Any = None, *, log: bool = False, bars: bool = False) -> str:
    """A curve or bars without axes, in the colour of the text around it.

    Args:
        label: One sentence for readers who do not see it.
        y: Heights; what is not finite is left out.
        x: Places, ascending; 0, 1, 2, … if not given.
        log: Whether heights are drawn by their logarithm; what is not above 0 is left out.
        bars: Whether there is a line from the ground to each height.

    Returns:
        An SVG element; nothing if there is nothing to draw.

    >>> drawing("Nothing", []), drawing("One step", [0.5])[:4]
    ('', '<svg')
    """
    heights = np.asarray(y, dtype=np.float64).ravel()
    places = np.arange(heights.size, dtype=np.float64) if x is None else np.asarray(x).ravel()
    with np.errstate(divide="ignore", invalid="ignore"):
        heights = np.log10(heights) if log else heights
    kept = np.isfinite(heights)
    if not kept.any():
        return ""
    places, heights = places[kept], heights[kept]
    if log:
        heights = heights.clip(heights.max() - MOST_DECADES, None)
    places, heights = _thinned(places, heights)
    low = min(0.0, float(heights.min())) if bars else float(heights.min())
    across = _scaled(places, places[0], places[-1], MARGIN, WIDTH - MARGIN)
    up = _scaled(heights, low, float(heights.max()), HEIGHT - MARGIN, MARGIN)
    points = [f"{a:.1f},{b:.1f}" for a, b in zip(across, up, strict=True)]
    parts = []
    if bars:
        ground = _scaled(np.zeros(1), low, float(heights.max()), HEIGHT - MARGIN, MARGIN)[0]
        path = "".join(f"M{a:.1f},{ground:.1f}V{b:.1f}" for a, b in zip(across, up, strict=True))
        parts.append(f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="2"/>')
    else:
        parts.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="currentColor" '
            'stroke-opacity="0.6"/>'
        )
        if len(points) <= MOST_DOTS:
            dots = "".join(
                f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5"/>'
                for a, b in zip(across, up, strict=True)
            )
            parts.append(f'<g fill="currentColor">{dots}</g>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" style="max-width: 100%">'
        f"<title>{html.escape(label)}</title>{''.join(parts)}</svg>"
    )


def _thinned(places: FloatArray, heights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The lowest and the highest of each of a number of pieces, in their order."""
    if heights.size <= MOST_POINTS:
        return places, heights
    chosen: set[int] = set()
    for piece in np.array_split(np.arange(heights.size), MOST_POINTS // 2):
        chosen |= {int(piece[heights[piece].argmin()]), int(piece[heights[piece].argmax()])}
    kept = sorted(chosen)
    return places[kept], heights[kept]


def _scaled(values: FloatArray, low: float, high: float, first: float, last: float) -> FloatArray:
    """Values between ``low`` and ``high`` as places between ``first`` and ``last``."""
    middle = np.full(values.shape, (first + last) / 2)
    if not high > low:
        return middle
    share: FloatArray = values / (high - low) - low / (high - low)
    return first + (last - first) * share


def axes_of(ax: Any) -> Any:
    """The axes to draw in: those given, or new ones of matplotlib's current figure.

    Raises:
        ModuleNotFoundError: If there are none and matplotlib is missing.
    """
    if ax is not None:
        return ax
    try:
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ModuleNotFoundError as error:
        raise not_installed("`plot` needs matplotlib", "lab", error) from error
    return pyplot.subplots(layout="constrained")[1]


def lines(parts: Iterable[str | None]) -> str:
    """The parts that say something, one below the other."""
    return "\n".join(part for part in parts if part)
