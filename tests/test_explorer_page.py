"""The explorer's page in a browser: what moves, what is restored, what is refused to run."""

from __future__ import annotations

import contextlib
import io
import re

import numpy as np
import pytest
from browser import Visitor

from stepfold import Schedule, SpectralMeasure
from stepfold.lab.explorer import LearnedSteps, Subject, explorer_page
from stepfold.lab.explorer.sources import spectrum_of_measure

HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=document.title='owned'>"
)


def write(folder, subject: Subject | None = None):
    path = folder / "explorer.html"
    path.write_text(explorer_page(subject), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page that `stepfold explore` writes without arguments."""
    return write(tmp_path_factory.mktemp("explorer"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A page whose every text is hostile, with a measured spectrum and a run."""
    measure = SpectralMeasure.from_eigenvalues(np.geomspace(1.0, 50.0, 40))
    measured = spectrum_of_measure(measure, [f"eigenvalues = {HOSTILE!r}"], HOSTILE)
    run = LearnedSteps(HOSTILE, Schedule([0.9, 0.05, 0.3]), {2: (0.6, 0.04)})
    return write(tmp_path_factory.mktemp("hostile"), Subject(HOSTILE, measured, run))


def wait_until_drawn(seen, before: str = "0") -> None:
    """Wait for a drawing later than ``before``, with learned steps in it."""
    # By a selector: the page's policy forbids to evaluate text, a waiting test's included.
    later = f'body[data-trained="true"]:not([data-drawn="{before}"])'
    seen.page.wait_for_selector(later, state="attached")


def drawings(seen) -> str:
    return seen.page.locator("body").get_attribute("data-drawn")


def opened(visit, page, choices="", **manner):
    """A page of its own, opened by a link."""
    seen = visit(f"{page.resolve().as_uri()}#{choices}", **manner)
    wait_until_drawn(seen)
    return seen


@pytest.fixture(scope="module")
def shared(browser, page):
    """One open page that tests lead to where they want it: opening one takes a second."""
    visitor = Visitor(browser)
    yield opened(visitor, page)
    visitor.close()


@pytest.fixture
def go(shared):
    """Follows a link in the open page; what it does not choose is at its default."""

    def go(choices: str = ""):
        before = drawings(shared)
        shared.page.evaluate("(hash) => { location.hash = hash; }", f"#link&{choices}")
        wait_until_drawn(shared, before)
        return shared

    yield go
    shared.assert_quiet()


def cell(seen, family: str, key: str) -> float:
    place = f'#numbers tr[data-family="{family}"] [data-key="{key}"]'
    return float(seen.page.locator(place).get_attribute("data-value"))


def drawn(seen, figure: str) -> list:
    return seen.page.evaluate(
        "(id) => document.getElementById(id).data.map(({ x, y }) => [[...x], [...y]])", figure
    )


def move(seen, control: str, value: str) -> None:
    """Move a control, and wait for the page to draw."""
    before = drawings(seen)
    seen.page.locator(f"#{control}").evaluate(
        "(element, value) => { element.value = value;"
        " element.dispatchEvent(new Event('input', { bubbles: true })); }",
        value,
    )
    wait_until_drawn(seen, before)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_quiet_fits_and_is_accessible(visit, page, width, dark) -> None:
    seen = opened(visit, page, width=width, dark=dark)
    seen.assert_quiet()
    seen.assert_no_sideways_scroll()
    seen.assert_accessible()


def test_the_verdict_names_the_gain_of_the_published_matrix(go) -> None:
    seen = go("show=learned,chebyshev,optimal,constant")
    # FACTS: the optimum is (1 − r) rᵀ / (1 − rᵀ⁺¹) for r = 1/2 and T = 8.
    assert cell(seen, "optimal", "error") == pytest.approx(0.5**9 / (1 - 0.5**9), rel=1e-12)
    gain = cell(seen, "constant", "error") / cell(seen, "chebyshev", "error")
    verdict = seen.page.locator("#verdict").inner_text()
    assert f"{gain:.2g} times smaller" in verdict
    assert seen.page.locator("#verdict").get_attribute("aria-live") == "polite"


@pytest.mark.parametrize(
    ("control", "value", "figures"),
    [
        ("period", "12", ["steps-figure", "polynomial-figure", "convergence-figure"]),
        ("aspect", "0.8", ["steps-figure", "polynomial-figure", "convergence-figure"]),
        ("spectrum", "uniform", ["steps-figure", "polynomial-figure", "convergence-figure"]),
        ("order", "ascending", ["convergence-figure"]),
        ("precision", "float32", ["convergence-figure"]),
        ("noise", "-2", ["convergence-figure"]),
        ("periods", "4", ["convergence-figure"]),
        ("training", "100", ["steps-figure", "polynomial-figure", "convergence-figure"]),
    ],
)
def test_a_control_changes_the_figures_and_the_address(go, control, value, figures) -> None:
    seen = go()
    before = {figure: drawn(seen, figure) for figure in figures}
    address = seen.address()
    move(seen, control, value)
    assert {figure for figure in figures if drawn(seen, figure) == before[figure]} == set()
    assert seen.address() != address


def test_a_link_restores_every_choice(visit, page) -> None:
    choices = (
        "spectrum=two-clusters&kappa=250&aspect=0.3&width=0.2&n=130&T=11&order=fractal&"
        "precision=float32&noise=0.002&periods=4&training=100&show=chebyshev,silver&view=taken&"
        "layers=7&tour=4"
    )
    seen = opened(visit, page, choices)
    assert seen.address().endswith(choices)
    assert seen.page.locator("#numbers tr").count() == 2
    shown = [drawn(seen, f"{name}-figure") for name in ("steps", "polynomial", "convergence")]
    again = opened(visit, page, seen.address().split("#")[1])
    found = [drawn(again, f"{name}-figure") for name in ("steps", "polynomial", "convergence")]
    assert found == shown


@pytest.mark.parametrize(
    "choices",
    [
        "T=0",
        "T=1e9",
        "T=%3Cscript%3E",
        "kappa=NaN",
        "n=5",
        "order=nonsense",
        "spectrum=measured",
        "__proto__=1",
        "show=constructor",
        "=&&&=%",
        "tour=6",
        "layers=-1",
    ],
)
def test_nonsense_in_the_address_is_left_out(go, choices) -> None:
    seen = go(choices)
    assert "T=8&order=own" in seen.address()


def test_float32_in_ascending_order_loses_what_was_predicted(go) -> None:
    choices = "spectrum=uniform&kappa=1000&T=32&precision=float32&order=ascending&training=0"
    seen = go(f"{choices}&show=chebyshev")
    assert cell(seen, "chebyshev", "iterated") > 1e6 * cell(seen, "chebyshev", "error")
    assert "lose every digit" in seen.page.locator("#verdict").inner_text()
    move(seen, "order", "own")
    assert cell(seen, "chebyshev", "iterated") == pytest.approx(
        cell(seen, "chebyshev", "error"), rel=1e-2
    )


def test_schedules_are_chosen_by_keyboard(go) -> None:
    seen = go()
    seen.page.get_by_role("checkbox", name="silver").focus()
    seen.page.keyboard.press("Space")
    seen.page.wait_for_selector('#numbers tr[data-family="silver"]')
    seen.page.get_by_label("Period T").focus()
    seen.page.keyboard.press("ArrowRight")
    seen.page.wait_for_url("**T=9*")


# The lesson


STEPS = {
    1: "The zig-zag",
    2: "Why it zig-zags",
    3: "What the steps are",
    4: "Best for the worst, best on average",
    5: "The order decides",
}


def shown_families(seen) -> list[str]:
    rows = seen.page.locator("#numbers tr")
    return rows.evaluate_all("rows => rows.map((row) => row.dataset.family)")


def test_the_page_opens_on_the_zig_zag(go) -> None:
    seen = go()
    assert seen.page.locator("#tour-title").inner_text() == STEPS[1]
    assert seen.page.locator("#tour-links a[aria-current]").inner_text() == STEPS[1]
    (layers, steps), _ = drawn(seen, "steps-figure")
    assert layers == list(range(1, 9))
    # Every second step is longer than both its neighbours, and they close in on the middle.
    assert (np.diff(np.sign(np.diff(steps))) != 0).all()
    assert (np.diff(np.abs(np.diff(steps))) < 0).all()
    (_, errors), *_ = drawn(seen, "convergence-figure")
    assert max(errors) > 2
    assert errors[8] < 0.2 * cell(seen, "constant", "error")


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_trained_layers_go_back_to_a_stage_of_the_training(go, layers) -> None:
    seen = go("show=learned,optimal&view=taken")
    move(seen, "layers", str(layers))
    (places, _), _ = drawn(seen, "steps-figure")
    assert (len(places), f"layers={layers}&" in seen.address()) == (layers, True)
    text = seen.page.locator("#verdict").inner_text()
    assert f"With {layers} of 8 layers trained, the learned steps are" in text
    # As many optimal steps leave (1 − r) rᵀ / (1 − rᵀ⁺¹), r = 1/2.
    least = 0.5 ** (layers + 1) / (1 - 0.5 ** (layers + 1))
    assert least * (1 - 1e-9) <= cell(seen, "learned", "error") <= 1.1 * least
    move(seen, "layers", "8")
    assert len(drawn(seen, "steps-figure")[0][1]) == 8
    assert "layers=0&" in seen.address()


def test_a_shorter_period_keeps_the_slider_within_its_layers(go) -> None:
    seen = go("T=8&layers=6&show=learned")
    move(seen, "period", "3")
    assert seen.page.locator("#layers-value").inner_text() == "3 of 3"
    assert len(drawn(seen, "steps-figure")[0][1]) == 3


@pytest.mark.parametrize("number", STEPS)
def test_a_link_restores_a_step_of_the_tour_as_the_buttons_reach_it(go, number) -> None:
    seen = go()
    for _ in range(number - 1):
        before = drawings(seen)
        seen.page.get_by_role("button", name="Next").click()
        wait_until_drawn(seen, before)
    by_buttons = seen.address(), drawn(seen, "steps-figure"), shown_families(seen)
    linked = go(f"tour={number}")
    assert linked.page.locator("#tour-title").inner_text() == STEPS[number]
    assert (linked.address(), drawn(linked, "steps-figure"), shown_families(linked)) == by_buttons
    assert linked.page.get_by_role("button", name="Back").is_disabled() == (number == 1)
    assert linked.page.get_by_role("button", name="Next").is_disabled() == (number == 5)


def test_the_list_of_steps_is_a_list_of_links(go) -> None:
    seen = go()
    links = seen.page.locator("#tour-links a")
    assert links.all_inner_texts() == list(STEPS.values())
    before = drawings(seen)
    links.nth(4).click()
    wait_until_drawn(seen, before)
    assert seen.address().endswith("&tour=5")
    assert "lose every digit" in seen.page.locator("#verdict").inner_text()


def test_what_a_step_of_the_tour_says_is_so(go) -> None:
    seen = go("tour=3")
    learned, chebyshev, optimal = (np.array(steps) for _, steps in drawn(seen, "steps-figure"))
    assert np.abs(np.log(learned / chebyshev))[:6].max() < 0.2
    assert learned[-1] < optimal[-1] < chebyshev[-1]
    move(seen, "training", "2000")
    longer = np.array(drawn(seen, "steps-figure")[0][1])
    assert np.abs(np.log(longer / optimal)).max() < np.abs(np.log(learned / optimal)).max()
    seen = go("tour=4")
    assert cell(seen, "chebyshev", "worst") < cell(seen, "optimal", "worst")
    assert cell(seen, "optimal", "error") < cell(seen, "chebyshev", "error")
    seen = go("tour=5")
    assert cell(seen, "chebyshev", "iterated") > 1e6 * cell(seen, "chebyshev", "error")
    move(seen, "order", "own")
    assert seen.page.locator("#tour-title").inner_text() == STEPS[5]
    error = cell(seen, "chebyshev", "error")
    assert cell(seen, "chebyshev", "iterated") == pytest.approx(error, rel=1e-2)


def test_the_tour_is_ended_and_taken_again_by_keyboard(go) -> None:
    seen = go("tour=2")
    seen.page.get_by_role("button", name="End the tour").press("Enter")
    seen.page.wait_for_selector("#tour", state="hidden")
    assert seen.page.evaluate("document.activeElement.id") == "start-tour"
    seen.page.keyboard.press("Enter")
    seen.page.wait_for_selector("#tour", state="visible")
    assert seen.page.evaluate("document.activeElement.id") == "tour-title"
    # The address follows once the page has drawn.
    seen.wait_until("location.hash.endsWith('&tour=1')")


def test_how_to_read_the_page_is_one_button_away(go) -> None:
    seen = go()
    seen.page.get_by_role("button", name="How to read this page").click()
    assert seen.page.locator("#reading").evaluate("details => details.open")
    words = seen.page.locator("#reading").inner_text()
    assert all(word in words for word in ("Trained layers", "The tour has five steps", "Copy link"))
    seen.page.locator("#reading").evaluate("details => { details.open = false; }")


@pytest.mark.parametrize("number", STEPS)
def test_a_step_of_the_tour_fits_a_phone_and_is_accessible(visit, page, number) -> None:
    seen = opened(visit, page, f"tour={number}", width=390, dark=number % 2 == 1)
    seen.assert_quiet()
    seen.assert_no_sideways_scroll()
    seen.assert_accessible()


def test_a_page_of_a_run_opens_on_its_steps_without_the_tour(visit, hostile) -> None:
    seen = visit(hostile)
    wait_until_drawn(seen)
    assert not seen.page.locator("#tour").is_visible()
    assert "run" in shown_families(seen)
    assert "view=taken" in seen.address()


def test_hostile_text_is_shown_and_not_run(visit, hostile) -> None:
    seen = opened(visit, hostile)
    assert seen.page.title() == f"{HOSTILE} · stepfold"
    assert seen.page.locator("#subject").inner_text() == HOSTILE
    assert HOSTILE in seen.page.locator("#source").inner_text()
    assert HOSTILE in seen.page.locator("#families").inner_text()
    seen.page.get_by_role("button", name="Python lines").click()
    assert HOSTILE in seen.page.locator("#python-lines").inner_text()
    assert seen.page.locator("img").count() == 0
    seen.assert_quiet()


def test_a_run_shows_what_it_had_learned_at_each_depth(visit, hostile) -> None:
    seen = opened(visit, hostile, "show=run&view=taken")
    assert drawn(seen, "steps-figure") == [[[1, 2, 3], [0.9, 0.05, 0.3]]]
    move(seen, "period", "2")
    assert drawn(seen, "steps-figure") == [[[1, 2], [0.6, 0.04]]]


@pytest.mark.parametrize("values", [[3.0], [1.0, 4.0], [1.0, 50.0, 100.0]])
def test_few_eigenvalues_are_no_accident(visit, tmp_path, values) -> None:
    measured = spectrum_of_measure(SpectralMeasure.from_eigenvalues(values), [], "few")
    seen = opened(visit, write(tmp_path, Subject("few", measured)), f"T=8&{SHOWN}")
    verdict = seen.page.locator("#verdict").inner_text()
    assert ("one step solves it" if len(values) == 1 else "distinct eigenvalues") in verdict
    assert "NaN" not in verdict
    assert "undefined" not in verdict
    assert cell(seen, "optimal", "error") < 1e-20
    seen.assert_quiet()


SHOWN = "show=learned,chebyshev,optimal,constant,second-kind,fourth-kind,silver"


@pytest.mark.parametrize(
    "choices",
    [
        f"T=5&training=100&{SHOWN}",
        f"T=5&training=100&layers=3&{SHOWN}",
        f"spectrum=uniform&kappa=1000&T=12&precision=float32&order=ascending&training=0&{SHOWN}",
        f"spectrum=two-clusters&kappa=40&width=0.2&T=6&noise=0.01&training=100&order=leja&{SHOWN}",
    ],
)
def test_the_python_lines_give_the_numbers_shown(go, choices) -> None:
    seen = go(choices)
    seen.page.get_by_role("button", name="Python lines").click()
    lines = seen.page.locator("#python-lines").inner_text()
    seen.page.keyboard.press("Escape")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(lines, {"__name__": "__main__"})
    rows = [line.split("\t") for line in printed.getvalue().splitlines()]
    families = seen.page.locator("#numbers tr").evaluate_all(
        "rows => rows.map(r => r.dataset.family)"
    )
    assert len(rows) == len(families) >= 6
    for family, (_, *numbers) in zip(families, rows, strict=True):
        shown = [
            cell(seen, family, key) for key in ("error", "iterated", "worst", "heads", "tails")
        ]
        np.testing.assert_allclose(shown, [float(number) for number in numbers], rtol=1e-9)


def test_no_text_of_the_page_is_left_unfilled(page) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"\{(policy|title|style|data|plotly|script|version)\}", text) == []
    assert text.count("<script") - text.count('"<script') >= 3
