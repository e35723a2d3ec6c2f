"""Experiments say what they reproduce: in records, reports, the site and the documentation."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from test_lab_records import full_outcome

from stepfold.lab import Outcome, Section
from stepfold.lab.experiments import EXPERIMENTS
from stepfold.lab.report import read_run, write_run
from stepfold.lab.site import find_runs, write_site
from stepfold.lab.sources import OWN, PAPERS, STEPSIZE_HEDGING, Paper, Source, place

DOCS = Path(__file__).parents[1] / "docs"
HOSTILE = Source(Paper("<b>", "</a><script>1</script>", 'https://x.org/"onclick='), "<i>")


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_an_experiment_that_cites_one_of_the_papers_reproduces_one(name) -> None:
    experiment = EXPERIMENTS[name]
    words = inspect.getdoc(inspect.getmodule(experiment.function))
    cited = [paper for paper in PAPERS if paper.link and paper.link.split("/")[-1] in words]
    assert experiment.source.paper in (cited or [*PAPERS])
    numbers = re.findall(r"Figure \d+", experiment.source.part)
    assert all(number in words for number in numbers)


def test_the_page_of_experiments_leads_from_every_part_to_its_command_below_its_paper() -> None:
    text = (DOCS / "examples" / "experiments.md").read_text(encoding="utf-8")
    found = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("### "):
            heading = line[4:]
        row = re.match(r"\| (.+?) \| `stepfold run (\w+)` \|", line)
        if row:
            found[row[2]] = (heading, row[1])
    assert found == {
        name: (str(each.source.paper), each.source.part) for name, each in EXPERIMENTS.items()
    }


def test_a_run_says_what_it_reproduces_and_keeps_it(tmp_path) -> None:
    outcome = EXPERIMENTS["known_steps"].run()
    assert outcome.source == EXPERIMENTS["known_steps"].source
    page = write_run(outcome, tmp_path / "run", seconds=1.0).read_text(encoding="utf-8")
    assert "Reproduces Altschuler and Parrilo (2023)" in page
    assert STEPSIZE_HEDGING.link in page
    assert read_run(tmp_path / "run").outcome.source == outcome.source


@pytest.fixture
def index(tmp_path) -> str:
    """The index of a site of five runs: own, of two papers, of none, and a hostile one."""
    sources = {
        "a": Source(OWN, "own part"),
        "b": Source(PAPERS[1], "second part"),
        "c": None,
        "d": Source(PAPERS[0], "first part"),
        "e": HOSTILE,
    }
    for name, source in sources.items():
        outcome = Outcome(name, name, (Section("h", ("p",)),), name=name, source=source)
        write_run(outcome, tmp_path / "runs" / name, seconds=1.0)
    path = write_site(find_runs([tmp_path / "runs"]), tmp_path / "site")
    return path.read_text(encoding="utf-8")


def test_a_site_is_grouped_by_paper_and_runs_of_none_come_last(index) -> None:
    order = [index.index(f'<a href="{name}/index.html">') for name in "dbaec"]
    assert order == sorted(order)
    for paper in (*PAPERS[:2], OWN):
        assert index.count(f">{paper}</h2>") == 1
    assert "first part" in index


def test_a_hostile_source_becomes_no_tag(index, tmp_path) -> None:
    page = (tmp_path / "site" / "e" / "index.html").read_text(encoding="utf-8")
    for text in (index, page):
        assert "<script>1" not in text
        assert "<i>" not in text
        assert '"onclick' not in text


def test_sources_sort_by_the_list_of_papers_then_by_title_then_none() -> None:
    other = [Source(Paper(name, "t", ""), "p") for name in "ab"]
    known = [Source(paper, "p") for paper in PAPERS]
    ordered = [*known, *other, None]
    mixed = [*ordered[3:], *ordered[:3]]
    assert sorted(mixed, key=place) == ordered


def test_an_outcome_without_source_comes_back_without() -> None:
    outcome = full_outcome()
    assert Outcome.from_dict(outcome.to_dict()).source is None
