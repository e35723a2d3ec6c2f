"""The published experiment, run in full once: its checks, its folder, its page."""

from __future__ import annotations

import csv
import html.parser
import json
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Run, assert_refused, stepfold

from stepfold import Schedule, SpectralMeasure
from stepfold.lab.experiments import EXPERIMENTS
from stepfold.lab.experiments.dugd import dugd, published_matrix
from stepfold.lab.report import read_run
from stepfold.polynomial import mean_squared_error, spectral_radius

FIGURES = (
    "error_by_iteration",
    "learned_steps",
    "sorted_steps",
    "training",
    "residual_polynomials",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Run, Path]:
    """The run as the command line makes it, and its folder."""
    folder = tmp_path_factory.mktemp("runs") / "dugd"
    return stepfold("run", "dugd", "-o", folder), folder


@pytest.fixture(scope="module")
def folder(finished) -> Path:
    return finished[1]


@pytest.fixture(scope="module")
def outcome(folder) -> dict:
    return json.loads((folder / "outcome.json").read_text())


@pytest.fixture(scope="module")
def page(folder) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


class _Page(html.parser.HTMLParser):
    """Every tag with its attributes, and what is in the wrong place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> repeats an attribute"
        self.tags.append((tag, dict(attrs)))


def test_all_checks_pass(finished, outcome) -> None:
    run, _ = finished
    failed = [check["claim"] for check in outcome["checks"] if not check["passed"]]
    assert failed == []
    assert (run.code, run.err) == (0, "")
    assert len(outcome["checks"]) >= 33
    assert f"{len(outcome['checks'])} of {len(outcome['checks'])} checks passed" in run.out


@pytest.mark.parametrize("name", ["learned", "chebyshev", "optimal", "constant"])
def test_schedules_load_and_do_what_the_checks_say(folder, outcome, name) -> None:
    schedule = Schedule.load(folder / "schedules" / f"{name}.json")
    assert schedule.period == 25
    measure = SpectralMeasure.from_dict(json.loads((folder / "spectrum.json").read_text()))
    claims = {
        "learned": "MSE of trained DUGD",
        "chebyshev": "MSE of Chebyshev steps",
        "optimal": "MSE of optimal steps",
        "constant": "MSE of GD with step 2/(a + b)",
    }
    measured = {check["claim"]: check["measured"] for check in outcome["checks"]}
    assert mean_squared_error(schedule, measure) == pytest.approx(measured[claims[name]], rel=1e-9)


def test_the_order_of_merit_is_optimal_chebyshev_learned_constant(folder) -> None:
    values = np.linalg.svd(published_matrix(), compute_uv=False) ** 2
    errors = []
    for name in ("optimal", "chebyshev", "learned", "constant"):
        steps = Schedule.load(folder / "schedules" / f"{name}.json").steps
        errors.append((np.prod(1 - steps[:, None] * values, axis=0) ** 2).mean())
    assert errors == sorted(errors)


def test_the_training_is_recorded_stage_by_stage(folder) -> None:
    record = json.loads((folder / "training.json").read_text())
    history = {key: np.array(value) for key, value in record["history"].items()}
    assert history["losses"].shape == (25, 500)
    assert history["steps"].shape == (25, 25)
    values = np.linalg.svd(published_matrix(), compute_uv=False) ** 2
    radii = [spectral_radius(history["steps"][g, : g + 1], values) for g in range(25)]
    np.testing.assert_allclose(history["spectral_radii"], radii, rtol=1e-9)
    assert Schedule.from_dict(record["schedule"]).steps.tolist() == history["steps"][-1].tolist()


def test_the_folder_holds_what_it_should_and_nothing_else(folder) -> None:
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    expected = {"outcome.json", "report.html", "run.json", "spectrum.json", "training.json"}
    expected |= {
        f"schedules/{name}.json" for name in ("learned", "chebyshev", "optimal", "constant")
    }
    expected |= {f"figures/{name}.{kind}" for name in FIGURES for kind in ("csv", "pdf", "png")}
    assert files == expected
    assert os.listdir(folder.parent) == ["dugd"]


@pytest.mark.parametrize("name", FIGURES)
def test_pictures_are_whole_files_of_their_kind(folder, name) -> None:
    png = (folder / "figures" / f"{name}.png").read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert png.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", png[16:24])
    assert min(width, height) >= 600
    assert len(png) > 20_000
    pdf = (folder / "figures" / f"{name}.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    assert len(pdf) > 5_000


@pytest.mark.parametrize("name", FIGURES)
def test_the_data_of_a_figure_is_beside_it(folder, name) -> None:
    with (folder / "figures" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        heading, *rows = csv.reader(file)
    (figure,) = (f for f in read_run(folder).outcome.figures if f.name == name)
    assert heading == ["curve", figure.x.label, figure.y.label]
    points = [(c.label, x, y) for c in figure.curves for x, y in zip(c.x, c.y, strict=True)]
    assert [(label, float(x), float(y)) for label, x, y in rows] == points


@pytest.mark.parametrize("name", ["outcome", "training", "spectrum"])
def test_records_are_strict_json(folder, name) -> None:
    text = (folder / f"{name}.json").read_text(encoding="utf-8")
    assert re.search(r"\b(NaN|Infinity)\b", text) is None
    json.loads(text)


def test_the_page_loads_nothing_from_elsewhere(page) -> None:
    # Names of XML namespaces are addresses by look only; nothing fetches them.
    loading = re.findall(r"""(?:src|href|srcset|poster|data|action)\s*=\s*["']?([^"'\s>]*)""", page)
    assert loading
    assert [target for target in loading if not target.startswith("#")] == []
    assert [u for u in re.findall(r"url\(\s*['\"]?([^)]*)", page) if not u.startswith("#")] == []
    assert "@import" not in page
    tags = {tag for tag, _ in _Page(page).tags}
    assert tags.isdisjoint({"script", "link", "iframe", "object", "embed", "img", "base"})
    handlers = [name for _, attrs in _Page(page).tags for name in attrs if name.startswith("on")]
    assert handlers == []


def test_ids_are_unique_and_references_lead_to_them(page) -> None:
    attributes = [attrs for _, attrs in _Page(page).tags]
    ids = [attrs["id"] for attrs in attributes if "id" in attrs]
    assert len(set(ids)) == len(ids) > 0
    references = re.findall(r'(?:href="#|url\(#)([^")]*)', page)
    assert set(references) <= set(ids)


def test_every_figure_says_what_it_shows(page) -> None:
    pictures = [attrs for tag, attrs in _Page(page).tags if tag == "svg"]
    figures = [tag for tag, _ in _Page(page).tags if tag == "figure"]
    assert len(pictures) == len(FIGURES) == len(figures)
    labels = [attrs["aria-label"] for attrs in pictures]
    assert all(len(label) > 40 for label in labels)
    assert len(set(labels)) == len(labels)
    assert all(attrs["role"] == "img" for attrs in pictures)


def test_the_page_is_a_document_in_a_language_with_title_and_checks(page, outcome) -> None:
    assert page.startswith("<!doctype html>\n<html lang=")
    assert page.count("<h1>") == page.count("<title>") == 1
    assert page.count('<td class="pass">pass</td>') == len(outcome["checks"])
    assert '<td class="fail">' not in page


def test_a_second_run_keeps_the_first(finished, folder) -> None:
    before = (folder / "report.html").read_bytes()
    again = stepfold("run", "dugd", "-o", folder)
    assert again.code == 0
    assert "--force computes it anew" in again.out
    assert again.out.split(" checks passed")[0] == finished[0].out.split(" checks passed")[0]
    assert (folder / "report.html").read_bytes() == before


def test_other_parameters_are_refused_and_keep_the_first(folder) -> None:
    before = (folder / "report.html").read_bytes()
    run = stepfold("run", "dugd", "-o", folder, "--set", "num-iterations=8", "--set", "seed=1")
    assert_refused(run, "other values of num_iterations, seed", "--force")
    assert (folder / "report.html").read_bytes() == before


def test_the_experiment_is_found_and_described() -> None:
    assert EXPERIMENTS["dugd"].function is dugd
    assert EXPERIMENTS["dugd"].description.startswith("Deep-unfolded gradient descent against")


def test_the_published_matrix_is_the_published_draw() -> None:
    generator = np.random.RandomState(12)
    expected = generator.normal(0, 1 / np.sqrt(300), (300, 600))
    np.testing.assert_array_equal(published_matrix(), expected.T)


def test_a_small_experiment_is_reproducible_and_claims_nothing_about_the_training() -> None:
    first, again = (dugd(period=3, num_iterations=5, batch_size=10) for _ in range(2))
    assert (
        first.records["training"]["history"]["losses"]
        == (again.records["training"]["history"]["losses"])
    )
    assert first.passed
    claims = [check.claim for check in first.checks]
    assert "MSE of optimal steps at T = 2" in claims
    assert not any("DUGD" in claim or "learned" in claim for claim in claims)
