"""The site of many runs as files: what is found, what is written, and what is refused."""

from __future__ import annotations

import csv
import html
import io
import json
import math
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from cli_runner import assert_refused, stepfold
from test_lab_records import full_outcome

from stepfold.lab import Axis, Check, Curve, Figure, Image, Level, Outcome, Pictures, Section
from stepfold.lab._table import to_csv
from stepfold.lab.environment import Environment
from stepfold.lab.report import write_run
from stepfold.lab.site import find_runs, write_site
from stepfold.lab.site.traces import to_plotly

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)> %{y} $x$"


def _figure(text: str = "plain", **changes) -> Figure:
    curve = Curve(text, np.array([1.0, 2.0]), np.array([1.0, 10.0]))
    fields = {"curves": (curve,), "x": Axis(text), "y": Axis(text)}
    return Figure(**{"name": "f", "title": text, "alt": text, **fields, **changes})


def _outcome(text: str = "plain", measured: float = 1.0) -> Outcome:
    sections = (Section(text, (text,), _figure(text)),)
    checks = (Check(text, text, measured, lower=0.5),)
    return Outcome(text, text, sections, checks, name=text)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder of four runs, one of them hostile, one failed, one below another folder."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(_outcome(), folder / "first", seconds=1.0)
    write_run(_outcome("failed", measured=0.0), folder / "second", seconds=1.0)
    write_run(full_outcome(HOSTILE), folder / "below" / "<b> & 'x'", seconds=1.0)
    write_run(_outcome(), folder / "below" / "-b- -x-", seconds=1.0)
    return folder


@pytest.fixture(scope="module")
def site(runs, tmp_path_factory) -> Path:
    """The site made of them."""
    return write_site(find_runs([runs]), tmp_path_factory.mktemp("out") / "site").parent


