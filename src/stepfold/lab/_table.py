"""A figure's numbers as comma-separated values, for spreadsheets and for readers without eyes."""

from __future__ import annotations

import csv
import io
import math

import numpy as np

from stepfold.lab.figure import Figure
from stepfold.lab.picture import Pictures

# A spreadsheet takes a cell that starts with one of these for a formula, and would run it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_csv(figure: Figure | Pictures) -> str:
    """Return one line per point: curve, abscissa, ordinate; or per pixel: image, row, column, grey.

    Gaps are empty cells, and a level is a curve with no abscissa.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if isinstance(figure, Pictures):
        writer.writerow(("image", "row", "column", "grey"))
        for image in figure.images:
            for (row, column), grey in np.ndenumerate(image.pixels):
                writer.writerow((_cell(image.label), row, column, grey))
        return buffer.getvalue()
    writer.writerow(("curve", _cell(figure.x.label), _cell(figure.y.label)))
    for curve in figure.curves:
        for x, y in zip(curve.x.tolist(), curve.y.tolist(), strict=True):
            writer.writerow((_cell(curve.label), x, y if math.isfinite(y) else ""))
    for level in figure.levels:
        writer.writerow((_cell(level.label), "", level.value))
    return buffer.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
