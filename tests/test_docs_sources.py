"""The pages' sources: each is in the table of contents, links lead somewhere, code fits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from _docs import DOCS, SECTIONS, blocks, prose, resolved, sources, toctree_entries

PAGES = sources()
NAMES = [str(page.relative_to(DOCS).with_suffix("")) for page in PAGES]
# What fits beside both sides of a page that is 1280 pixels wide; `site.css` sets the size for it.
COLUMNS = 96


@pytest.fixture(params=PAGES, ids=NAMES)
def page(request) -> Path:
    """One page."""
    return request.param


def test_the_front_page_has_the_five_sections_and_no_more_than_fit_beside_them() -> None:
    entries = [str(entry.relative_to(DOCS)) for entry in toctree_entries(DOCS / "index.md")]
    assert entries[:5] == [f"{section}/index.md" for section in SECTIONS]
    assert len(entries) <= 6


def test_every_page_is_in_the_table_of_contents_once() -> None:
    entries = [entry.resolve() for page in PAGES for entry in toctree_entries(page)]
    pages = {page.resolve() for page in PAGES} - {DOCS / "index.md"}
    assert sorted(entries) == sorted(pages)


def test_a_page_begins_with_its_only_title(page) -> None:
    titles = re.findall(r"^# .+", prose(page.read_text(encoding="utf-8")), re.M)
    assert len(titles) == 1


def test_a_link_to_a_file_or_a_page_leads_to_one(page) -> None:
    text = prose(page.read_text(encoding="utf-8"))
    targets = [
        resolved(page, re.sub(r".*<(.+)>$", r"\1", words, flags=re.S).strip())
        for words in re.findall(r"\{doc\}`([^`]+)`", text)
    ]
    written = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    targets += [page.parent / link for link in written if link and ":" not in link]
    included = [
        words[1]
        for block in blocks(page.read_text(encoding="utf-8"))
        if (words := re.match(r"\{(?:literalinclude|include|image|figure)\}\s*(\S+)", block.kind))
    ]
    targets += [page.parent / name for name in included]
    missing = [str(target) for target in targets if not target.exists()]
    assert missing == []


def test_code_fits_the_page(page) -> None:
    code = [
        block
        for block in blocks(page.read_text(encoding="utf-8"))
        if not block.kind.startswith("{") or block.kind.startswith("{code-cell}")
    ]
    wide = [
        f"line {block.start + number} has {len(line)} columns"
        for block in code
        for number, line in enumerate(block.lines)
        if len(line) > COLUMNS
    ]
    assert wide == []
