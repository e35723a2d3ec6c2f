"""One offline site made of many runs: an index, and a page of each with figures that answer."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stepfold._extras import not_installed
from stepfold.lab import _folder
from stepfold.lab._page import asset, style_sheet
from stepfold.lab.report import OUTCOME, SavedRun, own_file, read_run
from stepfold.lab.site.pages import Entry, count_runs, index_page, run_page
from stepfold.lab.sources import place

__all__ = ["Found", "check_free", "count_runs", "find_runs", "write_site"]

_SITE = _folder.Kind("site", "index.html")
_ASSETS = "assets"


@dataclass(frozen=True)
class Found:
    """What was found below some folders.

    Args:
        entries: Runs, each with its place in the site.
        failures: What could not be read, in sentences.
    """

    entries: Sequence[Entry]
    failures: Sequence[str]


def find_runs(roots: Iterable[str | os.PathLike[str]]) -> Found:
    """Read every run in and below some folders, in the order of their names.

    A run that cannot be read is no reason to leave the others out: it becomes a sentence among the
    failures.

    Raises:
        FileNotFoundError: If a folder is not there, or there is no run in any of them.

    >>> import tempfile
    >>> from stepfold.lab import Outcome
    >>> from stepfold.lab.report import write_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = write_run(Outcome("A title", "A summary.", ()), f"{folder}/mine", seconds=1.0)
    ...     [entry.slug for entry in find_runs([folder]).entries]
    ['mine']
    """
    entries: list[Entry] = []
    failures: list[str] = []
    taken = {_ASSETS}
    searched = [Path(root) for root in roots]
    for root in searched:
        if not root.is_dir():
            raise FileNotFoundError(f"{root} is not a folder; make runs by `stepfold run --all`")
        for folder in _run_folders(root):
            try:
                run = read_run(folder)
                for name in _figure_files(run):
                    own_file(folder, name)
            except (OSError, ValueError) as error:
                failures.append(str(error))
                continue
            group = folder.relative_to(root).parent.as_posix()
            slug = _slug(root, folder, taken)
            entries.append(Entry(slug, "" if group == "." else group, run))
    if not entries and not failures:
        names = ", ".join(map(str, searched))
        raise FileNotFoundError(
            f"there is no run in or below {names}; make runs by `stepfold run --all`"
        )
    # By paper below each heading; runs that reproduce none come last.
    entries.sort(key=lambda entry: (entry.group, *place(entry.run.outcome.source)))
    return Found(entries, failures)


def _run_folders(root: Path) -> list[Path]:
    # Hidden ones are drafts of runs that are being written.
    outcomes = (path.relative_to(root) for path in root.rglob(OUTCOME) if path.is_file())
    shown = (path for path in outcomes if not any(part.startswith(".") for part in path.parts))
    return sorted(root / path.parent for path in shown)


def _slug(root: Path, folder: Path, taken: set[str]) -> str:
    parts = folder.relative_to(root).parts or (root.resolve().name,)
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", "-".join(parts)).strip("-") or "run"
    slug, number = stem, 2
    while slug.lower() in taken:  # some file systems tell no case
        slug, number = f"{stem}-{number}", number + 1
    taken.add(slug.lower())
    return slug


def check_free(folder: Path, *, force: bool) -> None:
    """Raise unless a site may be written to ``folder``; before the work, not after it.

    Raises:
        OSError: If it may not; the message says why and what to do.
        ModuleNotFoundError: If matplotlib or plotly is missing.
    """
    _folder.check_free(folder, _SITE, force=force)
    _plotly_script()
    from stepfold.lab import _matplotlib  # noqa: F401  (raises if figures cannot be drawn)


def write_site(found: Found, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write a site, whole or not at all, and return the path of its index.

    Everything is in the folder: it opens from a file, without a network, and may be moved.

    Raises:
        FileExistsError: If ``folder`` exists and ``force`` is not set, or if it holds something
            that is not a site.
        OSError: If nothing can be written there, or a figure of a run is gone.
        ModuleNotFoundError: If matplotlib or plotly is missing.

    >>> import tempfile
    >>> from stepfold.lab import Outcome
    >>> from stepfold.lab.report import write_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = write_run(Outcome("A title", "A summary.", ()), f"{folder}/mine", seconds=1.0)
    ...     write_site(find_runs([folder]), f"{folder}/site").name
    'index.html'
    """
    return _folder.write_folder(folder, _SITE, lambda draft: _fill(draft, found), force=force)


def _fill(folder: Path, found: Found) -> None:
    assets = folder / _ASSETS
    assets.mkdir()
    (assets / "plotly.min.js").write_text(_plotly_script(), encoding="utf-8")
    (assets / "style.css").write_text(style_sheet(), encoding="utf-8")
    for script in ("site.js", "copy.js"):
        (assets / script).write_text(asset(script), encoding="utf-8")
    for position, entry in enumerate(found.entries):
        neighbours = (
            found.entries[position - 1] if position else None,
            found.entries[position + 1] if position + 1 < len(found.entries) else None,
        )
        _write_run(folder / entry.slug, entry, neighbours)
    (folder / _SITE.marker).write_text(index_page(found.entries, found.failures), encoding="utf-8")


def _figure_files(run: SavedRun) -> list[str]:
    names = [figure.name for figure in run.outcome.figures]
    return [f"figures/{name}.{kind}" for name in names for kind in ("png", "pdf", "csv")]


def _write_run(folder: Path, entry: Entry, neighbours: tuple[Entry | None, Entry | None]) -> None:
    from stepfold.lab._matplotlib import thumbnail

    run = entry.run
    (folder / "figures").mkdir(parents=True)
    for name in _figure_files(run):
        shutil.copyfile(own_file(run.folder, name), folder / name)
    if run.outcome.figures:
        (folder / "thumbnail.png").write_bytes(thumbnail(run.outcome.figures[0]))
    (folder / "data.json").write_text(_data(run), encoding="utf-8")
    (folder / "index.html").write_text(run_page(entry, neighbours), encoding="utf-8")


def _data(run: SavedRun) -> str:
    record = {**run.outcome.to_dict(), "environment": run.environment.to_dict()}
    return json.dumps(record, allow_nan=False, ensure_ascii=False)


def _plotly_script() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise not_installed("the site needs plotly", "lab", error) from error
    script: str = get_plotlyjs()
    return script
