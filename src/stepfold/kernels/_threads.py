"""Threads that run compiled loops, which hold no lock of the interpreter's.

Not numba's own parallel loops: they take five times as long to compile, one of their back ends
ends the process when two Python threads use it at once, another one when a process that has used it
forks.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

Task = tuple[Callable[..., None], tuple[Any, ...], "SimpleQueue[BaseException | None]"]

_tasks: SimpleQueue[Task] = SimpleQueue()
_workers: list[threading.Thread] = []
_lock = threading.Lock()
_together = threading.Lock()
# Core that the workers keep away from, and how many of them have been told.
_avoided = (-1, 0)


def num_threads() -> int:
    """``NUMBA_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the cores this process may use."""
    for variable in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(variable, "").strip()
        if value.isdigit() and int(value) > 0:
            return int(value)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run(function: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> None:
    """Call ``function`` with each tuple of arguments, one of them here, the others in threads."""
    if len(calls) == 1:
        function(*calls[0])
        return
    _start(len(calls) - 1)
    _keep_away()
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    for arguments in calls[1:]:
        _tasks.put((function, arguments, done))
    errors: list[BaseException | None] = []
    try:
        function(*calls[0])
    finally:
        # Even if interrupted: what the threads write to must not be used again before they end.
        errors = [done.get() for _ in calls[1:]]
    for error in errors:
        if error is not None:
            raise error


def run_together(function: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> None:
    """`run` for calls that wait for each other: each of them has a thread of its own.

    One such run at a time: the calls of two could each wait for a thread that the other has.
    """
    if len(calls) == 1:
        function(*calls[0])
        return
    with _together:
        run(function, calls)


def split_evenly(count: int, parts: int) -> list[tuple[int, int]]:
    """At most ``parts`` ranges that cover 0 … count − 1; none is empty.

    >>> split_evenly(10, 3)
    [(0, 3), (3, 6), (6, 10)]
    """
    parts = max(1, min(parts, count))
    ends = [count * part // parts for part in range(parts + 1)]
    return list(pairwise(ends))


def split_by_weight(starts: Any, parts: int) -> list[tuple[int, int]]:
    """Ranges of rows of about equal weight: row i weighs ``1 + starts[i + 1] − starts[i]``.

    >>> split_by_weight(np.array([0, 6, 7, 8]), 2)
    [(0, 1), (1, 3)]
    """
    count = len(starts) - 1
    ends = [0]
    for part in range(1, parts):
        ends.append(_first_at(starts, count, (int(starts[-1]) + count) * part / parts))
    ends.append(count)
    return [(start, stop) for start, stop in pairwise(ends) if start < stop]


def _first_at(starts: Any, count: int, weight: float) -> int:
    """Smallest i with ``starts[i] + i >= weight``, without an array of the sums."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if int(starts[middle]) + middle < weight:
            low = middle + 1
        else:
            high = middle
    return low


def _work(tasks: SimpleQueue[Task]) -> None:
    while True:
        function, arguments, done = tasks.get()
        error: BaseException | None = None
        try:
            function(*arguments)
        except BaseException as caught:  # noqa: BLE001 (raised again where it was called)
            error = caught
        # Before the next task is awaited: arguments would be kept alive until then.
        del function, arguments
        done.put(error)
        del done, error


def _start(count: int) -> None:
    with _lock:
        while len(_workers) < count:
            worker = threading.Thread(
                target=_work, args=(_tasks,), name="stepfold-kernel", daemon=True
            )
            worker.start()
            _workers.append(worker)


@functools.cache
def _current_cpu() -> Callable[[], int]:
    """Function that tells the core that it runs on; -1 where the system does not say."""
    if sys.platform == "linux" and hasattr(os, "sched_setaffinity"):
        try:
            told: Callable[[], int] = ctypes.CDLL(None).sched_getcpu
        except (OSError, AttributeError):
            pass
        else:
            return told
    return lambda: -1


def _keep_away() -> None:
    """Let the workers run on any core but the caller's, which is about to compute itself.

    A system that wakes a thread on the core of the one that woke it may leave both there for longer
    than a sweep takes. On two cores the slowest quarter of the steps of 160 MB took 9.4 ms and more
    without this and 6.6 with it; half of those of 80 MB took 5.2 and 3.3.
    """
    global _avoided
    cpu = _current_cpu()()
    state = (cpu, len(_workers))
    if cpu < 0 or state == _avoided:
        return
    with _lock:
        _avoided = state
        others = os.sched_getaffinity(0) - {cpu}
        for worker in _workers if others else ():
            if worker.native_id is not None:
                with contextlib.suppress(OSError):  # a container may forbid it
                    os.sched_setaffinity(worker.native_id, others)


def _forget() -> None:
    """In a child process there are none of the parent's threads."""
    global _tasks, _lock, _together, _avoided
    _tasks, _avoided = SimpleQueue(), (-1, 0)
    _lock, _together = threading.Lock(), threading.Lock()
    _workers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
