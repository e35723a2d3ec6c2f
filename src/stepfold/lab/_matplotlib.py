"""Draws figures with matplotlib, without touching its global state."""

from __future__ import annotations

import dataclasses
import html
import io
import textwrap
from typing import Any

from stepfold._extras import not_installed

try:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas
    from matplotlib.image import imsave
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
except ModuleNotFoundError as error:
    raise not_installed("figures need matplotlib", "lab", error) from error

from stepfold.lab.figure import Axis, Figure
from stepfold.lab.picture import Image, Pictures
from stepfold.lab.roles import (
    DASHES,
    INK,
    LEVEL,
    LEVEL_DASHES,
    MARKERS,
    MOST_MARKERS,
    full_number,
    level_style,
    styles,
    variables,
)

ROUND = (1, 2, 5, 10)
# Inches. The narrow one has letters of the same size in a column of a phone.
WIDE, NARROW = 7.2, 3.9
# Ratio of the ends of a logarithmic axis from which 1, 2 and 5 do not fit on the narrow one.
NARROW_SPAN = 60.0
# Inches of the canvas beside a title, and of a letter of it.
BESIDE_TITLE, TITLE_LETTER = 0.75, 0.09
# The same of the legend's labels.
BESIDE_LABEL, LABEL_LETTER = 0.55, 0.075
SETTINGS: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "stepfold",  # the same figure gives the same file
}


def draw(figure: Figure | Pictures, width: float = WIDE) -> Canvas:
    """Return a matplotlib figure; curves are drawn ``width`` inches wide."""
    with mpl.rc_context(SETTINGS):
        if isinstance(figure, Pictures):
            return _draw_pictures(figure)
        return _draw_curves(figure, width)


