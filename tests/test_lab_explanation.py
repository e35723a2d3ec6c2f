"""An explanation tells the truth about a matrix: spectrum, steps, predictions and trial."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cli_runner import assert_refused, stepfold

from stepfold import LeastSquares, Quadratic, Schedule, SpectralBounds
from stepfold.lab.explanation import explain_problem


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
    assert page.count('<svg role="img" aria-label=') == 3 + rhs
    assert "<script" not in page
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
