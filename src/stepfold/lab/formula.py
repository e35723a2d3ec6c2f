r"""Formulas: written in LaTeX, shown as MathML, which browsers draw without network or script.

MathML takes the page's colours and fonts, is read aloud by screen readers, and needs no fonts and
no script of its own, as MathJax and KaTeX do; pictures of formulas would lack all three. Whatever
the converter lets through is checked against the elements that it may write, so no text of a
formula becomes markup.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from typing import Literal

from stepfold._extras import not_installed

_NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"
# Elements that the converter writes, with the number of their children where that is fixed.
_CHILDREN = {
    "math": None,
    "mfrac": 2,
    "mi": 0,
    "mn": 0,
    "mo": 0,
    "mover": 2,
    "mpadded": None,
    "mphantom": None,
    "mroot": 2,
    "mrow": None,
    "mspace": 0,
    "msqrt": None,
    "mstyle": None,
    "msub": 2,
    "msubsup": 3,
    "msup": 2,
    "mtable": None,
    "mtd": None,
    "mtext": 0,
    "mtr": None,
    "munder": 2,
    "munderover": 3,
}
# What is written below and above its sign, where the formula has a line of its own.
_LIMITS = {"msub": "munder", "msup": "mover", "msubsup": "munderover"}
_WITH_LIMITS = {"∑", "∏", "max", "min", "sup", "inf", "lim", "argmin", "argmax"}
_ATTRIBUTES = {
    "accent",
    "columnalign",
    "columnspacing",
    "display",
    "displaystyle",
    "fence",
    "form",
    "linethickness",
    "lspace",
    "mathvariant",
    "maxsize",
    "minsize",
    "movablelimits",
    "rowspacing",
    "rspace",
    "scriptlevel",
    "separator",
    "stretchy",
    "width",
}


@dataclass(frozen=True)
class Formula:
    r"""A formula on a line of its own, in LaTeX without dollars.

    It is converted where it is made, so that a mistake shows before the experiment is run.

    Raises:
        ValueError: If it cannot be converted: a command that is unknown, a brace too few.
        ModuleNotFoundError: If latex2mathml is missing.

    >>> Formula(r"\lambda^2").mathml
    '<math display="block"><mrow><msup><mi>λ</mi><mn>2</mn></msup></mrow></math>'
    """

    latex: str

    def __post_init__(self) -> None:
        _ = self.mathml

    def __str__(self) -> str:
        return self.latex

    @property
    def mathml(self) -> str:
        """The formula as a MathML element for an HTML page."""
        return to_mathml(self.latex)


def to_mathml(latex: str, *, display: Literal["block", "inline"] = "block") -> str:
    """Convert LaTeX to a MathML element, on a line of its own or within one; see `Formula`."""
    try:
        from latex2mathml.converter import convert
    except ModuleNotFoundError as error:
        raise not_installed("formulas need latex2mathml", "lab", error) from error
    try:
        # Entities are declared before the first element, and that is the converter's own.
        root = ElementTree.fromstring(convert(latex, display=display))  # noqa: S314
    except Exception as error:  # noqa: BLE001  (the converter's errors share no other base)
        raise _bad(latex, str(error) or type(error).__name__) from None
    for element in root.iter():
        _check(element, latex)
    if display == "block":
        _place_limits(root)
    return ElementTree.tostring(root, encoding="unicode")


def _check(element: ElementTree.Element, latex: str) -> None:
    name = element.tag.removeprefix(_NAMESPACE)
    element.tag = name
    if name not in _CHILDREN:
        raise _bad(latex, f"<{name}> is no element of a formula")
    foreign = element.attrib.keys() - _ATTRIBUTES
    if foreign:
        raise _bad(latex, f"{', '.join(sorted(foreign))} may not be set")
    expected = _CHILDREN[name]
    if expected is not None and len(element) != expected:
        raise _bad(latex, f"<{name}> needs {expected} parts, got {len(element)}")
    if element.text and element.text.startswith("\\") and len(element.text) > 1:
        raise _bad(latex, f"{element.text} is unknown")


def _place_limits(element: ElementTree.Element) -> None:
    """Put limits below and above, as TeX does; within fractions there is no room for them."""
    if element.tag == "mfrac":
        return
    if element.tag in _LIMITS:
        sign = element[0]
        if sign.text in _WITH_LIMITS or sign.get("movablelimits") == "true":
            element.tag = _LIMITS[element.tag]
    for child in element:
        _place_limits(child)


def _bad(latex: str, why: str) -> ValueError:
    return ValueError(f"`latex` must be a formula that can be converted, got {latex!r}: {why}")
