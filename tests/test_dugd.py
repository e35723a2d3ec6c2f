"""The published experiment, run in full once: its checks, its folder, its page."""

from __future__ import annotations

import csv
import html.parser
import json
import math
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Run, assert_refused, stepfold

from stepfold import Schedule, SpectralMeasure
from stepfold.lab.experiments import EXPERIMENTS
from stepfold.lab.experiments._ensembles import spectra
from stepfold.lab.experiments.dugd import dugd, published_matrix
from stepfold.lab.report import read_run
from stepfold.polynomial import mean_squared_error, spectral_radius

FIGURES = (
    "error_by_iteration",
    "learned_steps",
    "order_by_start",
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
    assert len(outcome["checks"]) >= 28
    assert {check["source"] for check in outcome["checks"]} <= {
        "the paper",
        "theory",
        "an earlier run",
    }
    assert f"{len(outcome['checks'])} of {len(outcome['checks'])} checks passed" in run.out


@pytest.mark.parametrize(
    ("name", "claim"),
    [
        ("chebyshev", "MSE of Chebyshev steps, published matrix"),
        ("optimal", "MSE of optimal steps, published matrix"),
        ("constant", "MSE of GD with step 2/(a + b), published matrix"),
    ],
)
def test_schedules_load_and_do_what_the_checks_say(folder, outcome, name, claim) -> None:
    schedule = Schedule.load(folder / "schedules" / f"{name}.json")
    assert schedule.period == 25
    measure = SpectralMeasure.from_dict(json.loads((folder / "spectrum.json").read_text()))
    measured = {check["claim"]: check["measured"] for check in outcome["checks"]}
    assert mean_squared_error(schedule, measure) == pytest.approx(measured[claim], rel=1e-9)


def test_every_training_is_kept_with_its_end(folder) -> None:
    rows = json.loads((folder / "trainings.json").read_text())
    assert [(row["matrix"], row["seed"]) for row in rows] == [
        (matrix, seed) for matrix in range(3) for seed in range(8)
    ]
    for row in rows:
        values = np.linalg.svd(published_matrix(12 + row["matrix"]), compute_uv=False) ** 2
        squares = np.prod(1 - np.array(row["steps"])[:, None] * values, axis=0) ** 2
        assert squares.mean() == pytest.approx(row["mean_squared_error"], rel=1e-6)
        assert np.sqrt(squares.max()) == pytest.approx(row["spectral_radius"], rel=1e-6)
    first = Schedule.load(folder / "schedules" / "learned.json").steps
    assert rows[0]["steps"] == first.tolist()


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
    expected |= {"trainings.json"}
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
    assert heading[:3] == ["curve", figure.x.label, figure.y.label]
    points = [(c.label, x, y) for c in figure.curves for x, y in zip(c.x, c.y, strict=True)]
    points += [(level.label, "", level.value) for level in figure.levels]
    assert [(row[0], row[1] and float(row[1]), float(row[2])) for row in rows] == points


@pytest.mark.parametrize("name", ["outcome", "training", "trainings", "spectrum"])
def test_records_are_strict_json(folder, name) -> None:
    text = (folder / f"{name}.json").read_text(encoding="utf-8")
    assert re.search(r"\b(NaN|Infinity)\b", text) is None
    json.loads(text)


def test_the_page_loads_nothing_from_elsewhere(page) -> None:
    # Links are followed by readers only; names of XML namespaces are addresses by look.
    names = {"src", "href", "xlink:href", "srcset", "poster", "data", "action"}
    loading = [
        value
        for tag, attrs in _Page(page).tags
        for name, value in attrs.items()
        if name in names and not (tag == "a" and name == "href")
    ]
    assert loading
    assert [target for target in loading if not target.startswith("#")] == []
    assert [u for u in re.findall(r"url\(\s*['\"]?([^)]*)", page) if not u.startswith("#")] == []
    assert "@import" not in page
    # A script may stand in the page, for the copy button; its policy names it by its hash.
    tags = {tag for tag, _ in _Page(page).tags}
    assert tags.isdisjoint({"link", "iframe", "object", "embed", "img", "base"})
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
    # Each is drawn twice: for a wide page and for a narrow one.
    wide, narrow = (
        [attrs["aria-label"] for attrs in pictures if attrs["class"] == width]
        for width in ("wide", "narrow")
    )
    assert len(pictures) == 2 * len(FIGURES) == 2 * len(figures)
    assert wide == narrow
    labels = wide
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


SMALL = {"period": 3, "num_iterations": 5, "batch_size": 10, "num_matrices": 2, "num_seeds": 2}


def test_a_small_experiment_is_reproducible_and_claims_nothing_about_the_training() -> None:
    first, again = (dugd(**SMALL) for _ in range(2))
    assert first.records["trainings"] == again.records["trainings"]
    assert len(first.records["trainings"]) == 4
    assert first.passed
    claims = [check.claim for check in first.checks]
    assert "largest eigenvalue" in claims
    assert not any("turn" in claim or "pairs" in claim for claim in claims)


@pytest.mark.parametrize("ensemble", ["gaussian", "uniform", "log-uniform", "autoregressive"])
def test_every_ensemble_is_trained_on_spectra_of_its_own(ensemble) -> None:
    settings = {**SMALL, "num_unknowns": 20, "num_rows": 50, "initial_step": 0.05}
    outcome = dugd(**settings, ensemble=ensemble)
    nodes = np.array(outcome.records["spectrum"]["nodes"])
    assert nodes.size == 20
    assert outcome.passed
    other = dugd(**settings, ensemble=ensemble, matrix_seed=13)
    assert not np.allclose(nodes, other.records["spectrum"]["nodes"])


def test_correlated_rows_have_the_covariance_they_should() -> None:
    (measure,) = spectra(
        "autoregressive", num_unknowns=8, num_rows=100_000, num_matrices=1, matrix_seed=0
    )
    covariance = 0.7 ** np.abs(np.subtract.outer(np.arange(8), np.arange(8)))
    expected = np.linalg.eigvalsh(covariance) * 100_000 / 8
    np.testing.assert_allclose(measure.nodes, expected, rtol=0.03)


def test_a_file_is_trained_on_and_looked_at_again_every_time(tmp_path) -> None:
    matrix = np.random.default_rng(0).standard_normal((40, 12)) / np.sqrt(40)
    np.save(tmp_path / "H.npy", matrix)
    words = ["run", "dugd", "-o", tmp_path / "run", "--set", "ensemble=file"]
    words += ["--set", f"matrix={tmp_path / 'H.npy'}"]
    for name, value in SMALL.items():
        words += ["--set", f"{name}={value}"]
    assert stepfold(*words).code == 0
    record = json.loads((tmp_path / "run" / "spectrum.json").read_text())
    expected = np.linalg.svd(matrix, compute_uv=False)[::-1] ** 2
    np.testing.assert_allclose(record["nodes"], expected, rtol=1e-9)
    np.save(tmp_path / "H.npy", 1.1 * matrix)
    assert "--force computes it anew" not in stepfold(*words).out
    record = json.loads((tmp_path / "run" / "spectrum.json").read_text())
    np.testing.assert_allclose(record["nodes"], 1.21 * expected, rtol=1e-9)


@pytest.mark.parametrize(("period", "learning_rate"), [(3, 10.0), (40, 1000.0)])
def test_a_training_that_diverges_is_counted_and_shown(period, learning_rate) -> None:
    settings = {**SMALL, "period": period, "num_iterations": 30, "learning_rate": learning_rate}
    outcome = dugd(**settings)
    rows = outcome.records["trainings"]
    lost = [row for row in rows if not (row["mean_squared_error"] or math.inf) < 1]
    assert len(rows) == 4
    assert lost
    assert f"{len(lost)} of the trainings diverged" in outcome.summary
    (check,) = (check for check in outcome.checks if "diverged" in check.claim)
    assert (check.measured, check.passed) == (len(lost), False)
    json.dumps(outcome.to_dict(), allow_nan=False)


FILES = {
    "H.npy": lambda: np.eye(3)[:, :2],
    "large.npy": lambda: np.zeros((2000, 2000), dtype=np.float32),
    "wide.npy": lambda: np.ones((3, 5)),
    "nan.npy": lambda: np.full((3, 2), np.nan),
    "pickle.npy": lambda: np.array([{}], dtype=object),
}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ensemble": "wishart"}, "`ensemble` must be one of gaussian, uniform"),
        ({"num_seeds": 0}, "`num_seeds` must be an integer between 1 and 64, got '0'"),
        ({"num_seeds": 65}, "`num_seeds` must be an integer between 1 and 64"),
        ({"learning_rate": 0}, "`learning_rate` must be a number between"),
        ({"learning_rate": "nan"}, "`learning_rate` must be a number between"),
        ({"num_rows": 300}, "`num_rows` must be more than `num_unknowns`, got 300 and 300"),
        ({"matrix": "absent.npy"}, "must be the name of a file that exists"),
        ({"matrix": "H.npy"}, "must be given together"),
        ({"ensemble": "file"}, "must be given together"),
        ({"num_unknowns": 2, "num_rows": 3}, "must not exceed the number of distinct eigenvalues"),
        ({"initial_step": 1000}, "`initial_step` must suit the largest eigenvalue"),
        ({"num_iterations": 100_000, "num_seeds": 64}, "`num_iterations` must be at most"),
        ({"ensemble": "file", "matrix": "large.npy"}, "is too large to diagonalise"),
        ({"ensemble": "file", "matrix": "wide.npy"}, "must have independent columns"),
        ({"ensemble": "file", "matrix": "nan.npy"}, "must be finite"),
        ({"ensemble": "file", "matrix": "text.npy"}, "magic string"),
        ({"ensemble": "file", "matrix": "pickle.npy"}, "Object arrays cannot be loaded"),
    ],
)
def test_what_cannot_be_run_is_refused_before_the_training(
    settings, message, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = settings.get("matrix", "")
    if name in FILES:
        np.save(name, FILES[name]())
    Path("text.npy").write_text("no array")
    words = [word for item in settings.items() for word in ("--set", "{}={}".format(*item))]
    assert_refused(stepfold("run", "dugd", "-o", "out", *words), message)
    assert not Path("out").exists()
