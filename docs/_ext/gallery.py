"""Cards of the notebooks and of the experiments, with pictures of what they found.

Notebooks of ``examples/`` become pages of the site, which run when it is built. Experiments run
small, and their report is written below the site, if the environment sets STEPFOLD_DOCS_REPORT;
runs of the same code that are there already are kept.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from docutils.parsers.rst import Directive

from stepfold.lab.experiments import EXPERIMENTS, Experiment
from stepfold.lab.report import SavedRun, read_run
from stepfold.lab.runs import Job
from stepfold.lab.site import find_runs, write_site
from stepfold.lab.sources import place

HERE = Path(__file__).parents[1]
RUNS = HERE / "_build" / "quick"
NOTEBOOKS = "examples/notebooks"
INDEX = "examples/index"
REPORT = "results"


class NotebookCards(Directive):
    """A card for each notebook, with the last picture that it draws."""

    def run(self) -> list[nodes.Node]:
        return [_Card("", page=f"{NOTEBOOKS}/{path.stem}") for path in _notebooks()]


class ExperimentCards(Directive):
    """A card for each experiment, below the paper that it reproduces."""

    def run(self) -> list[nodes.Node]:
        found: list[nodes.Node] = []
        if any(map(_run_of, EXPERIMENTS.values())):
            link = f'<p><a href="../{REPORT}/index.html">All results on one page</a></p>'
            found.append(nodes.raw("", link, format="html"))
        ordered = sorted(EXPERIMENTS.values(), key=lambda each: place(each.source))
        for paper, experiments in itertools.groupby(ordered, key=lambda each: each.source.paper):
            found.append(nodes.rubric("", str(paper)))
            cards = "".join(map(_experiment_card, experiments))
            found.append(nodes.raw("", f'<ul class="gallery">{cards}</ul>', format="html"))
        return found


class _Card(nodes.General, nodes.Element):
    """A notebook's place among the cards, until the notebooks have run."""


def _notebooks() -> list[Path]:
    return sorted((HERE.parent / "examples").glob("*.ipynb"))


def _experiment_card(experiment: Experiment) -> str:
    name = experiment.name
    run = _run_of(experiment)
    command = f"<code>stepfold run {escape(name)}</code>"
    if run is None:
        return f"<li><p>{escape(experiment.description)}</p><p>{command}</p></li>"
    outcome = run.outcome
    return (
        f'<li><a href="../{REPORT}/{escape(name)}/index.html">'
        f'<img src="../{REPORT}/{escape(name)}/thumbnail.png" alt="" width="320" height="180" '
        f'loading="lazy"><span>{escape(outcome.title)}</span></a>'
        f"<p>{escape(experiment.source.part)}</p><p>{command}</p></li>"
    )


def _run_of(experiment: Experiment) -> SavedRun | None:
    """The small run of an experiment, if it was made by the code as it is now."""
    job = Job(experiment, experiment.values(quick=True), RUNS / experiment.name)
    return read_run(job.folder) if job.is_done() else None


def _prepare(app: Any) -> None:
    """Put the notebooks among the pages, and run the experiments if they are asked for."""
    folder = HERE / NOTEBOOKS
    folder.mkdir(exist_ok=True)
    names = {path.name for path in _notebooks()}
    for old in folder.iterdir():
        if old.name not in names:
            old.unlink()
    for path in _notebooks():
        target = folder / path.name
        text = _as_page(path)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")
    if os.environ.get("STEPFOLD_DOCS_REPORT"):
        command = [sys.executable, "-m", "stepfold", "run", "--all", "--quick", "-o", str(RUNS)]
        subprocess.run(command, check=True)  # noqa: S603 (our own program)


def _as_page(path: Path) -> str:
    """A notebook with a link to its file below its title, and without stored outputs."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    link = f"{{nb-download}}`Download this page as a notebook <{path.name}>`"
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(link, id="download"))
    text: str = nbformat.writes(notebook)
    return text


def _outdated(app: Any, env: Any, added: Any, changed: Any, removed: Any) -> list[str]:
    """The gallery is made anew every time: it shows what other pages and runs hold."""
    return [INDEX]


def _fill(app: Any, doctree: nodes.document, page: str) -> None:
    """Put title, first sentence and last picture of each notebook in its card."""
    cards = list(doctree.findall(_Card))
    if not cards:
        return
    gallery = nodes.bullet_list(classes=["gallery"])
    cards[0].parent.insert(cards[0].parent.index(cards[0]), gallery)
    for card in cards:
        gallery += _notebook_card(app, page, card["page"])
        card.parent.remove(card)


def _notebook_card(app: Any, page: str, notebook: str) -> nodes.list_item:
    env = app.builder.env
    doctree = env.get_doctree(notebook)
    address = app.builder.get_relative_uri(page, notebook)
    link = nodes.reference("", "", refuri=address, internal=True)
    pictures = [image for image in doctree.findall(nodes.image) if image["uri"] in env.images]
    if pictures:
        uri = pictures[-1]["uri"]
        link += nodes.image(uri=uri, candidates={"*": uri}, alt="")
    link += nodes.inline("", env.titles[notebook].astext())
    words = next(doctree.findall(nodes.paragraph)).astext()
    return nodes.list_item(
        "",
        nodes.paragraph("", "", link),
        nodes.paragraph("", words.split(". ")[0].rstrip(".") + "."),
    )


def _write_report(app: Any, exception: Exception | None) -> None:
    """The report of all runs below the site."""
    if exception is not None or app.builder.format != "html":
        return
    folder = Path(app.outdir) / REPORT
    shutil.rmtree(folder, ignore_errors=True)
    folders = [run.folder for run in map(_run_of, EXPERIMENTS.values()) if run]
    if folders:
        write_site(find_runs(folders), folder)


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("notebook-cards", NotebookCards)
    app.add_directive("experiment-cards", ExperimentCards)
    app.add_node(_Card)
    app.connect("builder-inited", _prepare)
    app.connect("env-get-outdated", _outdated)
    app.connect("doctree-resolved", _fill)
    app.connect("build-finished", _write_report)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
