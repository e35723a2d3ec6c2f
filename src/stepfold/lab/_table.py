"""A figure's numbers as comma-separated values, for spreadsheets and for readers without eyes."""

from __future__ import annotations

import csv
import io
import math

from stepfold.lab.figure import Figure
from stepfold.lab.picture import Pictures

# A spreadsheet takes a cell that starts with one of these for a formula, and would run it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_csv(figure: Figure | Pictures) -> str:
    """Return one line per point: curve, abscissa, ordinate; or one line per row of pixels.

    Gaps are empty cells, and a level is a curve with no abscissa. Where a curve has a band, two
    more columns hold its ends.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if isinstance(figure, Pictures):
        columns = max(image.pixels.shape[1] for image in figure.images)
        writer.writerow(("image", "row", *range(columns)))
        for image in figure.images:
            for row, pixels in enumerate(image.pixels.tolist()):
                writer.writerow((_cell(image.label), row, *pixels))
        return buffer.getvalue()
    banded = any(curve.band is not None for curve in figure.curves)
    ends = ("smallest", "largest") if banded else ()
    writer.writerow(("curve", _cell(figure.x.label), _cell(figure.y.label), *ends))
    for curve in figure.curves:
        columns = (curve.x, curve.y, *(curve.band or ()))
        for point in zip(*(column.tolist() for column in columns), strict=True):
            values = (value if math.isfinite(value) else "" for value in point)
            writer.writerow((_cell(curve.label), *values))
    for level in figure.levels:
        writer.writerow((_cell(level.label), "", level.value))
    return buffer.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
