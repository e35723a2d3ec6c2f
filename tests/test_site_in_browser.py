"""The site in a browser: offline, drawn, answering, in the dark, on a phone, by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from browser import Seen, Visitor
from test_lab_records import full_outcome
from test_lab_report_in_browser import UNESCAPED
from test_site import HOSTILE

from stepfold.lab import Axis, Check, Curve, Figure, Formula, Level, Outcome, Section
from stepfold.lab.report import write_run
from stepfold.lab.site import find_runs, write_site

PLOT = "document.querySelector('.plot')"


def _outcome() -> Outcome:
    k = np.arange(1.0, 13.0)
    curves = (
        Curve("constant", k, 0.8**k, "both"),
        Curve("Chebyshev", k, 0.5**k, "both", emphasis=True),
        *(Curve(f"other {i}", k, 0.6**k * (1 + i), "line") for i in range(5)),
    )
    figure = Figure(
        "errors",
        "Error of two schedules",
        "Error against iteration; Chebyshev steps end lower.",
        curves,
        Axis("iteration, each of which takes one product with the operator or its transpose"),
        Axis("error, relative to the start", log=True),
        (Level("tolerance", 1e-2),),
    )
    words = ("Gradient descent is", Formula(r"x \leftarrow x - \gamma_t \nabla f(x)"))
    table = full_outcome("cell").sections[1].table
    return Outcome(
        "Chebyshev steps are faster",
        "They end lower.",
        (Section("Errors", words, figure, table),),
        (Check("ratio", "below 1", 0.1, upper=1.0), Check("bound", "above 1", 0.5, lower=1.0)),
        {"seed": 3},
        name="errors",
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A site of two runs; the second uses every kind of content, its text hostile."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(_outcome(), folder / "errors", seconds=1.0)
    write_run(full_outcome(HOSTILE), folder / "hostile", seconds=1.0)
    return write_site(find_runs([folder]), folder / "site").parent


def _drawn(seen: Seen) -> Seen:
    """Wait until plotly has drawn; its last layer is that of the text around the axes."""
    seen.page.wait_for_selector(".plot .infolayer .xtitle", state="attached")
    return seen


@pytest.fixture
def errors(visit, site) -> Seen:
    """The first run's page, drawn."""
    return _drawn(visit(site / "errors" / "index.html"))


@pytest.fixture(scope="module")
def looked_at(browser, site) -> Iterator[Seen]:
    """The same for tests that change nothing: opened once."""
    visitor = Visitor(browser)
    yield _drawn(visitor(site / "errors" / "index.html"))
    visitor.close()


def test_what_gets_past_the_escaping_does_not_run_on_a_page_of_the_site(visit, site) -> None:
    page = site / "errors" / "index.html"
    text = page.read_text(encoding="utf-8")
    injected = page.with_name("injected.html")
    injected.write_text(text.replace("</h1>", f"</h1>{UNESCAPED}", 1), encoding="utf-8")
    seen = _drawn(visit(injected))
    assert seen.page.title() == "Chebyshev steps are faster"
    injected.unlink()


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
@pytest.mark.parametrize("name", ["index.html", "errors/index.html", "hostile/index.html"])
def test_pages_are_quiet_fit_and_are_accessible(visit, site, name, width, dark) -> None:
    seen = visit(site / name, width=width, dark=dark)
    if name != "index.html":
        _drawn(seen)
    seen.assert_quiet()
    seen.assert_no_sideways_scroll()
    seen.assert_accessible()


def test_curves_are_drawn_with_their_numbers(looked_at) -> None:
    assert looked_at.page.locator(".plot .scatterlayer .trace").count() == 8
    drawn = looked_at.page.evaluate(f"{PLOT}.data[1].y")
    assert drawn == pytest.approx(list(0.5 ** np.arange(1.0, 13.0)), rel=1e-15)
    box = looked_at.page.locator(".plot .scatterlayer .trace").nth(1).bounding_box()
    assert min(box["width"], box["height"]) > 100


