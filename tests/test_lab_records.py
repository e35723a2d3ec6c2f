"""Records of the lab come back from JSON as they were, and damaged ones are refused in words."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from test_lab_figure import HOSTILE

from stepfold import Schedule
from stepfold.lab import (
    Axis,
    Check,
    Curve,
    Figure,
    Formula,
    Image,
    Level,
    Outcome,
    Pictures,
    Section,
    Table,
)
from stepfold.lab.environment import Environment
from stepfold.lab.report import read_run, write_run


def full_outcome(text: str = HOSTILE) -> Outcome:
    """An outcome that uses every field of every record, with ``text`` wherever text may be."""
    curves = (
        Curve(text, np.array([1.0, 2.0, 4.0]), np.array([1.0, np.nan, 1e-300]), "both", True),
        Curve("second", np.array([0.5]), np.array([0.1 + 0.2]), "points"),
        Curve(
            "third", [1.0, 2.0], [3.0, 4.0], band=(np.array([2.0, np.nan]), np.array([4.0, 5.0]))
        ),
    )
    figure = Figure(
        "curves",
        text,
        text,
        curves,
        Axis(text, log=True),
        Axis(text, log=True, floor=1e-3),
        (Level(text, 0.7),),
    )
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    pictures = Pictures("pictures", text, text, (Image(text, pixels), Image("b", pixels.T)))
    return Outcome(
        name="everything",
        title=text,
        summary=text,
        sections=(
            Section(text, (text, Formula(r"\gamma_t \le \frac{2}{b}"), text), figure),
            Section("second", (), pictures, Table((text, "b"), ((text, "2"), ("3", text)))),
        ),
        checks=(
            Check(text, text, np.nan, lower=0.0),
            Check("c", "e", 0.1, upper=np.float64(1.0)),
            Check("d", "f", 0.3, 0.1, 0.5, source=text),
        ),
        parameters={text: text, "seed": 3, "flag": True, "list": [1, 2]},
        records={"data": {text: [1.5, None]}, "deeper/data": [text]},
    )


def _through_json(record: object) -> object:
    return json.loads(json.dumps(record, allow_nan=False))


def test_an_outcome_comes_back_from_json_as_it_was() -> None:
    outcome = full_outcome()
    again = Outcome.from_dict(_through_json(outcome.to_dict()))
    assert again.to_dict() == outcome.to_dict()
    assert (again.name, again.title, again.parameters) == (
        outcome.name,
        outcome.title,
        outcome.parameters,
    )
    assert again.records == outcome.records
    assert [section.paragraphs for section in again.sections] == [
        section.paragraphs for section in outcome.sections
    ]
    assert again.sections[1].table == outcome.sections[1].table


def test_arrays_and_schedules_to_keep_become_json_values() -> None:
    schedule = Schedule([0.5, 1.0])
    kept = {"schedule": schedule, "rows": {"a": np.array([1.5, np.nan])}, "count": np.int64(3)}
    records = Outcome("t", "s", (), records=kept).records
    assert _through_json(records) == records
    assert Schedule.from_dict(records["schedule"]) == schedule
    assert records["rows"] == {"a": [1.5, None]}
    assert records["count"] == 3


def test_numbers_of_curves_come_back_bit_for_bit_and_gaps_as_gaps() -> None:
    figure = full_outcome().figures[0]
    again = Figure.from_dict(_through_json(figure.to_dict()))
    for curve, expected in zip(again.curves, figure.curves, strict=True):
        np.testing.assert_array_equal(curve.x, expected.x)
        np.testing.assert_array_equal(curve.y, expected.y)
        assert (curve.style, curve.emphasis) == (expected.style, expected.emphasis)
    assert (again.x, again.y, again.levels) == (figure.x, figure.y, figure.levels)


def test_pixels_come_back_as_they_were() -> None:
    pictures = full_outcome().figures[1]
    again = Pictures.from_dict(_through_json(pictures.to_dict()))
    for image, expected in zip(again.images, pictures.images, strict=True):
        np.testing.assert_array_equal(image.pixels, expected.pixels)


def test_limits_without_end_and_undefined_numbers_come_back() -> None:
    checks = Outcome.from_dict(_through_json(full_outcome().to_dict())).checks
    assert [(check.lower, check.upper) for check in checks] == [
        (0.0, np.inf),
        (-np.inf, 1.0),
        (0.1, 0.5),
    ]
    assert np.isnan(checks[0].measured)
    assert [check.passed for check in checks] == [False, True, True]


def test_whether_a_check_passed_is_decided_by_its_number_not_by_the_file() -> None:
    record = Check("c", "e", 2.0, upper=1.0).to_dict()
    assert not Check.from_dict({**record, "passed": True}).passed


def test_a_run_comes_back_from_its_folder(tmp_path) -> None:
    outcome = full_outcome(HOSTILE.replace("日本", "é"))
    write_run(outcome, tmp_path / "run", seconds=1.25)
    saved = read_run(tmp_path / "run")
    assert saved.outcome.to_dict() == outcome.to_dict()
    assert saved.environment.seconds == 1.25
    assert saved.environment.versions["numpy"] == np.__version__
    assert Environment.from_dict(saved.environment.to_dict()) == saved.environment


@pytest.fixture
def run(tmp_path):
    """The folder of a run without figures."""
    write_run(replace(full_outcome("plain"), sections=()), tmp_path / "run", seconds=1.0)
    return tmp_path / "run"


def test_a_folder_without_a_run_is_refused(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no run.*outcome\.json.*`stepfold run`"):
        read_run(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "\xff", "[" * 100_000])
def test_a_file_that_is_not_json_is_refused_by_name(run, text) -> None:
    (run / "outcome.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"outcome\.json is damaged: it is not JSON"):
        read_run(run)


DAMAGE = {
    "title": (5, "`Outcome.title` must be text, got 5"),
    "checks": ({}, "`Outcome.checks` must be a list"),
    "sections": ([7], "`Outcome.sections[0]` must be an object, got 7"),
    "parameters": (None, "`Outcome.parameters` must be an object, got None"),
    "records": (["../../etc/passwd"], "a record's path must be names"),
    "environment": ("x", "`outcome.json.environment` must be an object"),
}


@pytest.mark.parametrize("key", DAMAGE)
def test_a_damaged_outcome_is_refused_with_file_and_field(run, key) -> None:
    record = json.loads((run / "outcome.json").read_text())
    value, message = DAMAGE[key]
    (run / "outcome.json").write_text(json.dumps({**record, key: value}))
    with pytest.raises(ValueError, match=r"outcome\.json is damaged") as caught:
        read_run(run)
    assert message in str(caught.value)


@pytest.mark.parametrize("key", ["title", "sections", "records", "environment"])
def test_an_outcome_that_lacks_a_field_is_refused(run, key) -> None:
    record = json.loads((run / "outcome.json").read_text())
    del record[key]
    (run / "outcome.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=rf"damaged or of another version.*\b{key}\b"):
        read_run(run)


FIGURE_DAMAGE = {
    "kind": ("pie", "curves or pictures, got 'pie'"),
    "name": ("../up", "becomes a file's name"),
    "curves": ([], "at least one curve"),
    "x": ({"label": "x", "floor": -1}, "must be positive"),
    "levels": ([{"label": "l", "value": None}], "`value` must be finite"),
}


@pytest.mark.parametrize("key", FIGURE_DAMAGE)
def test_a_damaged_figure_is_refused(key) -> None:
    record = full_outcome().to_dict()
    value, message = FIGURE_DAMAGE[key]
    record["sections"][0]["figure"][key] = value
    with pytest.raises(ValueError, match=message):
        Outcome.from_dict(record)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [3, 5]}, r"as many bytes as its shape \(3, 5\), got 12"),
        ({"shape": [-3, -4]}, r"as its shape \(-3, -4\)"),
        ({"shape": [12]}, "two sides of 1 to 512"),
        ({"base64": "!!!"}, "in base 64"),
    ],
)
def test_a_damaged_image_is_refused(changes, message) -> None:
    record = full_outcome().figures[1].to_dict()
    record["images"][0]["pixels"].update(changes)
    with pytest.raises(ValueError, match=message):
        Pictures.from_dict(record)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((3, 3)), "dtype uint8, got float64"),
        (np.zeros((3, 3, 3), np.uint8), "two sides of 1 to 512"),
        (np.zeros((0, 3), np.uint8), "two sides of 1 to 512"),
        (np.zeros((2, 513), np.uint8), "two sides of 1 to 512"),
    ],
)
def test_an_array_that_is_no_grey_picture_is_refused(pixels, message) -> None:
    with pytest.raises(ValueError, match=message):
        Image("i", pixels)


def test_values_outside_the_range_are_cut_off() -> None:
    image = Image.from_values("i", [[-1.0, 0.0], [2.0, 5.0]], lower=0.0, upper=2.0)
    assert image.pixels.tolist() == [[0, 0], [255, 255]]


def test_values_that_are_not_finite_are_no_picture() -> None:
    with pytest.raises(ValueError, match=r"`values` must be finite"):
        Image.from_values("i", [[np.nan]])


@pytest.mark.parametrize("path", ["outcome", "figures/curves"])
def test_records_may_not_take_the_place_of_the_runs_own_files(path) -> None:
    with pytest.raises(ValueError, match=r"must not be one of the run's own"):
        replace(full_outcome(), records={path: 1})


@pytest.mark.parametrize(
    ("latex", "element"),
    [
        (r"\prod_{t=0}^{T-1} x_t", "munderover"),
        (r"\max_x f(x)", "munder"),
        (r"\operatorname*{argmin}_x f(x)", "munder"),
        (r"x_t^2", "msubsup"),
        (r"\int_a^b f", "msubsup"),
        (r"\frac{\sum_{i=1}^n x_i}{n}", "msubsup"),
    ],
)
def test_limits_stand_below_and_above_where_a_formula_has_its_own_line(latex, element) -> None:
    assert f"<{element}>" in Formula(latex).mathml
    assert "<mover>" not in Formula(latex).mathml


@pytest.mark.parametrize(
    ("latex", "why"),
    [
        (r"\frac{a", "<mfrac> needs 2 parts"),
        (r"\unknown", r"\\unknown is unknown"),
        ("a_b_c", "DoubleSubscripts"),
        ("", "NoAvailableTokens"),
        (r"\text{<script>alert(1)</script>}", "<mtext> needs 0 parts"),
        (r"\text{<b>x</b>}", "<mtext> needs 0 parts"),
        (r"\text{<mi href='javascript:alert(1)'>x</mi>}", "not well-formed"),
        (r"\text{</mtext><b/><mtext>}", "<b> is no element"),
        (r"\href{javascript:alert(1)}{x}", ""),
        (r"\text{a & b}", "not well-formed"),
    ],
)
def test_what_is_no_formula_is_refused(latex, why) -> None:
    with pytest.raises(ValueError, match=r"`latex` must be a formula that can be converted") as e:
        Formula(latex)
    assert e.match(why)
