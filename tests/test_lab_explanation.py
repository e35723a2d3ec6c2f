"""An explanation tells the truth about a matrix: spectrum, steps, predictions and trial."""

from __future__ import annotations

import itertools
import json
import re
import shlex

import numpy as np
import pytest
from cli_runner import assert_refused, stepfold

from stepfold import LeastSquares, Quadratic, Schedule, SpectralBounds, SpectralMeasure, solve
from stepfold.lab.explanation import explain_problem
from stepfold.lab.explanation.density import density_figure


def _symmetric(eigenvalues) -> np.ndarray:
    values = np.asarray(eigenvalues, dtype=float)
    q = np.linalg.qr(np.random.default_rng(1).standard_normal((values.size, values.size)))[0]
    matrix = q @ np.diag(values) @ q.T
    return (matrix + matrix.T) / 2


SPECTRUM = np.linspace(1.0, 50.0, 30)
RHS = np.random.default_rng(2).standard_normal(30)


def _explain(problem, **options):
    return explain_problem(problem, name="A", why="a test", **options)


def _table(outcome, heading: str) -> dict[str, tuple[str, ...]]:
    (section,) = [section for section in outcome.sections if section.heading == heading]
    return {row[0]: row[1:] for row in section.table.rows}


@pytest.fixture(scope="module")
def outcome():
    return _explain(Quadratic(_symmetric(SPECTRUM), RHS), rtol=1e-8)


def test_the_spectrum_is_that_of_numpy(outcome) -> None:
    rows = _table(outcome, "The spectrum")
    assert rows["unknowns"] == ("30",)
    assert float(rows["lower bound a"][0].split()[0]) == pytest.approx(1.0, rel=1e-9)
    assert float(rows["upper bound b"][0].split()[0]) == pytest.approx(50.0, rel=1e-9)
    assert "(guaranteed)" in rows["upper bound b"][0]


def test_the_trial_takes_no_more_steps_than_predicted(outcome) -> None:
    predicted = int(_table(outcome, "What to expect")["Chebyshev (recommended)"][3])
    taken, _, gradient, status = _table(outcome, "On the given right-hand side")[
        "Chebyshev (recommended)"
    ]
    assert int(taken) <= predicted
    assert float(gradient) <= 1e-8
    assert status == "CONVERGED"


def test_conjugate_gradients_are_tried_beside(outcome) -> None:
    rows = _table(outcome, "On the given right-hand side")
    steps, products, gradient, status = rows["conjugate gradients"]
    assert int(steps) <= 31
    assert int(steps) <= int(products) < int(rows["Chebyshev (recommended)"][1])
    assert float(gradient) <= 1e-8
    assert status == "CONVERGED"


def test_the_summary_names_the_products_of_conjugate_gradients(outcome) -> None:
    products = _table(outcome, "On the given right-hand side")["conjugate gradients"][1]
    assert f"conjugate gradients took {products} products" in outcome.summary
    assert "take conjugate gradients for one right-hand side" in outcome.summary
    alone = _explain(LeastSquares(_symmetric(SPECTRUM), RHS), try_rhs=False)
    (lsmr,) = [each for each in alone.records["plan"]["alternatives"] if each["name"] == "LSMR"]
    assert f"{lsmr['num_products']:.0f} products of LSMR" in alone.summary


@pytest.mark.parametrize("kind", [Quadratic, LeastSquares])
def test_what_the_solutions_are_worth_is_computed_from_them(kind) -> None:
    matrix = _symmetric(SPECTRUM)
    problem = kind(matrix, RHS)
    outcome = _explain(problem, rtol=1e-6)
    found = outcome.records["trust"]["conjugate gradients"]
    assert found["status"] == "CONVERGED"
    x = solve(problem, rtol=1e-6).x
    hessian, term = (matrix, RHS) if kind is Quadratic else (matrix.T @ matrix, matrix.T @ RHS)
    gradient = np.linalg.norm(hessian @ x - term)
    share = gradient / np.linalg.norm(term)
    assert found["relative_gradient"] == pytest.approx(share, rel=1e-6)
    solution = np.linalg.solve(hessian, term)
    error = np.linalg.norm(x - solution) / np.linalg.norm(solution)
    most = gradient / np.linalg.eigvalsh(hessian)[0]
    assert error <= found["relative_error_bound"] <= 1.001 * most / (np.linalg.norm(x) - most)
    residual = np.linalg.norm(RHS - matrix @ x) / np.linalg.norm(RHS)
    expected = None if kind is Quadratic else pytest.approx(residual, rel=1e-6)
    assert found["relative_residual"] == expected
    rows = _table(outcome, "What the solutions are worth")
    assert float(rows["conjugate gradients"][0]) == pytest.approx(share, rel=0.01)


