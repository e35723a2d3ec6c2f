"""Pieces of HTML that the report of one run and the site of many share. All text is escaped."""

from __future__ import annotations

import base64
import hashlib
import html
import shlex
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from typing import Any

from stepfold.lab.environment import Environment
from stepfold.lab.figure import Figure
from stepfold.lab.formula import Formula
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.picture import Pictures
from stepfold.lab.roles import css
from stepfold.lab.sources import Source


def asset(name: str) -> str:
    """Return the text of a file that pages need: the style sheet, the script."""
    return (resources.files("stepfold.lab") / "assets" / name).read_text(encoding="utf-8")


def style_sheet() -> str:
    """Return the style sheet of every page, the colours of curves in it."""
    return css() + asset("style.css")


def run_page(outcome: Outcome, environment: Environment) -> str:
    """Return the page of one run, everything in it."""
    body = story(outcome, environment, still)
    head = f"<style>{style_sheet()}</style>"
    if not _command(outcome, environment):
        return page(outcome.title, body, head=head)
    script = asset("copy.js")
    # The policy names the script by its digest, so that no other one runs.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    body.append(f"<script>{script}</script>")
    return page(outcome.title, body, head=head, scripts=f"'sha256-{digest}'")


def page(
    title: str,
    body: Iterable[str],
    *,
    head: str,
    own: str = "",
    scripts: str = "",
    navigation: str = "",
    wide: bool = False,
) -> str:
    """Return a whole page.

    Args:
        title: Its title.
        body: Contents of its main part.
        head: Style sheets and scripts.
        own: Where files of its own may come from, as sources of a content-security policy; nothing
            may if empty. Whatever gets past all escaping loads nothing.
        scripts: The scripts that run, as sources of the policy; those of ``own`` if empty.
        navigation: What stands before the main part.
        wide: Whether the page is wide.
    """
    policy = "default-src 'none'; style-src {0} 'unsafe-inline'; img-src {0} data:; "
    policy = policy.format(own) + "base-uri 'none'; form-action 'none'"
    if scripts or own:
        policy += f"; script-src {scripts or own}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{html.escape(title)}</title>{head}</head>",
        '<body class="wide">' if wide else "<body>",
        '<a class="skip" href="#content">Skip to the content</a>',
        navigation,
        '<main id="content" tabindex="-1">',
        *body,
        "</main></body></html>\n",
    ]
    return "\n".join(parts)


def story(
    outcome: Outcome, environment: Environment, draw: Callable[[Figure | Pictures], str]
) -> list[str]:
    """Return title, summary, sections, checks and what is needed to run it again."""
    return [
        f"<h1>{html.escape(outcome.title)}</h1>",
        *([_origin(outcome.source)] if outcome.source else []),
        _summary(outcome),
        *(_section(section, draw) for section in outcome.sections),
        *([_checks(outcome.checks)] if outcome.checks else []),
        _settings(outcome, environment),
    ]


def _origin(source: Source) -> str:
    paper, part = source.paper, html.escape(source.part)
    if not paper.citation:
        return f'<p class="origin">{html.escape(paper.title)}: {part}</p>'
    title = f"<cite>{html.escape(paper.title)}</cite>"
    if paper.link:
        title = f'<a href="{html.escape(paper.link)}">{title}</a>'
    return f'<p class="origin">Reproduces {html.escape(paper.citation)}, {title}: {part}</p>'


def verdict(outcome: Outcome) -> str:
    """Return how many checks passed, in words; nothing if there are none."""
    passed = sum(check.passed for check in outcome.checks)
    return f"{passed} of {len(outcome.checks)} checks passed." if outcome.checks else ""


def _summary(outcome: Outcome) -> str:
    state = "summary" if outcome.passed else "summary failed"
    text = f"{outcome.summary} {verdict(outcome)}".rstrip()
    return f'<p class="{state}">{html.escape(text)}</p>'


