"""A claim on a file, so that two trainings never write the same one at the same time.

The claim is a lock that the operating system holds on a small file beside it, and drops when its
process ends, however it ends: a training that was killed leaves the small file, but no claim.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # a system without POSIX locks
    fcntl = None  # type: ignore[assignment]

TAKEN = (errno.EACCES, errno.EAGAIN)
# A process is never in the way of its own POSIX locks, and would lose one by opening it again.
_own: set[Path] = set()


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep other trainings from ``path`` while the block runs; its folder must exist.

    On systems and file systems without POSIX locks only trainings of this process are kept away.

    Raises:
        FileExistsError: If another training has claimed it.
    """
    place = path.resolve()
    if place in _own:
        raise _taken(path)
    _own.add(place)
    try:
        handle = _locked(path)
        try:
            yield
        finally:
            if handle is not None:
                # First the name, then the lock: whoever waits for the lock finds the name gone.
                _lock_file(path).unlink(missing_ok=True)
                os.close(handle)
    finally:
        _own.discard(place)


def _lock_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _locked(path: Path) -> int | None:
    if fcntl is None:
        return None
    file = _lock_file(path)
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, file):
                return handle
        except OSError as error:
            os.close(handle)
            if error.errno in TAKEN:
                raise _taken(path) from None
            if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
                return None
            raise
        os.close(handle)  # its owner has removed it meanwhile


def _is_at(handle: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False


def _taken(path: Path) -> FileExistsError:
    return FileExistsError(
        f"another training is writing {path}; wait for its end, or choose another place"
    )
