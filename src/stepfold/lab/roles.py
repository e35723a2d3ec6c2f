"""What a curve stands for, and how it is drawn: one table for matplotlib, plotly and the explorer.

A method has one colour, one dash and one marker in every figure. The role of a curve is found from
its label, here and nowhere else, or given with the curve. Roles whose colours some readers cannot
tell apart differ in dash and marker.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# More would merge into a band; the line goes through every point.
MOST_MARKERS = 40
# Matplotlib's word, plotly's, and the `stroke-dasharray` of a legend's sample.
DASHES: dict[str, tuple[Any, str, str]] = {
    "solid": ("-", "solid", ""),
    "dash": ("--", "dash", "7 4"),
    "dashdot": ("-.", "dashdot", "7 3 2 3"),
    "dot": (":", "dot", "2 3"),
    "longdash": ((0, (9, 3)), "longdash", "11 4"),
    "dashdotdot": ((0, (5, 1, 1, 1, 1, 1)), "10px 2px 2px 2px 2px 2px", "8 2 2 2 2 2"),
}
# Matplotlib's word, plotly's, and the outline around (16, 6) of a legend's sample of 32 × 12.
MARKERS: dict[str, tuple[str, str, str]] = {
    "square": ("s", "square", "M12.5 2.5h7v7h-7z"),
    "circle": ("o", "circle", "M12.5 6a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z"),
    "diamond": ("D", "diamond", "M16 1.5l4.5 4.5l-4.5 4.5l-4.5 -4.5z"),
    "triangle-up": ("^", "triangle-up", "M16 2l4 7.5h-8z"),
    "triangle-down": ("v", "triangle-down", "M16 10l4 -7.5h-8z"),
    "triangle-right": (">", "triangle-right", "M20 6l-7.5 4v-8z"),
    "triangle-left": ("<", "triangle-left", "M12 6l7.5 4v-8z"),
    "pentagon": ("p", "pentagon", "M16 1.8l4.4 3.2l-1.7 5.2h-5.4l-1.7 -5.2z"),
    "cross": (
        "P",
        "cross",
        "M14.8 2h2.4v2.8h2.8v2.4h-2.8v2.8h-2.4v-2.8h-2.8v-2.4h2.8z",
    ),
    "star": (
        "*",
        "star",
        "M16 1l1.4 3.2l3.5 .3l-2.6 2.3l.8 3.4l-3.1 -1.8l-3.1 1.8l.8 -3.4l-2.6 -2.3l3.5 -.3z",
    ),
    "diamond-tall": ("d", "diamond-tall", "M16 .5l2.8 5.5l-2.8 5.5l-2.8 -5.5z"),
    "hexagon": ("h", "hexagon2", "M16 1.6l3.8 2.2v4.4l-3.8 2.2l-3.8 -2.2v-4.4z"),
    "x": (
        "X",
        "x",
        "M13.5 2l2.5 2.5l2.5 -2.5l1.5 1.5l-2.5 2.5l2.5 2.5l-1.5 1.5l-2.5 -2.5l-2.5 2.5l-1.5 -1.5"
        "l2.5 -2.5l-2.5 -2.5z",
    ),
}


@dataclass(frozen=True)
class Role:
    """What a curve stands for.

    Args:
        meaning: Which curves have it.
        light: Colour on a light page; at least 3 : 1 to white.
        dark: Colour on a dark page.
        dash: A key of `DASHES`.
        marker: A key of `MARKERS`.
    """

    meaning: str
    light: str
    dark: str
    dash: str
    marker: str


INK = ("#000000", "#ffffff")
ROLES = {
    "learned": Role("what training found", "#c94f00", "#ff8f4a", "solid", "square"),
    "chebyshev": Role("Chebyshev steps", "#0067b0", "#4aa0f0", "solid", "circle"),
    "optimal": Role("the best steps on average", "#00956b", "#3fd6a4", "solid", "diamond"),
    "constant": Role("one step for all", "#757f8b", "#a3adb9", "dash", "triangle-down"),
    "momentum": Role("methods with momentum", "#a8327f", "#f08cc6", "dashdot", "triangle-up"),
    "second-kind": Role(
        "Chebyshev steps of the second kind", "#2f93cc", "#9fd3f7", "dashdot", "triangle-right"
    ),
    "fourth-kind": Role(
        "Chebyshev steps of the fourth kind", "#6a45c4", "#b49aff", "dot", "triangle-left"
    ),
    "silver": Role("silver steps", "#a07000", "#e6b84a", "longdash", "star"),
    "optimised-fourth-kind": Role(
        "optimised steps of the fourth kind", "#3f2f86", "#d9ccff", "longdash", "diamond-tall"
    ),
    "composed": Role(
        "steps composed for convex functions: obs-s, obs-f, obs-g, anytime",
        "#c2255c",
        "#ff8aa8",
        "dot",
        "x",
    ),
    "arcsine": Role("random arcsine steps", "#4f7f00", "#a9d65c", "dashdotdot", "hexagon"),
    "tool": Role("methods without a list of steps", "#7a4a21", "#c9986a", "dashdotdot", "pentagon"),
    "theory": Role("bounds and predictions", *INK, "dot", "cross"),
    "series": Role("what is no method", *INK, "solid", "circle"),
}
# Curves of the last role are told apart by colour, too.
SERIES = (INK, ("#00808f", "#45c8d8"), ("#6b7a1f", "#b8c75a"), ("#8f4b52", "#e0989c"))
# Colours of levels, and of axes in thumbnails: the first has contrast 4.5 to white, 4.7 to black.
LEVEL = ("#767676", "#8b949e")
LEVEL_DASHES: tuple[tuple[Any, str, str], ...] = (
    ((0, (4, 3)), "5px 4px", "4 3"),
    ((0, (1, 2)), "2px 3px", "1 2"),
    ((0, (9, 2, 1, 2)), "12px 3px 2px 3px", "9 2 1 2"),
)

# The first that is found in a label decides.
_RULES = tuple(
    (re.compile(pattern, re.IGNORECASE), role)
    for pattern, role in (
        (r"untrained|\bsteps 1\b|best constant", "constant"),
        (r"^(?!.*learned).*Chebyshev steps", "chebyshev"),
        (r"learned|\btrained\b|DUGD|\bT?LISTA\b|\bTISTA\b|\bTPG\b", "learned"),
        (r"second.kind", "second-kind"),
        (r"fourth.kind.*optimised|optimised.*fourth.kind", "optimised-fourth-kind"),
        (r"fourth.kind", "fourth-kind"),
        (r"\bobs.[sfg]\b|optimised basic|\banytime\b", "composed"),
        (r"\barcsine\b", "arcsine"),
        (r"inverse upper bound", "constant"),
        (r"\bsilver\b", "silver"),
        (r"conjugate gradient|\bCG\b|\bLSQR\b|MMSE|zero forcing|Wiener", "tool"),
        (r"heavy ball|Nesterov|FISTA|semi-iteration|momentum", "momentum"),
        (r"optim(al|um)|noise.aware|smallest possible|best found|best steps", "optimal"),
        (r"\bbound\b|^predicted|^sech", "theory"),
        (r"Chebyshev|first kind|Richardson|\ba = 0", "chebyshev"),
        (r"\bconstant\b|\bplain\b|gradient descent|\bGD\b|2/\(a \+ b\)|\bISTA\b", "constant"),
        (r"Jacobi|Landweber|\bequal steps\b|1/λ_max|projected gradients|ω = 1", "constant"),
        (r"relaxation", "chebyshev"),
    )
)


def role_of(label: str) -> str:
    """Return the role that a curve's label tells; "series" if it names no method.

    >>> role_of("learned (DUGD)"), role_of("Chebyshev steps"), role_of("seed 0")
    ('learned', 'chebyshev', 'series')
    """
    return next((role for pattern, role in _RULES if pattern.search(label)), "series")


@dataclass(frozen=True)
class Style:
    """How one curve of a figure is drawn.

    Args:
        variable: The colour's name in `css`.
        light: Colour on a light page.
        dark: Colour on a dark page.
        dash: A key of `DASHES`.
        marker: A key of `MARKERS`.
    """

    variable: str
    light: str
    dark: str
    dash: str
    marker: str


def styles(roles: Iterable[str]) -> list[Style]:
    """Return the styles of a figure's curves, no two alike.

    The first curve of a role has the role's own dash and marker; the next ones have its colour and
    the dashes and markers that follow.

    Args:
        roles: Role of each curve, in order.

    >>> [(style.light, style.dash) for style in styles(["learned", "chebyshev", "learned"])]
    [('#c94f00', 'solid'), ('#0067b0', 'solid'), ('#c94f00', 'dash')]
    """
    seen: Counter[str] = Counter()
    found = []
    for name in roles:
        count = seen[name]
        seen[name] += 1
        variable = f"--role-{name}"
        if name == "series" and count % len(SERIES):
            variable += f"-{count % len(SERIES)}"
        dash, marker = (
            _next(DASHES, ROLES[name].dash, count),
            _next(MARKERS, ROLES[name].marker, count),
        )
        found.append(Style(variable, *variables()[variable], dash, marker))
    return found


def level_style(label: str) -> tuple[str, str]:
    """Return colour and variable of a level: its role's, grey if it has none."""
    variable = f"--role-{role_of(label)}".replace("series", "level")
    return variables()[variable][0], variable


