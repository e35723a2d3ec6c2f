"""Formulas as MathML, by the converter that reports use: no script, no fonts, no network."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.nodes import SkipNode

from stepfold.lab.formula import to_mathml


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_converted(translator, node, "inline"))
    raise SkipNode


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
