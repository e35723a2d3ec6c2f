"""Notebooks with their outputs: the guides that run, and those written by hand.

    python examples/notebooks.py              makes all of them anew
    python examples/notebooks.py ill-posed    those with this name

A page of docs/start/ or docs/guides/ that runs becomes ``examples/pages/NAME.ipynb``. Code is
executed in an empty folder, so that no notebook depends on what another has left.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import nbformat
from myst_nb.core.read import read_myst_markdown_notebook
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = ROOT / "examples" / "pages"
# Roles of Sphinx: {doc}`words <target>` or {doc}`target`.
ROLE = re.compile(r"\{(\w+)\}`(?:([^`<>]+?)\s*<([^`<>]+)>|([^`<>]+))`")


def pages() -> list[Path]:
    """The pages for users whose code runs."""
    found = [path for part in ("start", "guides") for path in sorted((DOCS / part).glob("*.md"))]
    return [page for page in found if "file_format: mystnb" in page.read_text(encoding="utf-8")]


def written_by_hand() -> list[Path]:
    """The notebooks that no page stands behind."""
    return sorted((ROOT / "examples").glob("*.ipynb"))


def notebook_of(page: Path) -> nbformat.NotebookNode:
    """A page as a notebook without outputs."""
    notebook = read_myst_markdown_notebook(page.read_text(encoding="utf-8"))
    notebook.metadata = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = ROLE.sub(lambda role: _plain(role, page), cell.source)
    return notebook


def _plain(role: re.Match[str], page: Path) -> str:
    """A role as Markdown has it: a link to the page, or its words alone."""
    kind, words, target, bare = role.groups()
    if kind != "doc":
        return words or bare
    target = target or bare
    folder = DOCS if target.startswith("/") else page.parent
    path = (folder / target.lstrip("/")).with_suffix(".md")
    if words is None:
        heading = re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), re.M)
        words = target if heading is None else heading[1]
    return f"[{words}](../../{path.resolve().relative_to(ROOT).as_posix()})"


def execute(notebook: nbformat.NotebookNode) -> None:
    """Run all cells; keep what they printed and drew, and nothing of the machine."""
    with tempfile.TemporaryDirectory() as folder:
        place = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata.pop("execution", None)


def main(names: list[str]) -> None:
    """Make the notebooks with these names, or all of them."""
    PAGES.mkdir(exist_ok=True)
    made = {page.stem: (PAGES / f"{page.stem}.ipynb", notebook_of(page)) for page in pages()}
    for path in written_by_hand():
        made[path.stem] = (path, nbformat.read(path, as_version=4))
    unknown = sorted(set(names) - set(made))
    if unknown:
        raise SystemExit(f"no notebook is called {unknown[0]}; there are {', '.join(made)}")
    for name in names or made:
        path, notebook = made[name]
        execute(notebook)
        nbformat.write(notebook, path)
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