def _section(section: Section, draw: Callable[[Figure | Pictures], str]) -> str:
    parts = [f"<section><h2>{html.escape(section.heading)}</h2>"]
    for entry in section.paragraphs:
        if isinstance(entry, Formula):
            parts.append(scroller(entry.mathml, "formula"))
        else:
            parts.append(f"<p>{html.escape(entry)}</p>")
    if section.table is not None:
        parts.append(_table(section.table, section.heading))
    if section.figure is not None:
        if section.caption:
            parts.append(f"<p>{html.escape(section.caption)}</p>")
        parts.append(draw(section.figure))
    return "\n".join([*parts, "</section>"])


def still(figure: Figure | Pictures) -> str:
    """Return a figure that does not move, all of it in the page."""
    from stepfold.lab._matplotlib import to_drawings, to_png

    if isinstance(figure, Figure):
        return f'<figure class="still">{to_drawings(figure)}</figure>'
    images = "".join(
        f'<div><img src="data:image/png;base64,{base64.b64encode(to_png(image)).decode()}" '
        f'alt="{html.escape(image.label)}"><p>{html.escape(image.label)}</p></div>'
        for image in figure.images
    )
    return (
        f"<figure><figcaption>{html.escape(figure.title)}</figcaption>"
        f'<div class="pictures" role="group" aria-label="{html.escape(figure.alt)}">'
        f"{images}</div></figure>"
    )


def _table(table: Table, label: str) -> str:
    rows = [[html.escape(cell) for cell in row] for row in table.rows]
    return html_table(table.columns, [[f"<td>{cell}</td>" for cell in row] for row in rows], label)


def _checks(checks: Sequence[Check]) -> str:
    sourced = any(check.source for check in checks)
    rows = [
        (
            f'<td class="{check.verdict.lower()}">{check.verdict}</td>',
            f"<td>{html.escape(check.claim)}</td>",
            f"<td>{html.escape(check.expected)}</td>",
            *([f"<td>{html.escape(check.source)}</td>"] if sourced else []),
            f"<td>{check.measured:.6g}</td>",
        )
        for check in checks
    ]
    columns = ("Result", "Claim", "Expected", *(["From"] if sourced else []), "Measured")
    table = html_table(columns, rows, "Checks")
    return f"<section><h2>Checks</h2>\n{table}</section>"


def _settings(outcome: Outcome, environment: Environment) -> str:
    pairs = {
        **{name: str(value) for name, value in outcome.parameters.items()},
        "written": environment.written,
        "time": f"{environment.seconds:.1f} s",
        "machine": environment.machine,
        "versions": environment.packages,
    }
    rows = "\n".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
        for name, value in pairs.items()
        if value
    )
    command = _command(outcome, environment)
    code = ""
    if command:
        # The button is shown by the script that makes it work.
        # Lines end between words, and not at the hyphens of an option.
        words = " ".join(f"<span>{html.escape(word)}</span>" for word in _words(command))
        code = (
            f'<div class="command"><pre><code>{words}</code></pre>'
            '<button type="button" class="copy" hidden>Copy</button></div>'
        )
    return f"<section><h2>To run it again</h2>\n{code}<dl>{rows}</dl></section>"


def _words(command: str) -> list[str]:
    """Its words, quoted as they were; all of it if it is no shell's."""
    try:
        return [shlex.quote(word) for word in shlex.split(command)]
    except ValueError:
        return [command]


def _command(outcome: Outcome, environment: Environment) -> str:
    """The command that repeats a run; of an experiment from what the runner keeps of it."""
    run: Any = outcome.records.get("run")
    if environment.command:
        return environment.command
    if not isinstance(run, dict) or not isinstance(run.get("parameters"), dict):
        return ""
    words = ["stepfold", "run", str(run.get("experiment"))]
    for name, value in run["parameters"].items():
        words += ["--set", f"{name}={value}"]
    return shlex.join(words)


def html_table(columns: Sequence[str], rows: Iterable[Iterable[str]], label: str) -> str:
    """Return a table; ``rows`` are cells, marked up and escaped."""
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return scroller(
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>",
        f"Table: {label}",
    )


def scroller(content: str, label: str) -> str:
    """Return a box that scrolls sideways, by keyboard too, where ``content`` is too wide."""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{html.escape(label)}">'
        f"{content}</div>"
    )
