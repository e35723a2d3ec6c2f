"""Lines of numbers as an array; the first line that is none is named."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from typing import IO, Any

import numpy as np


def read_lines(
    text: IO[str],
    num_columns: int,
    num_lines: int,
    delimiter: str | None,
    *,
    usecols: Sequence[int] | None = None,
    dtype: Any = float,
) -> Any:
    """The numbers in the rest of a text, shape (lines, columns); empty lines are passed over.

    Args:
        text: A file that can be read again, open behind ``num_lines`` lines.
        num_columns: Numbers on each line.
        num_lines: Lines before, for messages.
        delimiter: What stands between numbers; None for blanks.
        usecols: Columns to keep; all if not given.
        dtype: Type of the numbers.

    Raises:
        ValueError: If a line holds something else, with its number.
    """
    place = text.tell()
    try:
        table = np.loadtxt(
            text,
            dtype,
            comments=None if delimiter else "%",
            delimiter=delimiter,
            quotechar='"' if delimiter else None,
            usecols=usecols,
            ndmin=2,
        )
    except ValueError as error:
        text.seek(place)
        cells = csv.reader(text) if delimiter else (line.split() for line in text)
        kept = range(num_columns) if usecols is None else usecols
        fault = _first_fault(cells, num_columns, num_lines, kept, dtype)
        raise ValueError(fault or error) from None
    if usecols is None and table.size and table.shape[1] != num_columns:
        raise ValueError(
            f"line {num_lines + 1} has {table.shape[1]} values where {num_columns} are due"
        )
    return table.reshape(-1, num_columns) if usecols is None else table


def _first_fault(
    lines: Iterable[Sequence[str]],
    num_columns: int,
    num_lines: int,
    kept: Sequence[int],
    dtype: Any,
) -> str | None:
    """What is wrong with the first line that does not hold so many numbers."""
    for number, cells in enumerate(lines, num_lines + 1):
        if not cells or cells[0].startswith("%"):
            continue
        if len(cells) != num_columns:
            return f"line {number} has {len(cells)} values where {num_columns} are due"
        for column in kept:
            if not is_number(cells[column], dtype):
                cell = cells[column][:40]
                what = f"{cell!r} is no number" if cell.strip() else "is empty"
                return f"line {number}, column {column + 1}: {what}"
    return None


def is_number(cell: str, dtype: Any = complex) -> bool:
    """Whether a cell holds a number."""
    try:
        dtype(cell.strip())
    except ValueError:
        return False
    return "_" not in cell