def _next(names: Iterable[str], first: str, count: int) -> str:
    cycle = list(names)
    return cycle[(cycle.index(first) + count) % len(cycle)]


def variables() -> dict[str, tuple[str, str]]:
    """Return the colours on light and on dark pages by their name in `css`."""
    return {
        **{f"--role-{name}": (role.light, role.dark) for name, role in ROLES.items()},
        **{f"--role-series-{index}": pair for index, pair in enumerate(SERIES) if index},
        "--role-level": LEVEL,
    }


def css() -> str:
    """Return the colours as variables of a style sheet, for light and for dark pages."""
    light, dark = (
        " ".join(f"{name}: {pair[theme]};" for name, pair in variables().items())
        for theme in (0, 1)
    )
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"


def full_number(value: float) -> str:
    """Return a tick's label: the whole number, with a power of ten where it has many digits.

    >>> [full_number(value) for value in (0.02, 500.0, 2e-5, 1e-5, 5e7)]
    ['0.02', '500', '2·10⁻⁵', '10⁻⁵', '5·10⁷']
    """
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:g}".replace("-", "−")
    mantissa, power = f"{value:e}".split("e")
    raised = str(int(power)).translate(_RAISED)
    front = f"{float(mantissa):g}".replace("-", "−")
    return f"10{raised}" if front == "1" else f"{front}·10{raised}"


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
