"""What the pages of ``docs/`` are made of, read from their sources alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
SECTIONS = ("start", "guides", "theory", "examples", "reference")
_FENCE = re.compile(r"\s*(`{3,}|:{3,})\s*(.*)")


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands behind the fence, its first line's number, and its lines."""

    kind: str
    start: int
    lines: tuple[str, ...]


def sources() -> list[Path]:
    """Every page that somebody wrote; what a build generates is left out."""
    generated = {DOCS / "_build", DOCS / "reference" / "api", DOCS / "examples" / "notebooks"}
    return sorted(page for page in DOCS.rglob("*.md") if not generated.intersection(page.parents))


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page; of nested ones, the outer."""
    found: list[Block] = []
    fence, kind, start = "", "", 0
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _FENCE.fullmatch(line)
        if not fence and match:
            fence, kind, start, lines = match[1], match[2], number + 1, []
        elif fence and line.strip() == fence:
            found.append(Block(kind, start, tuple(lines)))
            fence = ""
        elif fence:
            lines.append(line)
    return found


def prose(text: str) -> str:
    """A page without its blocks of code."""
    code = {
        number
        for block in blocks(text)
        if not block.kind.startswith("{") or block.kind.startswith("{code")
        for number in range(block.start, block.start + len(block.lines))
    }
    lines = text.splitlines()
    return "\n".join(line for number, line in enumerate(lines, 1) if number not in code)


def toctree_entries(page: Path) -> list[Path]:
    """The pages that the toctrees of a page name; a pattern those that stand nowhere before it."""
    found: list[Path] = []
    for block in blocks(page.read_text(encoding="utf-8")):
        if not block.kind.startswith("{toctree}"):
            continue
        entries = [line for line in block.lines if line.strip() and not line.startswith(":")]
        for entry in entries:
            target = re.sub(r".*<(.+)>$", r"\1", entry.strip())
            if "*" in target:
                there = {path.resolve() for path in page.parent.glob(f"{target}.md")}
                found += sorted(there - {page.resolve(), *found})
            else:
                found.append(resolved(page, target))
    return found


def resolved(page: Path, target: str) -> Path:
    """The file of a page that another names as Sphinx does: from the root, or from itself."""
    folder = DOCS if target.startswith("/") else page.parent
    return (folder / f"{target.lstrip('/')}.md").resolve()