class _Links(HTMLParser):
    """What a page refers to, and its tags."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.targets += [value for name, value in attrs if name in ("href", "src")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def test_runs_are_found_in_and_below_folders_each_with_a_name_of_its_own(runs) -> None:
    found = find_runs([runs])
    assert [(entry.group, entry.slug) for entry in found.entries] == [
        ("", "first"),
        ("", "second"),
        ("below", "below--b---x"),
        ("below", "below--b-x"),
    ]
    assert found.failures == []


def _damage_number(folder: Path) -> None:
    path = folder / "outcome.json"
    record = json.loads(path.read_text())
    record["checks"][0]["measured"] = 10**400
    path.write_text(json.dumps(record))


def _damage_text(folder: Path) -> None:
    path = folder / "outcome.json"
    path.write_text(path.read_text().replace('"plain"', '"\\ud800"'))


def _point_outside(folder: Path) -> None:
    (folder.parent / "secret").write_text("secret")
    (folder / "figures" / "f.csv").unlink()
    (folder / "figures" / "f.csv").symlink_to(folder.parent / "secret")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_damage_number, "outcome.json is damaged"),
        (_damage_text, "outcome.json is damaged"),
        (lambda folder: (folder / "figures" / "f.pdf").unlink(), "f.pdf is gone"),
        (_point_outside, "f.csv is a link out of the run's folder"),
    ],
)
def test_one_bad_run_is_named_and_the_site_is_made_of_the_others(tmp_path, damage, words) -> None:
    write_run(_outcome(), tmp_path / "runs" / "good", seconds=1.0)
    write_run(_outcome(), tmp_path / "runs" / "bad", seconds=1.0)
    damage(tmp_path / "runs" / "bad")
    found = find_runs([tmp_path / "runs"])
    assert [entry.slug for entry in found.entries] == ["good"]
    assert len(found.failures) == 1
    assert words in found.failures[0]
    index = write_site(found, tmp_path / "site")
    assert words in html.unescape(index.read_text())
    assert not any("secret" in path.read_text() for path in index.parent.rglob("*.csv"))


def test_a_run_itself_may_be_named(runs) -> None:
    assert [entry.slug for entry in find_runs([runs / "first"]).entries] == ["first"]


def test_names_that_differ_by_case_or_by_signs_only_get_folders_of_their_own(runs) -> None:
    slugs = [entry.slug for entry in find_runs([runs / "first", runs / "first"]).entries]
    assert slugs == ["first", "first-2"]


def test_every_link_leads_to_a_file_of_the_site(site) -> None:
    for page in site.rglob("*.html"):
        for target in _Links(page).targets:
            inside = target.startswith(("#", "data:")) or (page.parent / target).is_file()
            assert inside, (page, target)


def test_plotly_is_there_once(site) -> None:
    assert [path.stat().st_size > 10**6 for path in site.rglob("plotly*.js")] == [True]


def test_hostile_text_becomes_no_tag(site) -> None:
    links = _Links(site / "below--b-x" / "index.html")
    assert links.handlers == []
    assert links.tags.count("script") == 3 + 1  # plotly, our two, and one figure's data
    # One image for readers without scripts, and the two that the run holds.
    assert links.tags.count("img") == 1 + 2


def test_a_page_tells_the_failed_check_and_the_index_names_the_run(site) -> None:
    page = (site / "second" / "index.html").read_text()
    assert '<td class="fail">FAIL</td>' in page
    assert '<p class="summary failed">failed 0 of 1 checks passed.</p>' in page
    index = (site / "index.html").read_text()
    assert '<p class="summary failed">4 runs; every check passed in 2.</p>' in index
    assert '<span class="fail">0 of 1 checks passed.</span>' in index


def test_figures_are_there_to_be_taken_away(site, runs) -> None:
    for kind in ("png", "pdf", "csv"):
        ours, theirs = (folder / f"figures/f.{kind}" for folder in (site / "first", runs / "first"))
        assert ours.read_bytes() == theirs.read_bytes()
    assert (site / "first" / "thumbnail.png").read_bytes().startswith(b"\x89PNG")


def test_all_data_is_there_to_be_taken_away(site) -> None:
    record = json.loads((site / "first" / "data.json").read_text())
    assert Environment.from_dict(record.pop("environment")).versions["numpy"] == np.__version__
    assert Outcome.from_dict(record).to_dict() == _outcome().to_dict()


def test_a_site_in_the_folder_of_its_runs_is_no_run(runs, tmp_path) -> None:
    write_site(find_runs([runs / "first"]), tmp_path / "runs" / "site")
    with pytest.raises(FileNotFoundError, match=r"no run in or below .*`stepfold run --all`"):
        find_runs([tmp_path / "runs"])


def test_a_folder_that_is_not_there_is_refused(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere is not a folder.*`stepfold run --all`"):
        find_runs([tmp_path / "nowhere"])


def test_a_run_that_is_being_written_is_not_read(runs, tmp_path) -> None:
    (tmp_path / ".draft").mkdir()
    (tmp_path / ".draft" / "outcome.json").write_text("{")
    write_run(_outcome(), tmp_path / "done", seconds=1.0)
    found = find_runs([tmp_path])
    assert ([entry.slug for entry in found.entries], found.failures) == (["done"], [])


@pytest.fixture
def damaged(tmp_path) -> Path:
    """A folder of one good run and one whose file is cut short."""
    write_run(_outcome(), tmp_path / "runs" / "good", seconds=1.0)
    write_run(_outcome(), tmp_path / "runs" / "bad", seconds=1.0)
    (tmp_path / "runs" / "bad" / "outcome.json").write_text('{"name": ')
    return tmp_path / "runs"


def test_a_damaged_run_is_named_and_the_others_are_shown(damaged) -> None:
    run = stepfold("report", damaged, "-o", damaged / "site")
    assert run.code == 1
    assert run.err.startswith("left out: ")
    assert "outcome.json is damaged: it is not JSON" in run.err
    assert run.out == f"1 run; every check passed in 1.\nsite: {damaged / 'site' / 'index.html'}\n"
    assert "outcome.json is damaged" in (damaged / "site" / "index.html").read_text()


def test_nothing_is_written_where_every_run_is_damaged(damaged) -> None:
    assert_refused(stepfold("report", damaged / "bad", "-o", damaged / "site"), "is damaged")
    assert not (damaged / "site").exists()


def test_json_tells_what_the_site_holds(damaged) -> None:
    record = stepfold("report", damaged, "-o", damaged / "site", "--json").json()
    assert record["site"] == str(damaged / "site" / "index.html")
    assert record["pages"] == {"good": {"title": "plain", "passed": True}}
    assert len(record["failures"]) == 1


def test_a_site_is_replaced_by_force_only(damaged) -> None:
    folder = damaged / "site"
    write_site(find_runs([damaged / "good"]), folder)
    (folder / "left over").touch()
    assert_refused(stepfold("report", damaged / "good", "-o", folder), "already holds a site")
    assert stepfold("report", damaged / "good", "-o", folder, "--force").code == 0
    assert not (folder / "left over").exists()


def test_a_run_is_never_replaced_by_a_site(damaged) -> None:
    run = stepfold("report", damaged, "-o", damaged / "good", "--force")
    assert_refused(run, "is not a site of stepfold")
    assert (damaged / "good" / "report.html").is_file()


def test_a_picture_that_is_gone_is_named_and_nothing_is_left(damaged) -> None:
    (damaged / "good" / "figures" / "f.pdf").unlink()
    before = sorted(os.listdir(damaged))
    assert_refused(stepfold("report", damaged / "good", "-o", damaged / "site"), "f.pdf")
    assert sorted(os.listdir(damaged)) == before


def test_without_plotly_the_extra_is_named(damaged) -> None:
    with mock.patch.dict("sys.modules", {"plotly.offline": None}):
        run = stepfold("report", damaged, "-o", damaged / "site")
    # An absent module, as Python tells it: the name is the blocked one.
    assert run.code == 2
    assert "pip install '.[lab]'" in run.err


def test_the_command_that_repeats_a_run_is_shown(tmp_path) -> None:
    run = {"experiment": "dugd", "parameters": {"seed": 1, "text": "a b"}}
    outcome = replace(_outcome(), records={"run": run})
    page = write_run(outcome, tmp_path / "run", seconds=1.0).read_text()
    shown = page.split("<pre><code>")[1].split("</code>")[0]
    assert re.sub("</?span>", "", shown) == (
        "stepfold run dugd --set seed=1 --set &#x27;text=a b&#x27;"
    )


# Figures as numbers


def _rows(figure) -> list[list[str]]:
    return list(csv.reader(io.StringIO(to_csv(figure))))


def test_a_table_of_a_figure_holds_every_number_to_the_last_bit() -> None:
    y = np.array([0.1 + 0.2, math.nan, 1e-300])
    curve = Curve('c, "d"\nnew line', np.array([1.0, 2.0, 3.0]), y)
    rows = _rows(_figure(curves=(curve,), x=Axis("x, m"), levels=(Level("l", 0.5),)))
    assert rows[0] == ["curve", "x, m", "plain"]
    assert [float(row[2]) if row[2] else math.nan for row in rows[1:4]] == pytest.approx(
        y.tolist(), abs=0, rel=0, nan_ok=True
    )
    assert {row[0] for row in rows[1:4]} == {curve.label}
    assert rows[4] == ["l", "", "0.5"]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx"])
def test_a_spreadsheet_takes_no_label_for_a_formula(text) -> None:
    rows = _rows(_figure(text))
    assert rows[0][1:] == [f"'{text}"] * 2
    assert rows[1] == [f"'{text}", "1.0", "1.0"]


def test_a_table_of_pictures_holds_every_grey() -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    rows = _rows(Pictures("p", "t", "a", (Image("i", pixels), Image("j", pixels.T))))
    assert rows[0] == ["image", "row", "0", "1", "2"]
    assert rows[1:3] == [["i", "0", "0", "1", "2"], ["i", "1", "3", "4", "5"]]
    assert [row[:4] for row in rows[3:]] == [
        ["j", "0", "0", "3"],
        ["j", "1", "1", "4"],
        ["j", "2", "2", "5"],
    ]


def test_traces_carry_the_curves_numbers_and_names() -> None:
    curves = (
        Curve("a", np.array([1.0, 2.0]), np.array([3.0, np.nan]), "both"),
        Curve("<b>", np.array([1.0]), np.array([2.0]), "points"),
    )
    traces = to_plotly(_figure(curves=curves, levels=(Level("l", 5.0),)))["data"]
    assert [trace["mode"] for trace in traces] == ["lines+markers", "markers", "lines"]
    assert [trace["name"] for trace in traces] == ["a", "&lt;b&gt;", "l"]
    assert (traces[0]["x"], traces[0]["y"]) == ([1.0, 2.0], [3.0, None])
    assert (traces[2]["x"], traces[2]["y"]) == ([1.0, 2.0], [5.0, 5.0])
    assert len({trace["line"]["color"] for trace in traces}) == 3


def test_bands_follow_the_curves_and_levels_and_skip_what_is_missing() -> None:
    x, y = np.array([1.0, 2.0, 3.0]), np.array([3.0, 4.0, 5.0])
    curves = (Curve("a", x, y), Curve("b", x, y, band=(np.array([1.0, np.nan, 3.0]), 2 * y)))
    traces = to_plotly(_figure(curves=curves, levels=(Level("l", 5.0),)))["data"]
    assert [trace.get("legendgroup") for trace in traces] == [None, None, None, "1"]
    assert (traces[3]["x"], traces[3]["y"]) == ([1.0, 3.0, 3.0, 1.0], [6.0, 10.0, 3.0, 1.0])
    assert traces[3]["line"]["color"] == traces[1]["line"]["color"]


def test_a_logarithmic_axis_leaves_a_gap_at_what_has_no_logarithm() -> None:
    curve = Curve("c", np.array([0.0, 1.0]), np.array([-1.0, 10.0]))
    axes = {"x": Axis("x", log=True), "y": Axis("y", log=True, floor=0.1)}
    drawn = to_plotly(_figure(curves=(curve,), **axes))
    assert (drawn["data"][0]["x"], drawn["data"][0]["y"]) == ([None, 1.0], [None, 10.0])
    assert drawn["layout"]["yaxis"]["range"] == pytest.approx([-1.0, 1.1])


@pytest.mark.parametrize("y", [[0.0, 0.0], [-1.0, -2.0], [np.nan, np.nan]])
def test_an_axis_without_logarithms_stays_linear(y) -> None:
    curve = Curve("c", np.array([1.0, 2.0]), np.array(y))
    layout = to_plotly(_figure(curves=(curve,), y=Axis("y", log=True, floor=1e-3)))["layout"]
    assert "type" not in layout["yaxis"]


def test_a_long_curve_has_few_markers_and_points_have_all() -> None:
    x = np.arange(1.0, 501.0)
    curves = [Curve(style, x, x, style) for style in ("line", "both", "points")]
    drawn = to_plotly(_figure(curves=curves))["data"]
    assert [trace["marker"]["maxdisplayed"] for trace in drawn] == [0, 40, 0]


@pytest.mark.parametrize(
    ("top", "layout"),
    [
        (1e20, {"dtick": 3}),
        (1e6, {"dtick": 1}),
        (100.0, {"tickformat": "~g", "dtick": "D2"}),
        (1.5, {"tickformat": "~g"}),
    ],
)
def test_ticks_of_a_logarithmic_axis_suit_its_range(top, layout) -> None:
    curve = Curve("c", np.array([1.0, 2.0]), np.array([1.0, top]))
    axis = to_plotly(_figure(curves=(curve,), y=Axis("y", log=True)))["layout"]["yaxis"]
    assert {key: axis[key] for key in ("tickformat", "dtick") if key in axis} == layout
