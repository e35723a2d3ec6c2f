"""The notebooks of examples/ hold their outputs, and run from the first cell to the last.

Those of examples/pages/ are pages of the documentation, which run when it is built.
"""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import nbformat
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
MAKER = runpy.run_path(str(EXAMPLES / "notebooks.py"))
NOTEBOOKS = MAKER["written_by_hand"]()
NAMES = [path.stem for path in NOTEBOOKS]
PAGES = MAKER["pages"]()


@pytest.fixture(params=NOTEBOOKS, ids=NAMES)
def notebook(request) -> nbformat.NotebookNode:
    """A notebook as it is in the repository."""
    return nbformat.read(request.param, as_version=4)


def test_there_is_a_notebook_for_each_main_use() -> None:
    uses = {"steps_and_spectra", "solving", "unfolding", "fixed_points", "explaining"}
    assert uses <= set(NAMES)


def test_a_notebook_is_valid_teaches_and_holds_its_outputs(notebook) -> None:
    nbformat.validate(notebook)
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    assert kinds.count("markdown") >= 4
    _check_outputs(notebook)


def _check_outputs(notebook) -> None:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [out for cell in code for out in cell.outputs]
    assert outputs
    assert [
        out for out in outputs if out.output_type == "error" or out.get("name") == "stderr"
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_the_notebook_of_a_page_is_that_page_with_its_outputs(page) -> None:
    # `python examples/notebooks.py NAME` makes it anew.
    kept = nbformat.read(EXAMPLES / "pages" / f"{page.stem}.ipynb", as_version=4)
    written = [(cell.cell_type, cell.source) for cell in MAKER["notebook_of"](page).cells]
    assert [(cell.cell_type, cell.source) for cell in kept.cells] == written
    _check_outputs(kept)


def test_no_notebook_is_left_from_a_page_that_went() -> None:
    assert {path.stem for path in (EXAMPLES / "pages").glob("*.ipynb")} == {
        page.stem for page in PAGES
    }


def test_a_notebook_runs_without_error_or_warning(notebook, tmp_path) -> None:
    from nbclient import NotebookClient

    client = NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    warned = [out.text for out in outputs if out.get("name") == "stderr"]
    assert warned == []
    assert any("image/png" in out.get("data", {}) for out in outputs)
    printed = "".join(out.text for out in outputs if out.get("name") == "stdout")
    assert re.search(r"\bnan\b", printed) is None
