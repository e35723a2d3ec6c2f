"""Draws a `Figure` with matplotlib, without touching its global state."""

from __future__ import annotations

import io
from typing import Any

try:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "figures need matplotlib, which is not installed; "
        "install it with `pip install 'stepfold[lab]'`",
        name=error.name,
    ) from error

from stepfold.lab.figure import Axis, Figure

# Okabe and Ito's palette: told apart by colour-blind readers; dashes and markers tell in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), "-")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

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


def draw(figure: Figure) -> Canvas:
    """Return a matplotlib figure."""
    with mpl.rc_context(SETTINGS):
        canvas = Canvas(figsize=(7.2, 4.4), layout="constrained")
        FigureCanvasAgg(canvas)
        axes: Any = canvas.add_subplot()
        for index, curve in enumerate(figure.curves):
            axes.plot(
                curve.x,
                curve.y,
                label=_literal(curve.label),
                color=COLOURS[index % len(COLOURS)],
                linestyle="none" if curve.style == "points" else DASHES[index % len(DASHES)],
                marker=None if curve.style == "line" else MARKERS[index % len(MARKERS)],
                markersize=4.5,
                linewidth=2.2 if curve.emphasis else 1.4,
                zorder=3 if curve.emphasis else 2,
            )
        _scale(axes.xaxis, figure.x, axes.set_xscale, axes.set_xlim)
        _scale(axes.yaxis, figure.y, axes.set_yscale, axes.set_ylim)
        axes.set_title(_literal(figure.title))
        if len(figure.curves) > 1:
            # Below the axes: inside it would hide a curve in one figure or another.
            long = sum(len(curve.label) for curve in figure.curves) > 60
            canvas.legend(loc="outside lower center", ncols=2 if long else 3)
        return canvas


def _literal(text: str) -> str:
    # A dollar would start a formula, and half a formula is an error.
    return text.replace("$", r"\$")


def _scale(drawn: Any, axis: Axis, set_scale: Any, set_limits: Any) -> None:
    drawn.set_label_text(_literal(axis.label))
    low, high = drawn.get_data_interval()
    if axis.log and high > 0:
        set_scale("log")
        if not low > 0:
            low = drawn.get_minpos()
        low = low if axis.floor is None else axis.floor
        if axis.floor is not None:
            set_limits(low, high * (high / low) ** 0.05)
        if high < 1e3 * low:
            # Within three decades the powers of ten are too few to read values from.
            drawn.set_major_locator(LogLocator(subs=(1, 2, 5)))
            drawn.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            drawn.set_minor_formatter(NullFormatter())


def to_bytes(figure: Figure, kind: str) -> bytes:
    """Return the drawing as a file of ``kind`` "png", "pdf" or "svg"."""
    # Without dates two runs of one experiment give the same files.
    metadata = {"png": None, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[kind]
    with mpl.rc_context(SETTINGS):
        buffer = io.BytesIO()
        draw(figure).savefig(buffer, format=kind, dpi=150, metadata=metadata)
        return buffer.getvalue()
