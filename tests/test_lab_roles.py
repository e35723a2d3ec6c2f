"""One role, one colour: the table, what is found from labels, and that every renderer obeys it."""

from __future__ import annotations

import itertools
import json
import re

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from stepfold import SpectralBounds
from stepfold.lab import Axis, Curve, Figure, Level
from stepfold.lab._matplotlib import draw, to_themed_svg
from stepfold.lab.explorer import explorer_page
from stepfold.lab.roles import (
    DASHES,
    LEVEL,
    MARKERS,
    ROLES,
    SERIES,
    css,
    full_number,
    level_style,
    role_of,
    styles,
    variables,
)
from stepfold.lab.site.interactive import interactive
from stepfold.lab.site.traces import to_plotly
from stepfold.schedules import SCHEDULES

METHODS = tuple(name for name in ROLES if name not in ("theory", "series"))
PAIRS = tuple(itertools.combinations(METHODS, 2))
# Machado, Oliveira and Fernandes (IEEE TVCG 15, 2009), severity 1, for linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def seen_as(colour: str, vision: str) -> np.ndarray:
    """CIELAB coordinates, D65."""
    rgb = np.clip(np.array(VISIONS[vision]) @ linear(colour), 0, 1)
    to_xyz = [[0.41246, 0.35758, 0.18044], [0.21267, 0.71515, 0.07218], [0.01933, 0.11919, 0.9503]]
    xyz = np.array(to_xyz) @ rgb / [0.95047, 1, 1.08883]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("role", ROLES)
def test_colours_stand_out_from_light_and_from_dark_pages(role) -> None:
    assert contrast(ROLES[role].light, "#ffffff") >= 3
    assert contrast(ROLES[role].dark, "#0d1117") >= 3
    assert contrast(ROLES[role].dark, "#181d24") >= 3


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("vision", VISIONS)
def test_roles_are_told_apart_by_colour_or_else_by_dash_and_marker(vision, theme) -> None:
    seen = {name: seen_as(getattr(ROLES[name], theme), vision) for name in METHODS}
    alike = [(a, b) for a, b in PAIRS if np.linalg.norm(seen[a] - seen[b]) < 15]
    assert [(a, b) for a, b in alike if ROLES[a].dash == ROLES[b].dash] == []
    assert [(a, b) for a, b in alike if ROLES[a].marker == ROLES[b].marker] == []


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_learned_chebyshev_and_optimal_steps_are_told_apart_by_colour_alone(vision, theme) -> None:
    seen = [
        seen_as(getattr(ROLES[role], theme), vision)
        for role in ("learned", "chebyshev", "optimal", "constant")
    ]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) >= 15


def test_no_two_methods_share_a_colour_or_a_marker() -> None:
    for shown in ("light", "dark", "marker"):
        assert len({getattr(ROLES[name], shown) for name in METHODS}) == len(METHODS)
    assert not {role.light for role in ROLES.values()} & {light for light, _ in SERIES[1:]}


