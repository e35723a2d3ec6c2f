"""Formulas as MathML, by the converter that reports use: no script, no fonts, no network."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

from docutils import nodes
from docutils.nodes import SkipNode

from stepfold.lab.formula import to_mathml

# Where a line may end within a formula: before relations, and before signs of operations.
_BREAKS = set("=≤≥<>≈≠∈⊂→←↦≪≫∼+−±")
_CLOSING = set(")]}|‖")


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_breakable(_converted(translator, node, "inline")))
    raise SkipNode


def _breakable(mathml: str) -> str:
    """A formula as several, between which a line may end; browsers break none by themselves."""
    if not mathml.startswith("<math"):
        return mathml
    root = ElementTree.fromstring(mathml)  # noqa: S314 (of the docs' own formulas)
    row = root[0] if len(root) == 1 and root[0].tag == "mrow" else root
    pieces: list[list[ElementTree.Element]] = [[]]
    for child in row:
        before = pieces[-1][-1] if pieces[-1] else None
        if (
            child.tag == "mo"
            and child.text in _BREAKS
            and before is not None
            and (before.tag != "mo" or before.text in _CLOSING)  # else it is a sign
        ):
            child.set("form", "infix")
            pieces.append([])
        pieces[-1].append(child)
    found = []
    for piece in pieces:
        part = ElementTree.Element("math", root.attrib)
        ElementTree.SubElement(part, "mrow").extend(piece)
        found.append(ElementTree.tostring(part, encoding="unicode"))
    return "<wbr>".join(found)


def _block(translator: Any, node: nodes.math_block) -> None:
    # A formula wider than its column scrolls in a box of its own, by keyboard too.
    translator.body.append(
        translator.starttag(node, "div", CLASS="formula", tabindex="0", role="group")
    )
    translator.body.append(_converted(translator, node, "block"))
    if node.get("number"):
        translator.body.append(f'<span class="eqno">({node["number"]})</span>')
    translator.body.append("</div>\n")
    raise SkipNode


def _converted(translator: Any, node: nodes.Element, display: str) -> str:
    try:
        # The converter knows `align*` only.
        latex = node.astext().strip().replace("{aligned}", "{align*}")
        return to_mathml(latex, display=display)
    except ValueError as error:
        # Sphinx turns warnings into errors, and says on which page and line.
        from sphinx.util import logging

        logging.getLogger(__name__).warning("%s", error, location=node)
        return f"<code>{translator.encode(node.astext())}</code>"


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
