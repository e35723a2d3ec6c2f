"""The report of one run, opened in a browser: offline, readable, in the dark and on a phone."""

from __future__ import annotations

import pytest
from test_lab_records import full_outcome

from stepfold.lab.report import write_run

HOSTILE = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"

# Were a place in a page not escaped.
UNESCAPED = (
    "<script>document.title = 'owned'</script>"
    '<img id=beside src=beside.svg onerror="document.title = 1" onload="document.title = 1">'
    '<iframe src="data:text/html,<script>parent.document.title = 1</script>"></iframe>'
    "<link rel=stylesheet href=beside.css>"
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The page of a run that uses every kind of content, its text hostile."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return write_run(full_outcome(HOSTILE), folder, seconds=1.0)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_report_is_quiet_fits_and_is_accessible(visit, report, width, dark) -> None:
    seen = visit(report, width=width, dark=dark)
    seen.assert_quiet()
    assert seen.requests == [report.resolve().as_uri()]
    seen.assert_no_sideways_scroll()
    seen.assert_accessible()


def test_hostile_text_is_shown_as_it_is(visit, report) -> None:
    seen = visit(report)
    assert seen.page.title() == HOSTILE
    assert seen.page.locator("h1").inner_text() == HOSTILE


def test_what_gets_past_the_escaping_neither_runs_nor_loads_anything(
    visit, report, tmp_path
) -> None:
    page = tmp_path / "page.html"
    text = report.read_text(encoding="utf-8")
    page.write_text(text.replace("</h1>", f"</h1>{UNESCAPED}", 1), encoding="utf-8")
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    (tmp_path / "beside.svg").write_text(svg)
    (tmp_path / "beside.css").write_text("h1 { letter-spacing: 77px }")
    seen = visit(page)
    assert seen.page.title() == HOSTILE
    assert seen.page.evaluate("document.getElementById('beside').naturalWidth") == 0
    spacing = "getComputedStyle(document.querySelector('h1')).letterSpacing"
    assert seen.page.evaluate(spacing) != "77px"


def test_figures_take_the_ink_of_the_page(visit, report) -> None:
    inks = [
        visit(report, dark=dark).page.evaluate(
            "getComputedStyle(document.querySelector('figure svg path[style*=currentColor]')).color"
        )
        for dark in (False, True)
    ]
    assert len(set(inks)) == 2


def test_a_formula_is_laid_out_by_the_browser(visit, report) -> None:
    fraction = visit(report).page.locator("mfrac").first.bounding_box()
    assert fraction["height"] > 20