@pytest.mark.parametrize(
    ("label", "role"),
    [
        ("learned (DUGD)", "learned"),
        ("learned, from theory", "learned"),
        ("TISTA, learned steps", "learned"),
        ("matrices learned, too (LISTA)", "learned"),
        ("trained exactly", "learned"),
        ("TPG detector", "learned"),
        ("TISTA, steps 1", "constant"),
        ("Chebyshev", "chebyshev"),
        ("Chebyshev relaxation, T = 8", "chebyshev"),
        ("ISTA, Chebyshev relaxation, T = 8, weight 0.1", "chebyshev"),
        ("first kind, from the matrix's bounds", "chebyshev"),
        ("relaxation, bounds found on the way", "chebyshev"),
        ("a = 0 (modified Richardson)", "chebyshev"),
        ("optimal", "optimal"),
        ("optimum of each matrix", "optimal"),
        ("smallest possible mean squared error", "optimal"),
        ("noise-aware", "optimal"),
        ("constant (GD)", "constant"),
        ("2/(a + b)", "constant"),
        ("step 1/λ_max", "constant"),
        ("ISTA, weight 0.25", "constant"),
        ("best constant relaxation", "constant"),
        ("Jacobi", "constant"),
        ("gradient descent (T = 1)", "constant"),
        ("FISTA, weight 0.25", "momentum"),
        ("FISTA, total variation", "momentum"),
        ("heavy ball", "momentum"),
        ("semi-iteration", "momentum"),
        ("second kind, from n/m alone", "second-kind"),
        ("second-kind, period 8", "second-kind"),
        ("fourth kind, T = 16", "fourth-kind"),
        ("silver", "silver"),
        ("optimised basic, F", "composed"),
        ("obs-g", "composed"),
        ("anytime", "composed"),
        ("arcsine", "arcsine"),
        ("Chebyshev, fourth kind, optimised", "optimised-fourth-kind"),
        ("optimised fourth-kind steps", "optimised-fourth-kind"),
        ("inverse upper bound", "constant"),
        ("conjugate gradients", "tool"),
        ("linear MMSE", "tool"),
        ("lower bound", "theory"),
        ("predicted, (1−r)rᵀ/(1−rᵀ⁺¹)", "theory"),
        ("seed 0", "series"),
        ("eigenvalues of HᵀH", "series"),
        ("", "series"),
    ],
)
def test_a_label_tells_the_role(label, role) -> None:
    assert role_of(label) == role


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_has_a_role_of_a_method(name) -> None:
    assert role_of(SCHEDULES[name](SpectralBounds(1.0, 10.0), 7).name) in METHODS


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("count", [2, 6])
def test_curves_of_one_role_share_its_colour_and_differ_in_dash_and_marker(role, count) -> None:
    drawn = styles([role] * count)
    if role != "series":
        assert {style.light for style in drawn} == {ROLES[role].light}
    assert len({style.dash for style in drawn}) == count
    assert len({style.marker for style in drawn}) == count
    assert (drawn[0].dash, drawn[0].marker) == (ROLES[role].dash, ROLES[role].marker)


def test_the_words_of_all_renderers_are_there_and_differ() -> None:
    for table in (DASHES, MARKERS):
        for renderer in range(3):
            words = [str(entry[renderer]) for entry in table.values()]
            assert len(set(words)) == len(table)


def every_role(**changes) -> Figure:
    x = np.arange(1.0, 4.0)
    curves = tuple(Curve(name, x, x * (k + 1), "both", role=name) for k, name in enumerate(ROLES))
    fields = {"curves": curves, "levels": (Level("gradient descent", 2.0), Level("other", 3.0))}
    return Figure("f", "t", "a", **{**fields, **changes}, x=Axis("x"), y=Axis("y"))


def test_matplotlib_obeys_the_table() -> None:
    lines = draw(every_role()).axes[0].lines
    for line, role in zip(lines, ROLES.values(), strict=False):
        assert (line.get_color(), line.get_marker()) == (role.light, MARKERS[role.marker][0])
    assert [line.get_color() for line in lines[-2:]] == [ROLES["constant"].light, LEVEL[0]]


def test_plotly_and_its_legend_obey_the_table() -> None:
    figure = every_role()
    traces = to_plotly(figure)["data"]
    for trace, (name, role) in zip(traces, ROLES.items(), strict=False):
        assert trace["line"]["color"] == trace["marker"]["color"] == f"--role-{name}"
        assert trace["line"]["dash"] == DASHES[role.dash][1]
        assert trace["marker"]["symbol"] == MARKERS[role.marker][1]
    samples = re.findall(r"<svg.*?</svg>", interactive(figure))
    for sample, (name, role) in zip(samples, ROLES.items(), strict=False):
        assert f'stroke="var(--role-{name})"' in sample
        assert MARKERS[role.marker][2] in sample
    assert "var(--role-constant)" in samples[-2]
    assert "var(--role-level)" in samples[-1]


def test_the_explorer_obeys_the_table() -> None:
    page = explorer_page()
    data = json.loads(page.split('<script type="application/json" id="data">')[1].split("<")[0])
    for name, style in data["styles"].items():
        role = "learned" if name == "run" else name
        assert style["variable"] == f"--role-{role}"
        if name != "run":
            assert style["dash"] == DASHES[ROLES[role].dash][1]
            assert style["symbol"] == MARKERS[ROLES[role].marker][1]
    assert css() in page


