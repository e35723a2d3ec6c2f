"""The pages of a site: its index, and one page for each run. All text is escaped."""

from __future__ import annotations

import html
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from stepfold.lab._page import page, story, verdict
from stepfold.lab.outcome import Outcome
from stepfold.lab.report import SavedRun
from stepfold.lab.site.interactive import interactive

# The files beside a page, from a disk or from a server.
OWN = "'self'"


@dataclass(frozen=True, eq=False)
class Entry:
    """A run with its place in the site.

    Args:
        slug: Name of its folder there; letters, digits, - and _.
        group: Heading under which the index lists it; empty for the first group.
        run: What it found.
    """

    slug: str
    group: str
    run: SavedRun


def index_page(entries: Sequence[Entry], failures: Sequence[str]) -> str:
    """Return the index: what passed, then a card for each run."""
    passed = sum(entry.run.outcome.passed for entry in entries)
    state = "summary" if passed == len(entries) and not failures else "summary failed"
    body = [
        "<h1>Results</h1>",
        f'<p class="{state}">{count_runs(len(entries))}; every check passed in {passed}.</p>',
        *([_left_out(failures)] if failures else []),
    ]
    for group, members in itertools.groupby(entries, key=lambda entry: entry.group):
        level = 2
        if group:
            body.append(f"<h2>{html.escape(group)}</h2>")
            level = 3
        for paper, reproductions in itertools.groupby(members, key=_paper):
            if paper:
                body.append(f"<h{level}>{html.escape(paper)}</h{level}>")
            heading = f"h{level + bool(paper)}"
            cards = [_card(entry, heading) for entry in reproductions]
            body += ['<ul class="cards">', *cards, "</ul>"]
    return page("Results", body, head=_head("assets"), own=OWN, wide=True)


def _paper(entry: Entry) -> str:
    source = entry.run.outcome.source
    return str(source.paper) if source else ""


def _left_out(failures: Sequence[str]) -> str:
    items = "".join(f"<li>{html.escape(failure)}</li>" for failure in failures)
    return (
        f"<details><summary>Left out: {count_runs(len(failures))} that could not be read</summary>"
        f"<ul>{items}</ul></details>"
    )


def count_runs(number: int) -> str:
    """Return "1 run", "2 runs" and so on."""
    return f"{number} run{'' if number == 1 else 's'}"


def _card(entry: Entry, level: str) -> str:
    outcome = entry.run.outcome
    picture = ""
    if outcome.figures:
        # The title beside it says what it is of; the page describes it.
        picture = f'<img src="{entry.slug}/thumbnail.png" alt="" width="480" height="270">'
    colour = "pass" if outcome.passed else "fail"
    status = f'<span class="{colour}">{verdict(outcome)}</span> ' if outcome.checks else ""
    return (
        f'<li class="card">{picture}<div><{level}><a href="{entry.slug}/index.html">'
        f"{html.escape(outcome.title)}</a></{level}>"
        f"<p>{html.escape(outcome.summary)}</p>"
        f"{_part(outcome)}"
        f'<p class="small">{status}{html.escape(outcome.name)}, '
        f"{entry.run.environment.seconds:.1f} s</p></div></li>"
    )


def _part(outcome: Outcome) -> str:
    return f'<p class="small">{html.escape(outcome.source.part)}</p>' if outcome.source else ""


def run_page(entry: Entry, neighbours: tuple[Entry | None, Entry | None]) -> str:
    """Return the page of one run; ``neighbours`` are those before and after it."""
    before, after = neighbours
    links = [
        f'<a href="../{other.slug}/index.html" rel="{rel}">'
        f"{left}{html.escape(other.run.outcome.title)}{right}</a>"
        for other, rel, left, right in ((before, "prev", "← ", ""), (after, "next", "", " →"))
        if other is not None
    ]
    body = story(entry.run.outcome, entry.run.environment, interactive)
    body.append('<p><a href="data.json" download>All data of this run (JSON)</a></p>')
    if links:
        body.append(f'<nav class="neighbours" aria-label="Other results">{"".join(links)}</nav>')
    scripts = (
        '<script defer src="../assets/plotly.min.js"></script>'
        '<script defer src="../assets/site.js"></script>'
        '<script defer src="../assets/copy.js"></script>'
    )
    return page(
        entry.run.outcome.title,
        body,
        head=_head("../assets") + scripts,
        own=OWN,
        navigation='<nav aria-label="Site"><a href="../index.html">All results</a></nav>',
    )


def _head(assets: str) -> str:
    return f'<link rel="stylesheet" href="{assets}/style.css"><link rel="icon" href="data:,">'
