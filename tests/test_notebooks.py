"""The notebooks of examples/ run from the first cell to the last, in a process of their own."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "examples").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]


@pytest.fixture(params=NOTEBOOKS, ids=NAMES)
def notebook(request) -> nbformat.NotebookNode:
    """A notebook as it is in the repository."""
    return nbformat.read(request.param, as_version=4)


def test_there_is_a_notebook_for_each_main_use() -> None:
    uses = {"steps_and_spectra", "solving", "unfolding", "fixed_points", "explaining"}
    assert uses <= set(NAMES)


def test_a_notebook_is_valid_teaches_and_holds_no_output(notebook) -> None:
    nbformat.validate(notebook)
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    assert kinds.count("markdown") >= 4
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


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
