"""The chart and the tables of which-method.md, both from which_method.toml.

python docs/start/which_method.py     writes which-method.svg and the tables in which-method.md
"""

from __future__ import annotations

import re
import textwrap
import tomllib
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
BEGIN = "<!-- which_method.py: begin -->\n"
END = "<!-- which_method.py: end -->\n"


QUESTIONS = tomllib.loads((HERE / "which_method.toml").read_text(encoding="utf-8"))["question"]

WIDTH, MARGIN, INDENT = 360, 8, 26
LINE, SIZE = 19, 14
LETTERS = 46  # of the chart's size that fit in a line; bold ones take more room


def chart() -> str:
    """The questions one below the other; answers branch off to the right, with their uses."""
    parts: list[str] = []
    y = MARGIN
    for number, question in enumerate(QUESTIONS, 1):
        lines = textwrap.wrap(f"{number}. {question['text']}", LETTERS - 6)
        height = LINE * len(lines) + 14
        parts.append(
            f'<rect class="question" x="{MARGIN}" y="{y}" width="{WIDTH - 2 * MARGIN}" '
            f'height="{height}" rx="6"/>'
        )
        parts += _text(lines, MARGIN + 10, y + LINE + 2, "ask")
        top, y = y + height, y + height + 8
        for answer in question["answer"]:
            lines = textwrap.wrap(answer["text"], LETTERS - 2)
            parts.append(f'<path d="M{MARGIN + 10} {y + 10}h{INDENT - 16}"/>')
            parts += _text(lines, MARGIN + INDENT, y + 15, "answer")
            y += LINE * len(lines)
            if "short" in answer:
                link = "../" + answer["pages"][0].lstrip("/") + ".html"
                parts.append(
                    f'<a href="{link}"><text class="use" x="{MARGIN + INDENT}" y="{y + 15}">'
                    f"{escape(answer['short'])}</text></a>"
                )
                y += LINE
            end = y - LINE + 10
            y += 6
        onward = number < len(QUESTIONS)
        # The spine goes to the last answer, and on to the next question where there is one.
        parts.append(f'<path d="M{MARGIN + 10} {top}V{y if onward else end - LINE}"/>')
        if onward:
            parts.append(f'<path class="tip" d="M{MARGIN + 5} {y}l5 7l5 -7z"/>')
            y += 8
    return "\n".join(
        [
            f'<svg class="which-method" xmlns="http://www.w3.org/2000/svg" '
            f'viewBox="0 0 {WIDTH} {y + MARGIN}" role="group" aria-labelledby="which-title">',
            '<title id="which-title">Flow chart from your problem to a function; the tables below '
            "have the same in words</title>",
            f"<style>{_STYLE}</style>",
            *parts,
            "</svg>\n",
        ]
    )


_STYLE = (
    ".which-method{width:min(100%,30rem);height:auto;display:block;margin:0 auto 1.5rem;"
    f"font-size:{SIZE}px;font-family:system-ui,sans-serif;color:var(--pst-color-text-base,#1f2328)}}"
    ".which-method text{fill:currentColor}.which-method .ask{font-weight:600}"
    ".which-method .use{font-family:ui-monospace,monospace;font-size:13px;"
    "fill:var(--pst-color-link,#0067b0);text-decoration:underline}"
    ".which-method path{fill:none;stroke:var(--pst-color-border,#8b949e);stroke-width:1.5}"
    ".which-method .tip{fill:var(--pst-color-border,#8b949e)}"
    ".which-method .question{fill:var(--pst-color-surface,#f3f4f5);"
    "stroke:var(--pst-color-border,#8b949e)}"
)


def _text(lines: list[str], x: int, y: int, name: str) -> list[str]:
    return [
        f'<text class="{name}" x="{x}" y="{y + LINE * at}">{escape(line)}</text>'
        for at, line in enumerate(lines)
    ]


def tables() -> str:
    """The same as tables of MyST, one for each question, with a row for each answer with a use."""
    parts = []
    for number, question in enumerate(QUESTIONS, 1):
        rows = [
            f"### {number}. {question['text']}",
            "",
            "| if you have | use, expected cost, and what is better where |",
            "|---|---|",
        ]
        for answer in question["answer"]:
            if "short" not in answer:
                continue
            calls = ", ".join(f"`{answer[key]}`" for key in ("code", "command") if key in answer)
            pages = ", ".join(f"[{_title(page)}](..{page}.md)" for page in answer["pages"])
            rows.append(
                f"| {answer['table']} | {calls}: {answer['cost']} ({pages}). "
                f"**Better:** {answer['rival']}. |"
            )
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _title(page: str) -> str:
    """The heading of a document of the site."""
    text = (HERE.parent / f"{page.lstrip('/')}.md").read_text(encoding="utf-8")
    return re.search(r"^# (.+)$", text, re.MULTILINE)[1]


def filled(page: str) -> str:
    """The page with the tables between its marks."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + "\n" + tables() + "\n" + END + rest.split(END)[1]


def main() -> None:
    page = HERE / "which-method.md"
    page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    (HERE / "which-method.svg").write_text(chart(), encoding="utf-8")


if __name__ == "__main__":
    main()
