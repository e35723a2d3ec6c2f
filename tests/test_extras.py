"""What messages say of installing: the extra exists, and the name is not looked up on an index."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tomllib
import types
from pathlib import Path

import pytest

from stepfold._extras import check_version, how_to_install, not_installed

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PAGES = [
    ROOT / "README.md",
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in path.parts),
]


def _named_extras() -> set[str]:
    """The extras in calls of these functions, as written in the sources."""
    places = {"how_to_install": 0, "not_installed": 1, "check_version": 2}
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


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("odl", "odl", "odl"),
        ("optax", "optax", "optax"),
        ("pyamg", "pyamg", "pyamg"),
        ("pyproximal", "pyproximal", "pyproximal"),
        ("sigpy", "sigpy", "sigpy"),
        ("sklearn", "sklearn", "sklearn"),
        ("torch", "torch", "unfolded"),
    ],
)
def test_a_package_that_is_absent_or_too_old_is_named_with_its_extra(
    name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(package)
    module = f"stepfold.interop.{name}"
    importlib.import_module(module)
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys.modules[package], "__version__", "0.0.9")
    with pytest.raises(ImportError, match=rf"`{module}` needs .* >= .*got 0\.0\.9.*\[{extra}\]"):
        importlib.import_module(module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=rf"`{module}` needs .*not installed.*{extra}"):
        importlib.import_module(module)


@pytest.mark.parametrize(
    ("version", "is_enough"),
    [("1.10", True), ("1.9.0", True), ("1.9rc1", True), ("2.0+cpu", True), ("1.8.9", False)],
)
def test_releases_are_compared_as_numbers(version: str, is_enough: bool) -> None:
    package = types.SimpleNamespace(__version__=version)
    if is_enough:
        check_version(package, "this needs it >= 1.9", "lab")
    else:
        with pytest.raises(ImportError, match=r"^this needs it >= 1\.9, got 1\.8\.9; install"):
            check_version(package, "this needs it >= 1.9", "lab")