def test_a_click_on_the_legend_hides_a_curve_and_shows_it_again(errors) -> None:
    button = errors.page.get_by_role("button", name="Chebyshev")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    errors.wait_until("document.querySelectorAll('.plot .trace').length === 7")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    errors.wait_until("document.querySelectorAll('.plot .trace').length === 8")


def test_the_legend_is_reached_and_used_by_keyboard(errors) -> None:
    errors.page.locator("a[href='../index.html']").focus()
    for _ in range(12):
        errors.page.keyboard.press("Tab")
        if errors.page.evaluate("document.activeElement.dataset.trace") == "0":
            break
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert errors.page.evaluate(outline) == "solid"
    errors.page.keyboard.press("Space")
    errors.wait_until("document.querySelectorAll('.plot .trace').length === 7")


def test_the_first_tab_stop_leads_to_the_content(errors) -> None:
    errors.page.keyboard.press("Tab")
    assert errors.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    errors.page.keyboard.press("Enter")
    assert errors.page.evaluate("document.activeElement.id") == "content"


def test_a_pointer_over_a_point_tells_its_numbers(looked_at) -> None:
    point = looked_at.page.locator(".plot .scatterlayer .trace").nth(1).locator(".point").nth(3)
    box = point.bounding_box()
    looked_at.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
    label = looked_at.page.locator(".plot .hoverlayer .hovertext").first
    label.wait_for()
    assert "0.0625" in label.text_content()
    assert "Chebyshev" in label.text_content()


def test_buttons_zoom_and_reset(errors) -> None:
    def span() -> float:
        low, high = errors.page.evaluate(f"{PLOT}.layout.xaxis.range")
        return high - low

    before = span()
    errors.page.get_by_role("button", name="Zoom in").click()
    assert span() == pytest.approx(before / 2)
    errors.page.get_by_role("button", name="Zoom out").click()
    assert span() == pytest.approx(before)
    errors.page.get_by_role("button", name="Zoom out").click()
    errors.page.get_by_role("button", name="Reset").click()
    assert span() == pytest.approx(before)


def test_dragging_zooms_into_the_figure(errors) -> None:
    low, high = errors.page.evaluate(f"{PLOT}.layout.xaxis.range")
    box = errors.page.locator(".plot .nsewdrag").bounding_box()
    x, y = box["x"], box["y"] + box["height"] / 2
    errors.page.mouse.move(x + 0.3 * box["width"], y)
    errors.page.mouse.down()
    errors.page.mouse.move(x + 0.6 * box["width"], y, steps=5)
    errors.page.mouse.up()
    errors.wait_until(f"{PLOT}.layout.xaxis.range[0] > {low + 0.2 * (high - low)}")


@pytest.mark.parametrize("clicks", [0, 2, 3])
def test_ticks_are_whole_numbers_however_far_a_reader_zooms(errors, clicks) -> None:
    for _ in range(clicks):
        errors.page.get_by_role("button", name="Zoom in").click()
    errors.wait_until(f"{PLOT}.layout.xaxis.dtick >= 1")
    across = errors.page.locator(".plot .xtick").all_text_contents()
    assert across
    assert all(float(text) == round(float(text)) for text in across)
    # On the logarithmic axis a label such as 2 or 5 would need the power beside it.
    ends = errors.page.evaluate(f"{PLOT}.layout.yaxis.range")
    low, high = (10**end for end in ends)
    errors.page.wait_for_selector(".plot .ytick", state="attached")
    labels = errors.page.locator(".plot .ytick").all_text_contents()
    powers = [text for text in labels if text.startswith("10") and text != "10"]
    plain = [text for text in labels if text not in powers]
    assert labels
    assert all(low * 0.99 <= float(text) <= high * 1.01 for text in plain)


