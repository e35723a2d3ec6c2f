"""The table of contents of the whole site, for the side of every page.

Sections that the page is not in are folded. It is made of elements that open without a script.
"""

from __future__ import annotations

from html import escape
from typing import Any

from sphinx import addnodes


def _links(app: Any, document: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Caption, and (page, title) of each of its links, for each toctree of a page."""
    env = app.builder.env
    groups = []
    for tree in env.get_doctree(document).findall(addnodes.toctree):
        links = [
            (page, title or env.titles[page].astext())
            for title, page in tree["entries"]
            if page in env.titles
        ]
        groups.append((tree.get("caption") or "", links))
    return groups


def _read(app: Any, env: Any) -> None:
    """Keep the links of the front page and of each section, and who is whose parent."""
    (_, sections), *_ = _links(app, app.config.root_doc)
    app.contents = [(page, title, _links(app, page)) for page, title in sections]
    app.parents = {
        child: parent for parent, children in env.toctree_includes.items() for child in children
    }


def _add(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    def link(target: str, title: str) -> str:
        here = ' aria-current="page"' if target == page else ""
        address = escape(app.builder.get_relative_uri(page, target))
        return f'<a href="{address}"{here}>{escape(title)}</a>'

    branch, above = [page], app.parents
    while branch[-1] in above:
        branch.append(above[branch[-1]])
    parts = ['<nav class="site-contents" aria-label="Contents">']
    for section, title, groups in app.contents:
        parts.append(f"<details{' open' if section in branch else ''}>")
        parts.append(f"<summary>{escape(title)}</summary>")
        parts.append(f"<ul><li>{link(section, 'Overview')}</li></ul>")
        for caption, links in groups:
            parts.append(f"<p>{escape(caption)}</p>" if caption else "")
            rows = (
                f"<li{' class=above' if target in branch[1:] else ''}>{link(target, text)}</li>"
                for target, text in links
            )
            parts.append(f"<ul>{''.join(rows)}</ul>")
        parts.append("</details>")
    context["contents"] = "\n".join([*parts, "</nav>"])


def setup(app: Any) -> dict[str, bool]:
    app.connect("env-updated", _read)
    app.connect("html-page-context", _add)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