def test_without_a_lower_bound_there_is_no_error_bound() -> None:
    outcome = _explain(Quadratic(np.diag([0.0, 1.0, 2.0]), np.ones(3)), rtol=1e-4)
    section = next(s for s in outcome.sections if s.heading == "What the solutions are worth")
    assert "no error bound" in " ".join(map(str, section.paragraphs))
    assert {row[-1] for row in section.table.rows} == {"none"}


@pytest.mark.parametrize("lower", [2.0, 20.0])
def test_a_lower_bound_that_was_seen_to_be_wrong_gives_no_error_bound(lower) -> None:
    problem = Quadratic(_symmetric(SPECTRUM), RHS)  # eigenvalues from 1
    outcome = _explain(problem, bounds=SpectralBounds(lower, 50.0), rtol=1e-4)
    section = next(s for s in outcome.sections if s.heading == "What the solutions are worth")
    assert f"the lower bound {lower:g} is wrong" in " ".join(map(str, section.paragraphs))
    assert {row[-1] for row in section.table.rows} == {"none"}
    kept = _explain(problem, bounds=SpectralBounds(0.9, 50.0), rtol=1e-4)
    assert kept.records["trust"]["conjugate gradients"]["relative_error_bound"] > 0


@pytest.mark.parametrize("span", [1.5, 1e3, 1e12])
def test_the_bars_of_a_spectrum_are_the_shares_of_its_eigenvalues(span) -> None:
    values = np.geomspace(1.0, span, 50)
    figure = density_figure(SpectralMeasure.from_eigenvalues(values), None)
    (curve,) = figure.curves
    edges, heights = curve.x[::2], curve.y[1:-1:2]
    inside = [
        np.mean((values >= low) & (values < high)) for low, high in itertools.pairwise(edges[:-1])
    ]
    # An eigenvalue at an edge may be rounded to either side.
    np.testing.assert_allclose(heights[:-1], inside, atol=1.01 / values.size)
    assert heights.sum() == pytest.approx(1.0)
    assert figure.x.log == (span > 30)


def test_a_curve_that_diverges_leaves_its_figure_and_the_legend_says_so() -> None:
    # One eigenvalue far above all others that the gradient does not see: the optimal steps,
    # which are made for the gradient, are too long for it.
    values = np.array([1.0, 1.1, 1.2, 1.3, 1.4, 1e6])
    rhs = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    outcome = _explain(Quadratic(np.diag(values), rhs), rtol=1e-6)
    (figure,) = [f for f in outcome.figures if f.name == "residual_polynomials"]
    largest = max(curve.y.max() for curve in figure.curves)
    assert largest > 1e3
    assert figure.y.ceiling <= 1e3
    leaving = [label for label in figure.labels if "leaves the figure, up to" in label]
    assert [label.split(",")[0] for label in leaving] == ["optimal"]