def test_figures_follow_the_reader_into_the_dark_and_keep_what_was_hidden(errors) -> None:
    ink = "getComputedStyle(document.querySelector('.plot .xtitle')).fill"
    seventh = f"{PLOT}.data[6].line.color"
    light = errors.page.evaluate(f"[{ink}, {seventh}]")
    errors.page.get_by_role("button", name="Chebyshev").click()
    errors.page.emulate_media(color_scheme="dark")
    errors.wait_until(f"{seventh} !== '{light[1]}'")
    assert errors.page.evaluate(ink) != light[0]
    assert errors.page.locator(".plot .trace").count() == 7


@pytest.mark.parametrize(
    ("kind", "start"), [("PNG", b"\x89PNG"), ("PDF", b"%PDF"), ("CSV", b'curve,"iteration')]
)
def test_downloads_are_files_of_their_kind(looked_at, kind, start) -> None:
    # From a file a browser shows what from a server it saves; the link is the same.
    link = looked_at.page.locator(".downloads a", has_text=kind)
    assert link.evaluate("a => a.hasAttribute('download')")
    path = unquote(urlsplit(link.evaluate("a => a.href")).path)
    assert Path(path).read_bytes().startswith(start)


def test_numbers_are_in_a_table_for_who_cannot_see_the_figure(looked_at) -> None:
    looked_at.page.locator("summary").click()
    cells = looked_at.page.locator("details tbody tr").nth(2).locator("th, td").all_text_contents()
    assert cells[:3] == ["3", "0.512", "0.125"]


def test_without_scripts_pictures_stand_in_for_the_figures(visit, site) -> None:
    seen = visit(site / "errors" / "index.html", javascript=False)
    picture = seen.page.locator("figure img")
    assert picture.bounding_box()["width"] > 300
    assert picture.get_attribute("alt").startswith("Error against iteration")
    assert not seen.page.get_by_role("button", name="Reset").is_visible()
    seen.assert_quiet()


def test_hostile_text_is_shown_and_not_obeyed(visit, site) -> None:
    seen = _drawn(visit(site / "hostile" / "index.html"))
    assert seen.page.title() == HOSTILE
    assert seen.page.locator("h1").inner_text() == HOSTILE
    # plotly shows the axis's text as it is, broken into lines.
    shown = seen.page.locator(".plot .xtitle").text_content()
    assert shown.replace(" ", "") == HOSTILE.replace(" ", "")
    assert seen.page.locator(".plot a, .plot img, .plot b").count() == 0


def test_a_finger_that_drags_a_figure_scrolls_the_page(browser, site) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto((site / "errors" / "index.html").as_uri())
    page.wait_for_selector(".plot .infolayer .xtitle", state="attached")
    assert page.evaluate(f"{PLOT}.layout.dragmode") is False
    context.close()


def test_the_index_leads_to_every_run_and_back(visit, site) -> None:
    seen = visit(site / "index.html")
    seen.page.get_by_role("link", name="Chebyshev steps are faster").click()
    _drawn(seen)
    assert seen.page.locator("h1").inner_text() == "Chebyshev steps are faster"
    seen.page.get_by_role("link", name="All results").click()
    assert seen.page.locator("h1").inner_text() == "Results"
    widths = seen.page.eval_on_selector_all(".card img", "all => all.map(i => i.naturalWidth)")
    assert widths == [480, 480]


def test_a_figure_is_drawn_anew_where_the_window_becomes_narrow(errors) -> None:
    fits = f"{PLOT}.querySelector('.main-svg').clientWidth === {PLOT}.clientWidth"
    errors.wait_until(fits)
    errors.page.set_viewport_size({"width": 390, "height": 800})
    errors.wait_until(f"{PLOT}.clientWidth < 390 && {fits}")
    inside = f"""(() => {{
      const room = {PLOT}.getBoundingClientRect();
      const words = [...{PLOT}.querySelectorAll('.xtitle, .ytitle, .xtick text, .ytick text')]
        .map((text) => text.getBoundingClientRect());
      return words.length > 4 && words.every((box) => box.left >= room.left - 1
        && box.right <= room.right + 1 && box.bottom <= room.bottom + 1);
    }})()"""
    errors.wait_until(inside)
    errors.assert_no_sideways_scroll()