def _draw_curves(figure: Figure, width: float) -> Canvas:
    longest = int((width - BESIDE_LABEL) / LABEL_LETTER)
    labels = [textwrap.fill(name, longest, break_long_words=False) for name in figure.labels]
    # As many columns as the longest label leaves room for; the canvas grows by the legend's rows,
    # so that axes and legend are at one place in every figure.
    columns = max(
        1, min(4, int((width - 0.2) / (BESIDE_LABEL + LABEL_LETTER * max(map(len, labels)))))
    )
    lines = len(labels) + sum(label.count("\n") for label in labels)
    rows = -(-lines // columns) if len(labels) > 1 else 0
    # No line ends within an equation.
    words = figure.title.replace(" = ", "\u00a0=\u00a0")
    title = textwrap.wrap(words, int((width - BESIDE_TITLE) / TITLE_LETTER)) or [""]
    height = (4.0 if width >= WIDE else 3.2) + 0.235 * rows + 0.2 * (len(title) - 1)
    canvas = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(canvas)
    axes: Any = canvas.add_subplot()
    _plot(axes, figure, scale=1.0)
    axes.set_title(_literal("\n".join(title)))
    # Beside the ticks and their labels, as wide or as high as the axes.
    for drawn, axis, room in ((axes.xaxis, figure.x, width), (axes.yaxis, figure.y, height)):
        letters = int((room - BESIDE_TITLE) / LABEL_LETTER)
        drawn.set_label_text(_literal(textwrap.fill(axis.label, letters, break_long_words=False)))
    if width < WIDE:
        _thin_out(axes.xaxis, figure.x)
    if rows:
        # Below the axes: inside it would hide a curve in one figure or another.
        handles = axes.get_legend_handles_labels()[0]
        drawn = [_literal(label) for label in labels]
        canvas.legend(handles, drawn, loc="outside lower left", ncols=columns)
    return canvas


def _plot(axes: Any, figure: Figure, *, scale: float, ink: str = INK[0]) -> None:
    for curve, style in zip(figure.curves, styles(c.role for c in figure.curves), strict=True):
        colour = ink if style.light == INK[0] else style.light
        if curve.band is not None:
            axes.fill_between(curve.x, *curve.band, color=colour, alpha=0.2, linewidth=0, zorder=1)
        axes.plot(
            curve.x,
            curve.y,
            label=_literal(curve.label),
            color=colour,
            linestyle="none" if curve.style == "points" else DASHES[style.dash][0],
            marker=None if curve.style == "line" else MARKERS[style.marker][0],
            markersize=4.5 * scale,
            markevery=max(1, curve.x.size // MOST_MARKERS) if curve.style == "both" else None,
            linewidth=(2.2 if curve.emphasis else 1.4) * scale,
            zorder=3 if curve.emphasis else 2,
        )
    for index, level in enumerate(figure.levels):
        axes.axhline(
            level.value,
            label=_literal(level.label),
            color=level_style(level.label)[0],
            linestyle=LEVEL_DASHES[index % len(LEVEL_DASHES)][0],
            zorder=1,
        )
    if figure.counts:
        axes.xaxis.set_major_locator(
            MaxNLocator(integer=True, steps=ROUND)
        )  # layers, not halves of them
    _scale(axes.xaxis, figure.x, axes.set_xscale, axes.set_xlim)
    _scale(axes.yaxis, figure.y, axes.set_yscale, axes.set_ylim)


def _draw_pictures(figure: Pictures) -> Canvas:
    images = figure.images
    columns = min(len(images), 3)
    rows = -(-len(images) // columns)
    height, width = images[0].pixels.shape
    side = 7.2 / columns
    canvas = Canvas(figsize=(7.2, rows * (side * height / width + 0.4) + 0.4), layout="constrained")
    FigureCanvasAgg(canvas)
    for index, image in enumerate(images):
        axes: Any = canvas.add_subplot(rows, columns, index + 1)
        axes.imshow(image.pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(_literal(image.label), fontsize=9)
    canvas.suptitle(_literal(figure.title), x=0.01, ha="left")
    return canvas


def thumbnail(figure: Figure | Pictures) -> bytes:
    """Return a small PNG without words, to be recognised in a list, on a light page or a dark."""
    with mpl.rc_context({**SETTINGS, "axes.grid": False}):
        canvas = Canvas(figsize=(3.2, 1.8))
        FigureCanvasAgg(canvas)
        if isinstance(figure, Pictures):
            axes: Any = canvas.add_axes((0, 0, 1, 1))
            axes.imshow(figure.images[-1].pixels, cmap="gray", vmin=0, vmax=255)
            axes.set_axis_off()
        else:
            axes = canvas.add_axes((0.04, 0.06, 0.92, 0.9))
            # Grey of equal contrast to white and to black.
            _plot(axes, figure, scale=0.8, ink=LEVEL[0])
            for spine in axes.spines.values():
                spine.set_color(LEVEL[0])
            axes.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="png", dpi=150, transparent=True)
        return buffer.getvalue()


def _literal(text: str) -> str:
    # A dollar would start a formula, and half a formula is an error.
    return text.replace("$", r"\$")


def _scale(drawn: Any, axis: Axis, set_scale: Any, set_limits: Any) -> None:
    low, high = drawn.get_data_interval()
    if axis.log and high > 0:
        set_scale("log")
        if not low > 0:
            low = drawn.get_minpos()
        ends = low, high
        low, high = axis.limits(low, high)
        if (low, high) != ends or axis.floor is not None:
            set_limits(low, high if high < ends[1] else high * (high / low) ** 0.05)
        if high < 1e3 * low:
            # Within three decades the powers of ten are too few to read values from; within one,
            # even their double and fivefold.
            near = high < 8 * low
            drawn.set_major_locator(
                MaxNLocator(6, steps=ROUND) if near else LogLocator(subs=(1, 2, 5))
            )
            drawn.set_major_formatter(FuncFormatter(lambda value, _: full_number(value)))
            drawn.set_minor_formatter(NullFormatter())


def _thin_out(drawn: Any, axis: Axis) -> None:
    """Fewer ticks where their labels would touch: of a logarithmic axis, the powers of ten."""
    if not axis.log:
        drawn.get_major_locator().set_params(nbins=5)
    low, high = drawn.get_view_interval()
    if axis.log and low > 0 and high > NARROW_SPAN * low and high < 1e3 * low:
        drawn.set_major_locator(LogLocator())


def to_bytes(figure: Figure | Pictures, kind: str) -> bytes:
    """Return the drawing as a file of ``kind`` "png", "pdf" or "svg"."""
    # Without dates two runs of one experiment give the same files.
    metadata = {"png": None, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[kind]
    with mpl.rc_context(SETTINGS):
        buffer = io.BytesIO()
        draw(figure).savefig(buffer, format=kind, dpi=150, metadata=metadata)
        return buffer.getvalue()


def to_png(image: Image) -> bytes:
    """Return an image's pixels as they are, as a PNG file."""
    buffer = io.BytesIO()
    imsave(buffer, image.pixels, cmap="gray", vmin=0, vmax=255, format="png")
    return buffer.getvalue()


def to_html(figure: Figure) -> str:
    """Return an element for a notebook or a page of the documentation, with its colours.

    It holds two drawings. The page shows the one that suits its width, in the colours of its theme.
    """
    colours = [
        " ".join(f"{name}: {pair[theme]};" for name, pair in variables().items())
        for theme in (0, 1)
    ]
    name = "stepfold-figure"
    dark = f'html[data-theme="dark"] .{name}, body[data-jp-theme-light="false"] .{name}'
    style = (
        f".{name} {{ {colours[0]} margin: 0; max-width: 50rem; }} {dark} {{ {colours[1]} }} "
        f".{name} svg {{ width: 100%; height: auto; fill: currentColor; }} "
        f".{name} svg.narrow {{ display: none; }} "
        f"@media (max-width: 600px) {{ .{name} svg.wide {{ display: none; }} "
        f".{name} svg.narrow {{ display: block; }} }}"
    )
    return f'<figure class="{name}"><style>{style}</style>{to_drawings(figure)}</figure>'


def to_drawings(figure: Figure) -> str:
    """Return two SVG elements, of classes "wide" and "narrow"; a page's style sheet shows one."""
    return "".join(
        to_themed_svg(dataclasses.replace(figure, name=f"{figure.name}-{kind}"), width).replace(
            "<svg", f'<svg class="{kind}" role="img" aria-label="{html.escape(figure.alt)}"', 1
        )
        for kind, width in (("wide", WIDE), ("narrow", NARROW))
    )


def to_themed_svg(figure: Figure, width: float = WIDE) -> str:
    """Return an SVG element that takes its ink and the colours of `roles.css` from the page.

    Its ids start with the figure's name, so that a page can hold several.
    """
    with mpl.rc_context({**SETTINGS, "grid.color": LEVEL[0], "grid.alpha": 0.35}):
        buffer = io.BytesIO()
        canvas = draw(figure, width)
        canvas.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    svg = buffer.getvalue().decode()
    svg = svg[svg.index("<svg") :]
    # Ids are counted from the same salt in every figure.
    for reference in ('id="', "url(#", 'href="#'):
        svg = svg.replace(reference, f"{reference}{figure.name}-")
    for variable, (light, _) in variables().items():
        svg = svg.replace(light, f"var({variable})") if light != INK[0] else svg
    return svg.replace(INK[0], "currentColor")
