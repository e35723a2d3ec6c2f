"""What records print, show in a notebook and draw."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from stepfold import (
    LeastSquares,
    Logistic,
    Quadratic,
    Schedule,
    SpectralBounds,
    SpectralMeasure,
    accelerate,
    chebyshev_steps,
    estimate_bounds,
    plan,
    solve,
)
from stepfold._show import MOST_POINTS, drawing
from stepfold.problems import Composite, FixedPoint, Preconditioned
from stepfold.problems.penalties import L1, Box
from stepfold.result import History, TrainingHistory, TrainingRun

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")

RNG = np.random.default_rng(0)
A = RNG.standard_normal((60, 20))
B = A @ np.ones(20)
HOSTILE = '"><script>alert(1)</script>&<b>'
TRAINED = TrainingRun(
    Schedule([0.5, 0.25], "learned"),
    TrainingHistory([[0.4, 0.2], [0.5, 0.25]], [[0.9, np.nan], [0.7, 0.6]], [0.1, 0.25]),
    num_iterations=2,
    seed=0,
)


def records() -> dict[str, Any]:
    problem = LeastSquares(A, B)
    batch = LeastSquares(A, np.stack([B, 2 * B, 0 * B]))
    bounds = estimate_bounds(problem)
    return {
        "bounds": bounds,
        "bounds without a lower end": SpectralBounds(0.0, 2.0, failure_probability=1e-5),
        "schedule": chebyshev_steps(bounds, 8),
        "long schedule": Schedule(np.geomspace(1, 2, 100_000), HOSTILE),
        "measure": SpectralMeasure.marchenko_pastur(0.5),
        "measure of one point": SpectralMeasure([0.0], [1.0], HOSTILE),
        "measure of huge eigenvalues": SpectralMeasure([1e-300, 1e308], [1.0, 1.0]),
        "plan": plan(problem),
        "plan without a promise": plan(SpectralBounds(0.0, 2.0)),
        "result": solve(problem),
        "result of a batch": solve(batch),
        "result that is complex": solve(LeastSquares(A * (1 + 1j), B * 1j)),
        "result without a step": solve(problem, max_steps=0),
        "result of a map": accelerate(lambda x: 0.5 * x + 1.0, np.zeros(3)),
        "training": TRAINED,
    }


RECORDS = records()


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_prints_in_one_to_five_lines_that_people_read(name: str) -> None:
    lines = str(RECORDS[name]).splitlines()
    assert 1 <= len(lines) <= 5
    assert all(line.strip() for line in lines)
    assert not any("array(" in line or "<Certainty" in line or "nan" in line for line in lines)


class Tags(HTMLParser):
    """Counts tags, and fails where one is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self.seen.add(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", [name for name in RECORDS if "bounds" not in name])
def test_a_notebook_shows_a_drawing_and_the_same_text_and_no_text_is_markup(name: str) -> None:
    record = RECORDS[name]
    page = record._repr_html_()
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert {"svg", "pre"} <= tags.seen
    assert not tags.seen & {"script", "b"}
    assert "nan" not in page
    assert len(page) < 30_000


@pytest.mark.parametrize("name", [n for n in RECORDS if "bounds" not in n and "plan" not in n])
def test_plot_draws_into_the_axes_that_are_given_and_names_its_axes(name: str) -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    drawn = RECORDS[name].plot(axes)
    assert drawn is axes
    assert axes.get_xlabel()
    assert axes.get_ylabel()
    assert axes.lines or axes.patches


def test_plot_makes_axes_of_its_own() -> None:
    from matplotlib import pyplot

    axes = Schedule([0.5, 0.25]).plot()
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0.5, 0.25], [0.5, 0.25]]
    pyplot.close(axes.figure)


def test_plot_without_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ModuleNotFoundError, match=r"`plot` needs matplotlib.*'\.\[lab\]'"):
        Schedule([0.5]).plot()


def test_what_prints_a_problem_makes_no_product() -> None:
    problem = LeastSquares(A, B, ridge=0.5)
    expected = (
        "LeastSquares(operator=ndarray (60 × 20) float64, rhs=ndarray (60) float64, ridge=0.5)"
    )
    assert repr(problem) == expected
    assert problem.curvature_bound > 0  # computed once, and kept: still no part of the call
    assert repr(problem) == str(problem) == expected
    assert repr(Composite(problem, L1(2.0))) == f"Composite({expected}, L1(weight=2.0))"
    assert repr(Preconditioned(problem, np.ones(20))).startswith("Preconditioned(problem=Least")
    assert repr(Quadratic(np.eye(2), np.ones(2))).startswith("Quadratic(hessian=ndarray (2 × 2)")
    assert "labels=ndarray (60)" in repr(Logistic(A, np.sign(B)))
    assert repr(FixedPoint(np.cos)) in ("FixedPoint(map=cos)", "FixedPoint(map=<ufunc 'cos'>)")
    assert repr(Box(0, 1)) == "Box(lower=0.0, upper=1.0)"


def test_a_history_prints_a_line() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert str(History(none, none, none, none)) == "nothing was looked at"
    history = solve(LeastSquares(A, np.stack([B, 2 * B]))).history
    assert history.largest_norms.tolist() == history.gradient_norms.max(axis=1).tolist()
    assert str(history).count("\n") == 0


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("bars", [False, True])
def test_a_drawing_takes_any_numbers(log: bool, bars: bool) -> None:
    for values in ([], [np.nan], [0.0], [-1.0, np.inf, 2.0], [1e-320, 1e308], [3.0] * 5):
        svg = drawing("a drawing", values, log=log, bars=bars)
        assert "nan" not in svg
        assert "inf" not in svg.replace("stroke", "")


def test_a_long_drawing_keeps_the_extremes_of_every_piece() -> None:
    values = np.zeros(50_000)
    values[12_345] = 1.0
    svg = drawing("a peak", values)
    points = svg.split('points="')[1].split('"')[0].split()
    assert len(points) <= MOST_POINTS
    heights = [float(point.split(",")[1]) for point in points]
    assert min(heights) < max(heights)