def test_a_report_takes_its_colours_from_the_page() -> None:
    svg = to_themed_svg(every_role())
    for name, role in ROLES.items():
        assert role.light not in svg
        if name not in ("theory", "series"):
            assert f"var(--role-{name})" in svg


def test_the_style_sheet_names_every_colour_for_light_and_dark() -> None:
    light, dark = css().split("@media")
    for name, pair in variables().items():
        assert f"{name}: {pair[0]};" in light
        assert f"{name}: {pair[1]};" in dark
    assert level_style("no method") == (LEVEL[0], "--role-level")


def test_a_role_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`role` must be one of learned, .*, got 'best'"):
        Curve("c", np.arange(2.0), np.arange(2.0), role="best")


def test_the_role_of_a_curve_is_its_labels_unless_given() -> None:
    x = np.arange(2.0)
    assert Curve("Chebyshev", x, x).role == "chebyshev"
    assert Curve("Chebyshev", x, x, role="learned").role == "learned"
    assert Curve.from_dict(Curve("step", x, x, role="learned").to_dict()).role == "learned"


def test_a_band_has_the_colour_of_its_curve() -> None:
    x = np.arange(1.0, 4.0)
    curve = Curve("learned", x, x, band=(x - 0.5, x + 0.5))
    figure = every_role(curves=(curve,), levels=())
    line, band = to_plotly(figure)["data"]
    assert band["line"]["color"] == line["line"]["color"] == "--role-learned"
    axes = draw(figure).axes[0]
    drawn = axes.collections[0].get_facecolor()[0]
    np.testing.assert_allclose(drawn, to_rgba(ROLES["learned"].light, 0.2))


# Ticks


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.001, "0.001"), (99999.0, "99999"), (1e5, "10⁵"), (2e-4, "2·10⁻⁴"), (-5e6, "−5·10⁶")],
)
def test_a_tick_is_a_full_number(value, text) -> None:
    assert full_number(value) == text


@pytest.mark.parametrize(("low", "high"), [(1e-6, 3e-5), (0.02, 3.0), (300.0, 9e4)])
def test_labels_of_a_logarithmic_axis_are_the_values_of_their_ticks(low, high) -> None:
    curve = Curve("c", np.array([1.0, 2.0]), np.array([low, high]))
    canvas = draw(Figure("f", "t", "a", (curve,), Axis("x"), Axis("y", log=True)))
    axes = canvas.axes[0]
    labels = [full_number(tick) for tick in axes.get_yticks()]
    shown = [text.get_text() for text in axes.get_yticklabels()]
    assert shown == labels
    assert all(text.get_text() == "" for text in axes.get_yticklabels(minor=True))


@pytest.mark.parametrize("count", [2, 5, 11, 25, 300])
def test_an_axis_of_layers_has_whole_numbers_only(count) -> None:
    layers = np.arange(1.0, count + 1)
    figure = Figure("f", "t", "a", (Curve("c", layers, layers),), Axis("layer"), Axis("y"))
    ticks = draw(figure).axes[0].get_xticks()
    assert (ticks == np.round(ticks)).all()
    assert to_plotly(figure)["layout"]["xaxis"]["whole"] is True


def test_an_axis_with_halves_or_logarithms_does_not_count() -> None:
    x = np.array([0.5, 1.0])
    assert not Figure("f", "t", "a", (Curve("c", x, x),), Axis("x"), Axis("y")).counts
    whole = (Curve("c", 2 * x, x),)
    assert not Figure("f", "t", "a", whole, Axis("x", log=True), Axis("y")).counts


@pytest.mark.parametrize("labels", [["a", "b"], [f"a long label, number {k}" for k in range(9)]])
def test_axes_and_legend_are_at_one_place_in_every_figure(labels) -> None:
    x = np.arange(3.0)
    curves = tuple(Curve(label, x, x) for label in labels)
    canvas = draw(Figure("f", "t", "a", curves, Axis("x"), Axis("y")))
    canvas.draw_without_rendering()
    height = canvas.axes[0].get_position().height * canvas.get_size_inches()[1]
    assert height == pytest.approx(3.3, abs=0.15)
    left = canvas.legends[0].get_window_extent().x0 / canvas.dpi
    assert left == pytest.approx(0.0, abs=0.15)
