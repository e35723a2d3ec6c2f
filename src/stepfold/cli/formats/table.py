"""The .csv format: numbers between commas, with or without a line of names."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import IO, Any

import click

from stepfold.cli.formats.lines import is_number, read_lines
from stepfold.cli.formats.memory import check_room

NAMES_SHOWN = 12


def read_csv(path: Path, columns: str | None) -> Any:
    """The numbers in a table, or in some of its columns, shape (lines, columns).

    The first line is one of names if a cell of it is no number.

    Args:
        path: The file.
        columns: Names, numbers from 1, or ranges such as ``2-`` and ``2-5``, between commas.

    Raises:
        click.UsageError: If there are no such columns, or the first one has no name and is not left
            out.
    """
    with path.open(encoding="utf-8-sig") as text:
        return _read(path, text, columns)


def _read(path: Path, text: IO[str], columns: str | None) -> Any:
    size = path.stat().st_size
    first, place = _first_line(text), text.tell()
    if not first:
        raise ValueError("it holds no numbers")
    names = None if all(map(is_number, first)) else [cell.strip() for cell in first]
    if names is not None and columns is None and not names[0] and len(names) > 1:
        raise click.UsageError(
            f"the first column of {path} has no name, as where pandas writes its index; say "
            f"which columns to read: {path}:2- for all but the first"
        )
    num_columns = len(first)
    chosen = None if columns is None else _chosen(path, columns, names, num_columns)
    if names is None:
        text.seek(0)
        sample = first
    else:
        sample = _first_line(text)
        text.seek(place)
    # Two characters a number are the fewest; a table of short numbers grows most.
    check_room(8 * min(size, 2 * size * num_columns // max(1, len(",".join(sample)))))
    dtype = float if all(is_number(cell, float) for cell in sample) else complex
    if not all(map(is_number, sample)):
        dtype = float  # for the message
    table = read_lines(
        text, num_columns, 0 if names is None else 1, ",", usecols=chosen, dtype=dtype
    )
    if not len(table):
        raise ValueError("it holds no numbers")
    return table


def _first_line(text: IO[str]) -> list[str]:
    line = text.readline()
    while line and not line.strip():
        line = text.readline()
    return next(csv.reader([line]), [])


def _chosen(path: Path, columns: str, names: list[str] | None, count: int) -> list[int]:
    """Places of columns, from 0."""
    chosen: list[int] = []
    for word in next(csv.reader([columns])):
        span = re.fullmatch(r"(\d+)(?:(-)(\d*))?", word.strip())
        if names is not None and word.strip() in names:
            chosen.append(names.index(word.strip()))
        elif span is not None:
            begin = int(span[1])
            end = begin if span[2] is None else int(span[3] or count)
            if not 1 <= begin <= end <= count:
                raise click.UsageError(f"{path} has columns 1 to {count}, got {word.strip()!r}")
            chosen += range(begin - 1, end)
        else:
            known = "no names" if names is None else ", ".join(names[:NAMES_SHOWN])
            raise click.UsageError(
                f"{path} has no column {word.strip()!r}; its first line has {known}, and columns "
                f"have numbers 1 to {count}"
            )
    return chosen
