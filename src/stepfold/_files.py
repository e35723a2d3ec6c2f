"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

if sys.platform != "win32":
    import fcntl

# Seconds after which a draft that nobody holds is taken for that of a process that was killed.
ABANDONED = 60.0


class _PlainFile:
    """A file that NumPy does not know for one of the system's."""

    def __init__(self, file: IO[bytes]) -> None:
        self.write = file.write


def write_array(file: IO[bytes], array: Any) -> None:
    """Write an array as .npy.

    NumPy's own way into a file is through a buffer in C, and what does not fit on the disk when
    that is written out at last is lost without an error.

    Raises:
        OSError: If nothing more can be written there.
    """
    np.save(_PlainFile(file), array)


def _holds(handle: int) -> bool:
    """Whether a claim on an open file was to be had, which ends when it is closed."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def remove_abandoned(folder: Path, prefix: str) -> None:
    """Remove drafts of `replacing` that killed processes left in a folder."""
    for draft in folder.glob(f"{prefix}????????"):
        with contextlib.suppress(OSError):
            if not draft.is_file() or time.time() - draft.stat().st_mtime < ABANDONED:
                continue
            handle = os.open(draft, os.O_RDONLY)
            try:
                if _holds(handle):
                    draft.unlink()
            finally:
                os.close(handle)


@contextlib.contextmanager
def replacing(path: Path, *, prefix: str, synced: bool = False) -> Iterator[IO[bytes]]:
    """A draft to write into, which takes the place of ``path`` at the end.

    If writing fails, or is interrupted, what was at ``path`` is still there and the draft is not.

    Args:
        path: Where; its folder exists.
        prefix: How the name of the draft begins, beside ``path``.
        synced: Whether the file is on the disk at the end, so that a power failure cannot bring
            the old one back.

    Raises:
        OSError: If nothing can be written there.
    """
    handle, draft = tempfile.mkstemp(prefix=prefix, dir=path.parent)
    _holds(handle)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            if synced:
                file.flush()
                os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(draft).chmod(0o666 & ~umask)  # mkstemp's own mode would keep colleagues out
        Path(draft).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(draft).unlink()
        raise
    if synced and os.name == "posix":  # the name is in the folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
