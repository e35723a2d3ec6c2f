"""Folders that are written whole or not at all, and replaced only if they are of the same kind."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

if sys.platform != "win32":
    import fcntl

# Not with the folder's own name in them, which may be as long as names can be.
DRAFT, OLD = ".stepfold-draft-", ".stepfold-old-"
# Seconds after which a draft that nobody holds is taken for that of a process that was killed: it
# is held from the moment after it is made.
ABANDONED = 60.0
# What renaming a folder to a name that somebody has taken fails with.
TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EBUSY)


@dataclass(frozen=True)
class Kind:
    """What a folder holds, and the file by which it is known."""

    noun: str
    marker: str


def write_folder(
    folder: str | os.PathLike[str], kind: Kind, write: Callable[[Path], None], *, force: bool
) -> Path:
    """Let ``write`` fill a folder, whole or not at all, and return the path of its marker.

    Drafts that killed processes left beside it are removed.

    Raises:
        FileExistsError: If ``folder`` exists and ``force`` is not set, or if it holds something
            that is not of this kind. If it came into being while ``write`` was at work it is left
            alone, and what was written is kept beside it, at a place that the message names.
        OSError: If nothing can be written there.
    """
    marker = Path(folder) / kind.marker
    folder = Path(os.path.realpath(folder))  # a link is followed, not replaced
    check_free(folder, kind, force=force)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent)
    # A neighbour, so that the last rename stays on one file system and is atomic.
    with _draft(folder.parent) as draft:
        write(draft)
        try:
            if force and folder.is_dir():
                _replace(folder, draft, kind)
            else:
                _rename_if_absent(draft, folder)
        except OSError as error:
            place = _kept(draft, folder) if error.errno in TAKEN else None
            if place is None:
                raise
            raise FileExistsError(
                f"{folder} was taken by somebody else in the meantime and is left alone; the "
                f"{kind.noun} is in {place}"
            ) from None
    return marker


def check_free(folder: Path, kind: Kind, *, force: bool) -> None:
    """Raise unless a folder of this kind may be written there; before the work, not after it.

    What a process that was killed between two renames had put aside is put back.
    """
    folder = Path(os.path.realpath(folder))
    _put_back(folder, kind)
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
    if folder.is_mount():
        raise FileExistsError(
            f"{folder} is where a file system is mounted and cannot be replaced as a whole; choose "
            "a folder in it"
        )
    if not _is_replaceable(folder, kind):
        raise FileExistsError(
            f"{folder} exists and is not a {kind.noun} of stepfold; choose another output folder"
        )
    if not force and any(folder.iterdir()):
        raise FileExistsError(
            f"{folder} already holds a {kind.noun}; choose another output folder or replace it by "
            "--force"
        )


def _is_replaceable(folder: Path, kind: Kind) -> bool:
    """Whether it is an empty folder or one of this kind."""
    if not folder.is_dir():
        return False
    return (folder / kind.marker).is_file() or not any(folder.iterdir())


@contextlib.contextmanager
def _draft(parent: Path) -> Iterator[Path]:
    """A folder to fill, held against `_remove_abandoned`; removed if the block fails."""
    draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=parent))
    hold = _held(draft)
    try:
        draft.chmod(0o755)  # mkdtemp's own mode would keep colleagues out
        yield draft
    except BaseException:
        if hold is not None:
            os.close(hold)  # where no descriptor is free, this one may be needed
            hold = None
        _remove(draft)
        raise
    finally:
        if hold is not None:
            os.close(hold)


def _remove(draft: Path) -> None:
    """Remove a folder with no more descriptors than one at a time."""
    shutil.rmtree(draft, ignore_errors=True)
    if draft.exists():  # that takes one for each level
        with contextlib.suppress(OSError):
            for folder, folders, files in os.walk(draft, topdown=False):
                for name in files:
                    os.unlink(os.path.join(folder, name))
                for name in folders:
                    os.rmdir(os.path.join(folder, name))
            os.rmdir(draft)


def _held(draft: Path) -> int | None:
    """A claim that ends with this process; None if another one holds it, or none can be had."""
    if sys.platform == "win32":
        return None
    number = None
    try:
        number = os.open(draft, os.O_RDONLY)
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if number is not None:
            os.close(number)
        return None
    return number


def _remove_abandoned(parent: Path) -> None:
    for draft in parent.glob(f"{DRAFT}*"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime < ABANDONED:
                continue
            hold = _held(draft)
            if hold is not None:
                shutil.rmtree(draft, ignore_errors=True)
                os.close(hold)


def _rename_if_absent(draft: Path, folder: Path) -> None:
    """Rename, over an empty folder at the most: the system refuses one that holds something."""
    if sys.platform == "win32":  # refuses an empty one, too
        with contextlib.suppress(OSError):
            folder.rmdir()
    draft.rename(folder)


def free_beside(folder: Path) -> Path:
    """A name like that of a folder that nobody has taken."""
    names = (f"{folder.name[:60]}-{number}" for number in itertools.count(2))
    return next(place for place in map(folder.with_name, names) if not place.exists())


def _kept(draft: Path, folder: Path) -> Path | None:
    """Where a draft is kept whose place was taken; None if nowhere."""
    place = free_beside(folder)
    with contextlib.suppress(OSError):
        return draft.rename(place)
    return None


def _put_back(folder: Path, kind: Kind) -> None:
    """Put back what killed processes had put aside; where a new one stands, remove it."""
    for old in folder.parent.glob(f"{OLD}*"):
        aside = old / folder.name
        hold = _held(old) if aside.is_dir() else None
        if hold is None:
            continue  # of another folder, or of a process that is at work
        with contextlib.suppress(OSError):
            if (folder / kind.marker).is_file():
                shutil.rmtree(aside, ignore_errors=True)
            else:
                _rename_if_absent(aside, folder)
            old.rmdir()
        os.close(hold)


def _replace(folder: Path, draft: Path, kind: Kind) -> None:
    old = Path(tempfile.mkdtemp(prefix=OLD, dir=folder.parent))
    hold = _held(old)
    try:
        _exchange(folder, draft, kind, old)
    finally:
        if hold is not None:
            os.close(hold)


def _exchange(folder: Path, draft: Path, kind: Kind, old: Path) -> None:
    whole = old / folder.name  # by which it is put back if this process is killed on the way
    try:
        folder.rename(whole)
        try:
            if not _is_replaceable(whole, kind):
                raise FileExistsError(errno.EEXIST, f"is not a {kind.noun} any more", str(folder))
            _rename_if_absent(draft, folder)
        except BaseException:
            whole.rename(folder)
            raise
    except BaseException:
        # Empty, unless the old one could not be put back: then it is left there.
        with contextlib.suppress(OSError):
            old.rmdir()
        raise
    # Under a name by which the rest is found if this process is killed on the way.
    with contextlib.suppress(OSError):
        old = old.rename(folder.with_name(DRAFT + old.name.removeprefix(OLD)))
    shutil.rmtree(old, ignore_errors=True)
