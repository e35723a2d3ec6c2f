"""A run's folder: data as JSON and CSV, figures as PNG and PDF, one HTML page; written and read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stepfold._codec import from_json
from stepfold.lab import _folder
from stepfold.lab._page import run_page
from stepfold.lab.environment import Environment
from stepfold.lab.outcome import Outcome

_RUN = _folder.Kind("run", "report.html")
OUTCOME = "outcome.json"


@dataclass(frozen=True, eq=False)
class SavedRun:
    """A run as its folder holds it."""

    folder: Path
    outcome: Outcome
    environment: Environment


def write_run(
    outcome: Outcome,
    folder: str | os.PathLike[str],
    *,
    seconds: float,
    force: bool = False,
    command: str = "",
) -> Path:
    """Write a run's folder, whole or not at all, and return the path of its report.

    Args:
        outcome: What to write.
        folder: Where; its parents are made.
        seconds: How long the experiment took, for the report.
        force: Whether a folder that holds an earlier run is replaced.
        command: The command line that repeats it, for the report; empty if there is none.

    Raises:
        FileExistsError: If ``folder`` exists and ``force`` is not set, or if it holds something
            that is not a run.
        OSError: If nothing can be written there.
        ModuleNotFoundError: If matplotlib is missing.

    >>> import tempfile
    >>> from stepfold.lab import Check, Outcome
    >>> outcome = Outcome("A title", "A summary.", (), (Check("c", "below 1", 0.5, upper=1.0),))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = write_run(outcome, Path(folder) / "mine", seconds=1.0)
    ...     read_run(report.parent).outcome.title
    'A title'
    """
    environment = Environment.now(seconds, command)
    return _folder.write_folder(
        folder, _RUN, lambda draft: _write_contents(outcome, draft, environment), force=force
    )


def check_free(folder: Path, *, force: bool) -> None:
    """Raise unless a run may be written to ``folder``; before the work, not after it."""
    _folder.check_free(folder, _RUN, force=force)
    from stepfold.lab import _matplotlib  # noqa: F401  (raises if figures cannot be drawn)


def read_run(folder: str | os.PathLike[str]) -> SavedRun:
    """Read what `write_run` wrote, data and all.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If a file is damaged, or was written by another version.

    >>> import tempfile
    >>> from stepfold.lab import Outcome
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = write_run(Outcome("A title", "A summary.", ()), f"{folder}/mine", seconds=1.0)
    ...     read_run(report.parent).environment.seconds
    1.0
    """
    folder = Path(folder)
    path = folder / OUTCOME
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no run, for it has no {OUTCOME}; write one by `stepfold run`"
        )
    read = _read_json(own_file(folder, OUTCOME))
    try:
        record = from_json(dict[str, Any], read, OUTCOME)
        # The paths are checked by a first outcome before a file is opened by one of them.
        names = from_json(tuple[str, ...], record.pop("records", None), f"{OUTCOME}.records")
        environment = from_json(
            Environment, record.pop("environment", None), f"{OUTCOME}.environment"
        )
        outcome = Outcome.from_dict({**record, "records": dict.fromkeys(names)})
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged or of another version of stepfold: {error}; run it again"
        ) from None
    records = {name: _read_json(own_file(folder, f"{name}.json")) for name in names}
    return SavedRun(folder, replace(outcome, records=records), environment)


def own_file(folder: Path, name: str) -> Path:
    """A file of a run's folder.

    Raises:
        FileNotFoundError: If it is gone.
        ValueError: If it is a link to something outside: whoever shares a site made of runs must
            not share files of theirs that a run points at.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{path} is a link out of the run's folder; run it again")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is gone; run it again")
    return path


def _read_json(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text)
        if "\\ud" in text.lower():  # half of a sign, perhaps, which no page can be written with
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: it is not JSON ({error}); run it again") from None


def _write_contents(outcome: Outcome, folder: Path, environment: Environment) -> None:
    from stepfold.lab._matplotlib import to_bytes
    from stepfold.lab._table import to_csv

    figures = folder / "figures"
    figures.mkdir()
    for figure in outcome.figures:
        for kind in ("png", "pdf"):
            (figures / f"{figure.name}.{kind}").write_bytes(to_bytes(figure, kind))
        (figures / f"{figure.name}.csv").write_text(to_csv(figure), encoding="utf-8", newline="")
    for name, record in outcome.records.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_json(path, record)
    whole: Mapping[str, Any] = {
        **outcome.to_dict(),
        "records": list(outcome.records),
        "environment": environment.to_dict(),
    }
    _write_json(folder / OUTCOME, whole)
    (folder / _RUN.marker).write_text(run_page(outcome, environment), encoding="utf-8")


def _write_json(path: Path, record: Any) -> None:
    text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
