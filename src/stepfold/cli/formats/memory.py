"""How much memory there is, before a file's word on its size is taken."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

VECTORS = 4
"""Vectors as long as rows and as columns that a solver keeps beside the matrix, at least."""


def check_room(num_bytes: int, what: str = "it") -> None:
    """Raise unless so many bytes more are free, as far as the system tells."""
    free = min(_free(), default=None)
    if free is not None and num_bytes > free:
        raise MemoryError(
            f"{what} takes {_size(num_bytes)} and {_size(max(free, 0))} are free; "
            "take a part of it, or a machine with more memory"
        )


def check_room_for_problem(shape: tuple[int, ...], num_bytes: int = 0) -> None:
    """Raise unless a matrix of so many bytes fits, with the vectors of a solver beside it."""
    needed = num_bytes + 8 * VECTORS * sum(shape)
    check_room(needed, f"a problem with a matrix of shape {shape}")


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.3g} GB"


def _free() -> Iterator[int]:
    """Bytes that the system, the container and the process' own limit leave."""
    numbers = _read_numbers(Path("/proc/meminfo"))
    if "MemAvailable:" in numbers:
        yield 1024 * numbers["MemAvailable:"]
    container = Path("/sys/fs/cgroup")
    limit = _read_number(container / "memory.max")
    used = _read_number(container / "memory.current")
    if limit is not None and used is not None:
        # Copies of files are given up when memory is asked for.
        yield limit - used + _read_numbers(container / "memory.stat").get("file", 0)
    if sys.platform != "win32":
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        pages = Path("/proc/self/statm")
        if limit != resource.RLIM_INFINITY and pages.exists():
            yield limit - int(pages.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # not there, or "max" for no limit
        return None


def _read_numbers(path: Path) -> dict[str, int]:
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}
