"""Figures, checks and outcomes as data, and their drawing."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from stepfold.lab import (
    Axis,
    Check,
    Curve,
    Figure,
    Image,
    Level,
    Outcome,
    Pictures,
    Section,
    Table,
)
from stepfold.lab._matplotlib import NARROW, WIDE, draw, to_bytes
from stepfold.lab._table import to_csv
from stepfold.lab.site.interactive import interactive
from stepfold.lab.site.traces import to_plotly

HOSTILE = "<script>alert(1)</script> & \"quotes\" 'single' $x^{ $ --> ]]> \\frac _under 日本"
# matplotlib has no glyphs for Japanese in its own font and says so.
PRINTABLE = HOSTILE.replace("日本", "é")


def _figure(**changes) -> Figure:
    fields = {
        "name": "one",
        "title": "title",
        "alt": "what it shows",
        "curves": (Curve("first", np.arange(1.0, 4.0), np.array([1.0, 10.0, 100.0])),),
        "x": Axis("x"),
        "y": Axis("y"),
    }
    return Figure(**{**fields, **changes})


def _outcome(**changes) -> Outcome:
    fields = {"name": "n", "title": "t", "summary": "s", "sections": ()}
    return Outcome(**{**fields, **changes})


def test_a_curve_copies_its_data() -> None:
    y = np.array([1.0, 2.0])
    curve = Curve("c", np.array([0.0, 1.0]), y)
    y[0] = 99.0
    assert curve.y.tolist() == [1.0, 2.0]


def test_gaps_are_none_in_json() -> None:
    curve = Curve("c", np.arange(3.0), np.array([1.0, np.nan, np.inf]))
    assert json.loads(json.dumps(curve.to_dict(), allow_nan=False))["y"] == [1.0, None, None]


def test_curves_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`y` must have the shape of `x`, \(3,\), got \(2,\)"):
        Curve("c", np.arange(3.0), np.arange(2.0))


def test_unknown_styles_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`style` must be one of line, points, both, got 'dots'"):
        Curve("c", np.arange(3.0), np.arange(3.0), style="dots")


def test_a_figure_without_curves_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`curves` must hold at least one curve"):
        _figure(curves=())


@pytest.mark.parametrize("name", ["", "../up", "a/b", 'a"b', "<b>", "a b", "a.b", "/etc"])
def test_names_unfit_for_a_file_are_refused(name) -> None:
    with pytest.raises(ValueError, match=r"`name` becomes a file's name"):
        _figure(name=name)


@pytest.mark.parametrize("path", ["", "../up", "/etc/x", "a/../b", "a//b", "a/", 'a"b'])
def test_records_that_lead_out_of_the_folder_are_refused(path) -> None:
    with pytest.raises(ValueError, match=r"a record's path must be names"):
        _outcome(records={path: 1})


def test_two_figures_of_one_name_are_refused() -> None:
    sections = (Section("a", (), _figure()), Section("b", (), _figure()))
    with pytest.raises(ValueError, match=r"figures must have different names, got one, one"):
        _outcome(sections=sections)


def test_rows_of_the_wrong_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a row must have 2 cells"):
        Table(("a", "b"), (("1",),))


@pytest.mark.parametrize(("lower", "upper"), [(-np.inf, np.inf), (2.0, 1.0), (np.nan, 1.0)])
def test_a_check_that_cannot_fail_or_cannot_pass_is_refused(lower, upper) -> None:
    with pytest.raises(ValueError, match=r"a check must be able to fail"):
        Check("claim", "expected", 1.0, lower, upper)


@pytest.mark.parametrize(
    ("measured", "passed"),
    [(1.0, True), (1.01, True), (1.02, False), (0.98, False), (np.nan, False), (np.inf, False)],
)
def test_a_check_passes_between_its_limits_only(measured, passed) -> None:
    check = Check.close("claim", 1.0, measured, rtol=0.01)
    assert check.passed is passed
    assert check.verdict == ("pass" if passed else "FAIL")
    record = json.loads(json.dumps(check.to_dict(), allow_nan=False))
    assert record["measured"] == (measured if np.isfinite(measured) else None)


@pytest.mark.parametrize("measured", [[True], [True, False], []])
def test_an_outcome_passes_if_all_its_checks_do(measured) -> None:
    checks = [Check("c", "e", float(ok), lower=0.5) for ok in measured]
    assert _outcome(checks=checks).passed is all(measured)


@pytest.mark.parametrize(
    ("measured", "most", "least", "count"),
    [
        (1.0, True, True, True),
        (1 + 1e-12, True, True, False),
        (0.99, True, False, False),
        (1.01, False, True, False),
        (np.nan, False, False, False),
        (np.inf, False, True, False),
    ],
)
def test_limits_allow_for_rounding_and_counts_do_not(measured, most, least, count) -> None:
    made = [Check.at_most, Check.at_least, Check.count]
    passed = [make("c", 1, measured, "theory").passed for make in made]
    assert passed == [most, least, count]


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_drawing_twice_gives_the_same_bytes(kind) -> None:
    assert to_bytes(_figure(), kind) == to_bytes(_figure(), kind)


@pytest.mark.parametrize(
    "y",
    [[1.0, 10.0, 1e5], [0.0, 1.0, 2.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -3.0], [5.0, 5.0, 5.0]],
    ids=["positive", "with zero", "zeros", "negative", "constant"],
)
@pytest.mark.parametrize("floor", [None, 1e-3])
def test_any_data_is_drawn_on_a_logarithmic_axis(y, floor) -> None:
    curve = Curve("c", np.array([1.0, 2.0, 3.0]), np.array(y), style="both")
    assert to_bytes(_figure(curves=(curve,), y=Axis("y", log=True, floor=floor)), "svg")


@pytest.mark.parametrize("length", [1, 2])
def test_short_curves_are_drawn(length) -> None:
    curve = Curve("c", np.arange(1.0, 1.0 + length), np.ones(length), style="points")
    assert to_bytes(_figure(curves=(curve, curve), x=Axis("x", log=True)), "png")


def test_gaps_are_drawn_as_gaps() -> None:
    curve = Curve("c", np.arange(4.0), np.array([1.0, np.nan, 3.0, np.inf]))
    assert to_bytes(_figure(curves=(curve,)), "svg")


def test_a_band_is_drawn_behind_its_curve_and_kept_in_the_table() -> None:
    x, y = np.arange(1.0, 4.0), np.array([2.0, 4.0, 8.0])
    figure = _figure(curves=(Curve("c", x, y, band=(y / 2, 2 * y)), Curve("d", x, y)))
    (band,) = draw(figure).axes[0].collections
    assert band.get_paths()[0].get_extents().get_points().tolist() == [[1.0, 1.0], [3.0, 16.0]]
    assert to_csv(figure).splitlines()[:2] == ["curve,x,y,smallest,largest", "c,1.0,2.0,1.0,4.0"]


def test_a_band_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`band` must have the shape of `x`, \(3,\), got \(2,\)"):
        Curve("c", np.arange(3.0), np.arange(3.0), band=(np.zeros(2), np.ones(3)))


def test_titles_and_labels_are_drawn_as_they_are() -> None:
    curve = Curve(PRINTABLE, np.arange(3.0), np.arange(3.0))
    figure = _figure(title=PRINTABLE, curves=(curve, curve), x=Axis(PRINTABLE), y=Axis(PRINTABLE))
    svg = to_bytes(figure, "svg").decode()
    assert "<script" not in svg


def test_many_curves_are_told_apart_by_colour_or_dash() -> None:
    curves = tuple(Curve(str(k), np.arange(3.0), k + np.arange(3.0)) for k in range(7))
    lines = draw(_figure(curves=curves)).axes[0].lines
    assert len({(line.get_color(), str(line._dash_pattern)) for line in lines}) == 7


@pytest.mark.parametrize("top", [1.2, 1.9, 7.0, 30.0, 900.0, 1e9])
def test_a_logarithmic_axis_has_ticks_to_read_values_from(top) -> None:
    curve = Curve("c", np.array([1.0, 2.0]), np.array([1.1, 1.1 * top]))
    axes = draw(_figure(curves=(curve,), y=Axis("y", log=True))).axes[0]
    low, high = axes.get_ylim()
    assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 2


def test_a_long_curve_has_few_markers() -> None:
    x = np.arange(1.0, 501.0)
    figure = _figure(curves=[Curve(style, x, x, style) for style in ("both", "points")])
    both, points = draw(figure).axes[0].lines
    assert (both.get_markevery(), points.get_markevery()) == (12, None)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_pictures_are_drawn(count, kind) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    images = [Image(PRINTABLE, pixels)] * count
    assert to_bytes(Pictures("p", PRINTABLE, "alt", images), kind)


def test_a_notebook_is_shown_the_drawing() -> None:
    figure = _figure(levels=(Level(PRINTABLE, 3.0), Level("second", 4.0)))
    assert figure._repr_png_() == to_bytes(figure, "png")


def test_a_page_is_given_a_drawing_for_wide_and_one_for_narrow_columns() -> None:
    figure = _figure(alt=HOSTILE, title=PRINTABLE, levels=(Level("bound", 3.0),))
    page = ElementTree.fromstring(figure._repr_html_())
    drawings = page.findall("{http://www.w3.org/2000/svg}svg")
    assert [drawing.get("class") for drawing in drawings] == ["wide", "narrow"]
    assert {drawing.get("aria-label") for drawing in drawings} == {HOSTILE}
    ids = [element.get("id") for element in page.iter() if element.get("id")]
    assert len(ids) == len(set(ids)) > 0
    widths = [float(drawing.get("viewBox").split()[2]) for drawing in drawings]
    assert widths == [pytest.approx(72 * WIDE), pytest.approx(72 * NARROW)]


def test_the_words_of_a_narrow_drawing_are_within_it() -> None:
    figure = _figure(
        title="A title that is far too long for one line of a drawing as narrow as a phone",
        curves=[
            Curve(
                f"a curve whose label is longer than one line of a drawing, {k}",
                np.arange(1.0, 4.0),
                np.ones(3) * k,
            )
            for k in range(3)
        ],
    )
    canvas = draw(figure, NARROW)
    canvas.canvas.draw()
    (legend,) = canvas.legends
    for words in (
        *legend.get_texts(),
        canvas.axes[0].xaxis.label,
        canvas.axes[0]._left_title,
    ):
        box = words.get_window_extent()
        assert canvas.bbox.x0 <= box.x0 <= box.x1 <= canvas.bbox.x1
        assert canvas.bbox.y0 <= box.y0 <= box.y1 <= canvas.bbox.y1


def test_levels_are_told_apart() -> None:
    figure = _figure(levels=(Level("first", 3.0), Level("second", 4.0)))
    lines = draw(figure).axes[0].lines[1:]
    assert len({line.get_linestyle() + str(line._dash_pattern) for line in lines}) == 2


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    to_bytes(_figure(), "png")
    assert dict(mpl.rcParams) == before


# Ceilings


def _diverging(ceiling: float | None, largest: float = 1e74) -> Figure:
    x = np.arange(1.0, 5.0)
    curves = (Curve("falls", x, 0.1**x), Curve("grows", x, np.geomspace(1.0, largest, 4)))
    return Figure("f", "t", "a", curves, Axis("x"), Axis("y", log=True, ceiling=ceiling))


def test_a_ceiling_cuts_the_axis_of_every_renderer() -> None:
    figure = _diverging(100.0)
    assert draw(figure).axes[0].get_ylim()[1] == pytest.approx(100.0)
    low, high = to_plotly(figure)["layout"]["yaxis"]["range"]
    assert low == pytest.approx(-4)
    assert 2 <= high < 3
    for text in (interactive(figure), " ".join(figure.labels)):
        assert "grows (leaves the figure, up to 10⁷⁴)" in text
        assert "falls (" not in text
    legend = " ".join(text.get_text() for text in draw(figure).legends[0].get_texts())
    assert "leaves the figure" in legend


@pytest.mark.parametrize("figure", [_diverging(None), _diverging(1e3, largest=10.0)])
def test_a_ceiling_above_all_values_changes_nothing(figure) -> None:
    assert figure.labels == ["falls", "grows"]
    assert "range" not in to_plotly(figure)["layout"]["yaxis"]


def test_what_grows_beyond_all_numbers_is_named() -> None:
    x = np.arange(1.0, 4.0)
    curve = Curve("grows", x, [1.0, np.inf, np.nan])
    figure = Figure("f", "t", "a", (curve,), Axis("x"), Axis("y", log=True, ceiling=10.0))
    assert figure.labels == ["grows (leaves the figure, beyond all numbers)"]


@pytest.mark.parametrize("ceiling", [0.0, -1.0, np.inf, np.nan])
def test_a_ceiling_that_is_no_positive_number_is_refused(ceiling) -> None:
    with pytest.raises(ValueError, match=r"`ceiling` must be .* cuts a logarithmic axis"):
        Axis("y", log=True, ceiling=ceiling)


def test_a_floor_above_the_ceiling_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`floor` must be below `ceiling`, got 2\.0 and 1\.0"):
        Axis("y", log=True, floor=2.0, ceiling=1.0)


def test_words_of_the_narrow_drawing_stay_on_its_canvas() -> None:
    x = np.arange(1.0, 5.0)
    label = "rank, from the shortest step (0) to the longest step (1), both of them included"
    figure = Figure("f", "t", "a", (Curve("c", x, x),), Axis(label), Axis(label))
    canvas = draw(figure, NARROW)
    canvas.draw_without_rendering()
    width, height = canvas.get_size_inches() * canvas.dpi
    for axis in (canvas.axes[0].xaxis, canvas.axes[0].yaxis):
        box = axis.label.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