def test_the_picture_is_shown_before_and_after() -> None:
    rng = np.random.default_rng(0)
    picture = rng.uniform(size=(4, 6))
    blur = np.eye(24) + 0.5 * np.eye(24, k=1)
    outcome = _explain(LeastSquares(blur, blur @ picture.ravel()), shape=(4, 6))
    pictures = outcome.figures[0]
    assert [image.pixels.shape for image in pictures.images] == [(4, 6)] * 3
    assert pictures.images[0].label == "right-hand side"
    after = pictures.images[-1].pixels.astype(float)
    assert np.corrcoef(after.ravel(), picture.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("shape", [(5, 5), (0, 24), (24, 2)])
def test_a_picture_of_another_size_is_refused(shape) -> None:
    with pytest.raises(ValueError, match=r"`shape` must be .* 24 pixels, the unknowns, got"):
        _explain(LeastSquares(np.eye(24), np.ones(24)), shape=shape)


@pytest.mark.parametrize("words", [("--picture", "4x6"), ("--rhs", "b", "--picture", "4,6")])
def test_a_picture_that_cannot_be_shown_is_refused(tmp_path, words) -> None:
    np.save(tmp_path / "A.npy", np.eye(24))
    assert_refused(stepfold("explain", tmp_path / "A.npy", *words), "--picture")


def test_the_report_says_with_which_command_it_is_made_again(tmp_path) -> None:
    np.save(tmp_path / "A b.npy", _symmetric(SPECTRUM))
    words = ("explain", tmp_path / "A b.npy", "--rtol", "1e-3", "-o", tmp_path / "run")
    assert stepfold(*words).code == 0
    record = json.loads((tmp_path / "run" / "outcome.json").read_text())
    again = shlex.split(record["environment"]["command"])
    assert again == ["stepfold", *map(str, words), "--force"]
    assert stepfold(*again[1:]).code == 0


def test_records_are_strict_json_and_schedules_load(outcome) -> None:
    records = json.loads(json.dumps(outcome.records, allow_nan=False))
    names = {name for name in records if name.startswith("schedules/")}
    assert names == {"schedules/chebyshev", "schedules/optimal", "schedules/constant"}
    assert all(Schedule.from_dict(records[name]).period for name in names)


@pytest.mark.parametrize("scale", [1e-200, 1e-100, 1e100, 1e200])
def test_the_trial_does_not_depend_on_the_scale_of_the_right_hand_side(outcome, scale) -> None:
    scaled = _explain(Quadratic(_symmetric(SPECTRUM), scale * RHS), rtol=1e-8)
    heading = "On the given right-hand side"
    for label, row in _table(outcome, heading).items():
        taken = _table(scaled, heading)[label]
        assert int(taken[0]) == pytest.approx(int(row[0]), abs=2)
        assert taken[3] == row[3]


@pytest.mark.parametrize("scale", [1e-70, 1e70])
def test_least_squares_of_any_scale_are_tried(scale) -> None:
    matrix = np.random.default_rng(3).standard_normal((20, 8))
    outcome = _explain(LeastSquares(scale * matrix, np.ones(20)))
    rows = _table(outcome, "On the given right-hand side")
    assert rows["Chebyshev (recommended)"][3] == "CONVERGED"
    assert float(rows["conjugate gradients"][2]) <= 1e-6


@pytest.mark.parametrize(
    "problem",
    [
        Quadratic(np.array([[4.0]]), np.array([8.0])),
        Quadratic(np.eye(5), np.ones(5)),
        Quadratic(np.diag([1.0, 1.0, 1.0, 2.0, 2.0]), np.ones(5)),
        Quadratic(np.diag([0.0, 1.0, 2.0]), np.ones(3)),
        Quadratic(_symmetric([1.0] * 5 + [3.0] * 5), np.arange(10.0)),
        LeastSquares(_symmetric([-1.0, 1.0, 2.0, -2.0, 5.0]), np.ones(5)),
        LeastSquares(np.ones((6, 1)), np.arange(6.0)),
        LeastSquares(np.ones((1, 6)), np.ones(1)),
        LeastSquares(np.ones((4, 6)), np.ones(4)),
        LeastSquares(np.zeros((4, 3)), np.ones(4), ridge=0.5),
        LeastSquares(np.eye(3), np.ones((4, 3))),
        LeastSquares(np.diag([1.0, 2.0]).astype(np.float32), np.ones(2, np.float32)),
    ],
    ids=[
        "1 by 1",
        "identity",
        "two eigenvalues",
        "singular",
        "two eigenvalues up to rounding",
        "pairs of opposite signs",
        "one column",
        "one row",
        "rank 1",
        "ridge alone",
        "batch",
        "float32",
    ],
)
@pytest.mark.parametrize("try_rhs", [True, False])
def test_every_problem_is_explained(problem, try_rhs) -> None:
    try_rhs = try_rhs and bool(problem.linear_term.any())
    outcome = _explain(problem, rtol=1e-4, try_rhs=try_rhs)
    assert json.dumps(outcome.records, allow_nan=False)
    assert len(outcome.figures) == 3 + try_rhs


@pytest.mark.parametrize("ends", [(100.0, 200.0), (0.01, 0.02), (10.0, 20.0), (0.0, 50.0)])
@pytest.mark.parametrize("try_rhs", [True, False])
def test_bounds_beside_the_spectrum_are_explained(ends, try_rhs) -> None:
    problem = Quadratic(_symmetric(SPECTRUM), RHS)
    outcome = _explain(problem, bounds=SpectralBounds(*ends), try_rhs=try_rhs)
    assert json.dumps(outcome.records, allow_nan=False)


def test_a_right_hand_side_with_nothing_to_try_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x = 0 is the solution.*leave the right-hand side out"):
        _explain(LeastSquares(np.eye(3), np.zeros(3)))


@pytest.mark.parametrize("rhs", [True, False])
def test_the_command_writes_a_report_that_needs_nothing_else(tmp_path, rhs) -> None:
    np.save(tmp_path / "A.npy", _symmetric(SPECTRUM))
    np.save(tmp_path / "b.npy", RHS)
    options = ("--rhs", tmp_path / "b.npy") if rhs else ()
    folder = tmp_path / "run <&>"
    run = stepfold("explain", tmp_path / "A.npy", *options, "-o", folder)
    assert (run.code, run.err) == (0, "")
    assert run.out.endswith(f"report: {folder / 'report.html'}\n")
    page = (folder / "report.html").read_text()
    for kind in ("wide", "narrow"):
        assert page.count(f'<svg class="{kind}" role="img" aria-label=') == 3 + rhs
    assert not re.search(r"(src|href)=[\"'](?!data:|#)", page)
    assert Schedule.load(folder / "schedules" / "chebyshev.json").period > 1
    again = stepfold("explain", tmp_path / "A.npy", "-o", folder)
    assert_refused(again, "already holds a run")


@pytest.mark.parametrize(
    "options", [(), ("--kind", "least-squares"), ("--lower", 0, "--upper", 60)]
)
def test_the_command_prints_strict_json(tmp_path, options) -> None:
    np.save(tmp_path / "A.npy", _symmetric(SPECTRUM))
    np.save(tmp_path / "b.npy", RHS)
    run = stepfold("explain", tmp_path / "A.npy", "--rhs", tmp_path / "b.npy", *options, "--json")
    record = run.json()
    assert record["report"] is None
    assert record["plan"]["schedule"] in [
        value for name, value in record.items() if name.startswith("schedules/")
    ]


@pytest.mark.parametrize("rtol", [0, 1, 2, -1, "nan"])
def test_tolerances_outside_0_and_1_are_refused(tmp_path, rtol) -> None:
    np.save(tmp_path / "A.npy", _symmetric(SPECTRUM))
    assert_refused(stepfold("explain", tmp_path / "A.npy", "--rtol", rtol), "--rtol must lie")


def test_a_matrix_named_like_markup_is_explained_as_text(tmp_path) -> None:
    name = tmp_path / "<b>&'\".npy"
    np.save(name, np.diag([1.0, 2.0]))
    assert stepfold("explain", name, "-o", tmp_path / "run").code == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;&#x27;&quot;.npy" in page


def test_a_folder_that_is_no_run_is_kept_even_by_force(tmp_path) -> None:
    np.save(tmp_path / "A.npy", np.eye(2))
    run = stepfold("explain", tmp_path / "A.npy", "-o", tmp_path, "--force")
    assert_refused(run, "is not a run of stepfold")
    assert (tmp_path / "A.npy").exists()
