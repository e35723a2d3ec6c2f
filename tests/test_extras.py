"""What messages say of installing: the extra exists, and the name is not looked up on an index."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

from stepfold._extras import how_to_install, not_installed

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PAGES = [
    ROOT / "README.md",
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in path.parts),
]


def _named_extras() -> set[str]:
    """The extras in calls of the two functions, as written in the sources."""
    places = {"how_to_install": 0, "not_installed": 1}
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) in places:
                argument = node.args[places[node.func.id]]
                if isinstance(argument, ast.Constant):
                    found.add(argument.value)
    return found


def test_messages_name_extras_that_the_project_declares() -> None:
    named = _named_extras()
    assert {"lab", "unfolded"} <= named
    assert named <= set(PROJECT["optional-dependencies"])


def test_no_text_installs_the_name_from_an_index() -> None:
    pattern = re.compile(r"pip install[^`\n]*\bstepfold\b")
    texts = {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in SOURCES + PAGES}
    assert [str(path) for path, text in texts.items() if pattern.search(text)] == []


def test_extras_in_commands_of_the_pages_are_declared() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    lists = re.findall(r"pip install[^`\n]*'\.\[([^]]+)\]'", text)
    assert lists
    named = {extra.strip() for names in lists for extra in names.split(",")}
    assert named <= set(PROJECT["optional-dependencies"])


def test_the_error_keeps_the_name_of_the_missing_module() -> None:
    error = not_installed("the site needs plotly", "lab", ModuleNotFoundError(name="plotly"))
    assert error.name == "plotly"
    assert str(error).endswith(how_to_install("lab"))
