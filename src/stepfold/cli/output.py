"""What the commands print, and where they may write."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray

from stepfold._files import remove_abandoned, replacing
from stepfold.planner import LONGEST_PERIOD
from stepfold.schedules import Schedule

if TYPE_CHECKING:
    from rich.console import Console

# Beyond, orders are not known to be safe, and optimal steps take T³ operations.
PERIOD = click.IntRange(1, LONGEST_PERIOD)


# Steps that a terminal shows of a schedule, and signs of the longest bar.
MOST_STEPS = 24
BAR = 40
# How names of drafts begin: not with the file's own, which may be as long as names can be.
DRAFT = ".stepfold-"


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to standard output; plain when that is not a terminal. No title if empty."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        # As `Text`, so that square brackets in names are not taken for markup.
        table.add_row(*(Text(cell, style=_style(cell)) for cell in row))
    _console().print(table)


def show_heading(text: str) -> None:
    """Print a heading, bold on a terminal."""
    from rich.text import Text

    _console().print(Text(text, style="bold"))


def show_steps(schedule: Schedule) -> None:
    """Print steps in their order with bars, of a long period the first ones.

    A bar's length is the step's logarithm: from one sign for the shortest to all for the longest.
    """
    console = _console()
    is_drawn = console.is_terminal and console.encoding.lower().startswith("utf")
    sizes = np.abs(schedule.steps)
    smallest = float(np.min(sizes, initial=np.inf, where=sizes > 0))
    logarithms = np.log(np.maximum(sizes, smallest if np.isfinite(smallest) else 1.0))
    shown = schedule.steps[:MOST_STEPS]
    low, span = float(logarithms.min()), float(np.ptp(logarithms))
    rows = []
    for t, gamma in enumerate(shown.tolist()):
        share = 1.0 if span == 0 else (float(logarithms[t]) - low) / span
        sign = ("█" if is_drawn else "#") * (1 + round((BAR - 1) * share))
        rows.append((str(t), f"{gamma:.6g}", sign))
    show_table("", ("t", "step size γ", "on a logarithmic scale"), rows)
    if (left := schedule.period - shown.size) > 0:
        click.echo(f"… and {left} more; --output and --json have all of them.")


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=110)


def _style(cell: str) -> str:
    return "cyan" if cell.startswith("█") else _STYLES.get(cell, "")


def last(counts: NDArray[np.int64]) -> int:
    """The last of a history's counts; 0 if the run was interrupted before the first was made."""
    return int(counts[-1]) if counts.size else 0


_STYLES = {"pass": "green", "FAIL": "bold red"}


def check_output(path: Path, *, force: bool, suffix: str | None = None) -> None:
    """Raise unless a file may be written at ``path``; before the work, not after it."""
    if suffix is not None and path.suffix != suffix:
        raise click.UsageError(f"--output must end in {suffix}, got {path}")
    if path.is_dir():
        raise click.UsageError(f"{path} is a folder; name a file")
    if path.exists() and not path.is_file():
        # Replacing it would take a device such as /dev/null away from everybody.
        raise click.UsageError(f"{path} is not a regular file and is never replaced; name a file")
    if path.exists() and not force:
        raise click.UsageError(f"{path} exists; choose another name or replace it with --force")
    folder = _target(path).parent
    if not folder.is_dir():
        raise click.UsageError(f"{folder} is not a folder; make it first")
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")  # a full disk shows here, not after the work
    except OSError as error:
        raise click.UsageError(
            f"{folder} may not be written to ({error.strerror}); choose another folder"
        ) from None


def _target(path: Path) -> Path:
    # A link is followed: what it points to is written, not the link.
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file completely or not at all."""
    path = _target(path)
    remove_abandoned(path.parent, DRAFT)
    try:
        with replacing(path, prefix=DRAFT) as file:
            write(file)
    except OSError as error:  # NumPy's own has no number and no name
        what = error.strerror or f"could not be written ({error})"
        raise OSError(error.errno or errno.EIO, what, str(path)) from error
