"""Folders that are written whole or not at all, and replaced only if they are of the same kind."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Kind:
    """What a folder holds, and the file by which it is known."""

    noun: str
    marker: str


def write_folder(
    folder: str | os.PathLike[str], kind: Kind, write: Callable[[Path], None], *, force: bool
) -> Path:
    """Let ``write`` fill a folder, whole or not at all, and return the path of its marker.

    Raises:
        FileExistsError: If ``folder`` exists and ``force`` is not set, or if it holds something
            that is not of this kind.
        OSError: If nothing can be written there.
    """
    marker = Path(folder) / kind.marker
    folder = Path(os.path.realpath(folder))  # a link is followed, not replaced
    check_free(folder, kind, force=force)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A neighbour, so that the last rename stays on one file system and is atomic.
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        draft.chmod(0o755)  # mkdtemp's own mode would keep colleagues out
        write(draft)
        if folder.exists():
            _replace(folder, draft)
        else:
            draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return marker


def check_free(folder: Path, kind: Kind, *, force: bool) -> None:
    """Raise unless a folder of this kind may be written there; before the work, not after it."""
    folder = Path(os.path.realpath(folder))
    parent = folder.parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise NotADirectoryError(
            f"{parent} is not a folder, and {folder} cannot be below it; choose another one"
        )
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{parent} may not be written to; choose another output folder")
    _check_replaceable(folder, kind, force=force)


def _check_replaceable(folder: Path, kind: Kind, *, force: bool) -> None:
    if not folder.exists():
        return
    if folder.samefile(Path.cwd()):
        raise FileExistsError(
            f"{folder} is the current folder, which a {kind.noun} would take away from under your "
            "feet; choose another output folder"
        )
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if not (folder.is_dir() and (folder / kind.marker).is_file()):
        raise FileExistsError(
            f"{folder} exists and is not a {kind.noun} of stepfold; choose another output folder"
        )
    if not force:
        raise FileExistsError(
            f"{folder} already holds a {kind.noun}; choose another output folder or replace it by "
            "--force"
        )


def _replace(folder: Path, draft: Path) -> None:
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    try:
        folder.rename(old / "whole")
        try:
            draft.rename(folder)
        except BaseException:
            (old / "whole").rename(folder)
            raise
    except BaseException:
        # Empty, unless the old one could not be put back: then it is left there.
        with contextlib.suppress(OSError):
            old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)
