"""README: its code prints what is shown, its links lead somewhere, its picture has real numbers."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

import stepfold
from stepfold import SpectralBounds, SpectralMeasure, chebyshev_steps, optimal_steps
from stepfold.cli import COMMANDS
from stepfold.lab.experiments.dugd import published_matrix
from stepfold.polynomial import mean_squared_error

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PICTURE = ROOT / "docs" / "images" / "learned-steps.svg"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def _examples() -> list[tuple[str, str]]:
    """Each block of code with the block of output that follows it."""
    return re.findall(r"```python\n(.*?)```\n+```\n(.*?)```", README, flags=re.DOTALL)


def _printed(code: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "README.md", "exec"), {})
    return out.getvalue()


def _words(text: str) -> str:
    return " ".join(NUMBER.sub("#", text).split())


def test_readme_has_an_example_of_each_of_its_two_parts() -> None:
    codes = [code for code, _ in _examples()]
    assert len(codes) == 2
    assert "solve(" in codes[0]
    assert "train_incrementally(" in codes[1]


@pytest.mark.parametrize("part", [0, 1], ids=["solve", "unfold"])
def test_an_example_prints_what_is_shown_below_it(part) -> None:
    code, shown = _examples()[part]
    printed = _printed(code)
    assert _words(printed) == _words(shown)
    # The numbers are those of every processor to within rounding, those of a training to 5 %.
    found, expected = (np.array(NUMBER.findall(text), float) for text in (printed, shown))
    np.testing.assert_allclose(found, expected, rtol=0.05)


def test_an_example_of_solving_has_four_statements_and_one_of_unfolding_six() -> None:
    counts = [
        sum(not isinstance(each, ast.Import | ast.ImportFrom) for each in ast.parse(code).body)
        for code, _ in _examples()
    ]
    assert counts[0] <= 4
    assert counts[1] <= 6


def _links() -> list[str]:
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", README) if "://" not in link]


def _anchors(page: str) -> set[str]:
    """Of a page's headings, as hosting services make them."""
    titles = re.findall(r"^#+ (.+)$", page, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_link_of_readme_leads_to_a_file_and_a_heading() -> None:
    assert _links()
    for link in _links():
        path, _, anchor = link.partition("#")
        assert (ROOT / path).exists(), link
        if anchor:
            assert anchor in _anchors((ROOT / path).read_text(encoding="utf-8")), link


def test_the_page_of_the_command_line_has_a_section_for_each_command() -> None:
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    assert re.findall(r"^## `stepfold (\w+)`$", page, re.MULTILINE) == list(COMMANDS)
    assert re.findall(r'^show\("(\w+)"\)$', page, re.MULTILINE) == list(COMMANDS)


@pytest.fixture(scope="module")
def drawn() -> dict:
    """The numbers that the picture was drawn from."""
    root = ElementTree.parse(PICTURE).getroot()
    metadata = root.find("{http://www.w3.org/2000/svg}metadata")
    assert metadata is not None
    return json.loads(metadata.text or "")


@pytest.fixture(scope="module")
def measure() -> SpectralMeasure:
    matrix = published_matrix()
    return SpectralMeasure.from_eigenvalues(np.linalg.eigvalsh(matrix.T @ matrix))


def test_the_picture_shows_chebyshev_and_optimal_steps_of_the_published_matrix(
    drawn, measure
) -> None:
    bounds = SpectralBounds(drawn["lower"], drawn["upper"])
    assert bounds.lower == pytest.approx(measure.bounds.lower)
    assert bounds.upper == pytest.approx(measure.bounds.upper)
    chebyshev = np.sort(chebyshev_steps(bounds, 11).steps)
    np.testing.assert_allclose(drawn["steps"]["chebyshev"], chebyshev, rtol=1e-9)
    optimal = np.sort(optimal_steps(measure, 11).steps)
    np.testing.assert_allclose(drawn["steps"]["optimal"], optimal, rtol=1e-6)


def test_the_errors_beside_the_picture_are_those_of_its_steps(drawn, measure) -> None:
    for name, steps in drawn["steps"].items():
        error = mean_squared_error(steps, measure)
        assert error == pytest.approx(drawn["mean_squared_error"][name], rel=1e-6)
        shown = f"{error:.1e}".replace("e-0", "e-")
        assert f"{name} {shown}" in README or f"{name} step {shown}" in README or shown in README


def test_the_learned_steps_of_the_picture_zig_zag_and_follow_chebyshev_s_when_sorted(drawn) -> None:
    learned = np.array(drawn["steps"]["learned"])
    assert (np.diff(np.sign(np.diff(learned[:5]))) != 0).all()
    distances = abs(np.log(np.sort(learned) / drawn["steps"]["chebyshev"]))
    assert distances[:-1].max() < 0.15


def test_the_picture_is_small_and_draws_its_own_page() -> None:
    text = PICTURE.read_text(encoding="utf-8")
    assert len(text) < 150_000
    assert 'class="page"' in text
    assert "prefers-color-scheme:dark" in text


def test_the_citation_has_the_version_and_the_papers() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == stepfold.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["license"] == project["license"]
    assert citation["authors"] == project["authors"]
    papers = [each["identifiers"][0]["value"] for each in citation["references"]]
    assert papers[0] == "arXiv:2001.05142"
    bibtex = (ROOT / "docs" / "reference" / "citing.md").read_text(encoding="utf-8")
    for reference, paper in zip(citation["references"], papers, strict=True):
        assert paper.removeprefix("arXiv:") in bibtex
        for author in reference["authors"]:
            assert f"{author['given-names']} {author['family-names']}" in bibtex
