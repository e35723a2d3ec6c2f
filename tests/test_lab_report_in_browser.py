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


COMMAND = "stepfold explain 'a matrix.npy' --rhs b.npy --ridge 0.002 -o runs/a-long-name --force"
SHOWN = """[...document.querySelectorAll('figure.still svg')]
  .map((svg) => ({ kind: svg.getAttribute('class'), box: svg.getBoundingClientRect(),
    points: svg.viewBox.baseVal.width }))
  .filter(({ box }) => box.width > 0)
  .map(({ kind, box, points }) => [kind, box.left, box.right, box.width / points])"""


@pytest.fixture(scope="module")
def with_command(tmp_path_factory):
    """The page of a run that a command made."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return write_run(full_outcome("a title"), folder, seconds=1.0, command=COMMAND)


@pytest.mark.parametrize(("width", "kind"), [(1280, "wide"), (390, "narrow")])
def test_figures_are_drawn_for_the_width_of_the_page(visit, report, width, kind) -> None:
    shown = visit(report, width=width).page.evaluate(SHOWN)
    assert [entry[0] for entry in shown] == [kind] * len(shown) != []
    for _, left, right, scale in shown:
        assert 0 <= left < right <= width
        assert scale >= 1  # letters of 10 points are at least 10 pixels high


def test_a_command_is_copied_by_its_button(visit, with_command) -> None:
    seen = visit(with_command)
    seen.page.get_by_role("button", name="Copy").click()
    seen.wait_until("document.querySelector('.copy').textContent !== 'Copy'")
    seen.page.evaluate(
        "document.body.append(document.createElement('textarea'));"
        "document.querySelector('textarea').focus()"
    )
    seen.page.keyboard.press("Control+V")
    seen.wait_until("document.querySelector('textarea').value !== ''")
    assert seen.page.locator("textarea").input_value() == COMMAND
    seen.assert_quiet()


def test_a_command_is_wrapped_on_a_phone(visit, with_command) -> None:
    seen = visit(with_command, width=390)
    seen.assert_no_sideways_scroll()
    code = seen.page.locator(".command pre")
    assert code.inner_text().split() == COMMAND.split()
    wide, room = code.evaluate("(each) => [each.scrollWidth, each.clientWidth]")
    assert wide <= room


def test_without_scripts_there_is_no_button_that_does_nothing(visit, with_command) -> None:
    seen = visit(with_command, javascript=False)
    assert seen.page.locator(".copy").count() == 1
    assert not seen.page.locator(".copy").is_visible()
