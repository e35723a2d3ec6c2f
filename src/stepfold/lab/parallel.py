"""Several runs at once: a process per run with one BLAS thread, the longest first."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from stepfold.lab.runs import Job

# What a library may raise about the numbers it was given; anything else is our own mistake, and
# its traceback is worth more than one line.
_FAILURES = (ArithmeticError, ImportError, LookupError, MemoryError, OSError, RuntimeError)
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_PATIENCE = 5.0  # seconds a process gets to tidy up


def compute_all(
    jobs: Sequence[Job],
    *,
    num_processes: int,
    started: Callable[[Job], None],
    ended: Callable[[Job, str | None], None],
) -> None:
    """Compute every job and write its folder; one that fails does not stop the others.

    Two processes share nothing, so that a run is the same whatever runs beside it. An exception
    here, an interrupt among them, ends the processes; what they had not finished leaves nothing.

    Args:
        jobs: What to compute; their folders must be free (`Job.check`).
        num_processes: How many at a time.
        started: Called when a job starts.
        ended: Called when it has ended, with None or one line that says why it failed.
    """
    waiting = sorted(jobs, key=lambda job: job.experiment.seconds)
    running: dict[Connection, tuple[Job, SpawnProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < num_processes:
                job = waiting.pop()
                connection, process = _start(job)
                running[connection] = job, process
                started(job)
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)  # noqa: S101
                job, process = running.pop(ready)
                failure = _message(ready)
                process.join()
                if failure == "":
                    ended(job, None)
                else:
                    ended(job, failure or f"its process ended with exit code {process.exitcode}")
    finally:
        _end([process for _, process in running.values()])


def _start(job: Job) -> tuple[Connection, SpawnProcess]:
    context = multiprocessing.get_context("spawn")
    connection, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(job, theirs), name=job.experiment.name)
    with _one_thread():
        process.start()
    theirs.close()  # so that its end is seen when the process ends
    return connection, process


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _message(connection: Connection) -> str | None:
    """What the process said: nothing bad (""), what failed, or None if it said nothing."""
    with connection:
        try:
            text: str = connection.recv()
        except EOFError:
            return None
    return text


def _end(processes: Sequence[SpawnProcess]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()


def _work(job: Job, connection: Connection) -> None:
    # An interrupt from the keyboard reaches every process of the terminal; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that half a folder is removed
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        job.compute()
    except (*_FAILURES, TypeError, ValueError) as error:
        connection.send(" ".join(f"{type(error).__name__}: {error}".split()))
    else:
        connection.send("")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
