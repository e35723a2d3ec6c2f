"""Commands of stepfold in processes of their own that are stopped at a chosen function call.

A moment is a number of Python calls and not a time, so a fault falls at the same place on a fast
and on a slow machine. Children are forked: what they would import is imported once, here.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What a child needs is loaded before it is forked, and what compiles is told not to.
os.environ.setdefault("OMP_NUM_THREADS", "1")
import matplotlib
import scipy.sparse.linalg
import torch

import stepfold.cli
import stepfold.distributed
import stepfold.interop.scipy
import stepfold.lab.report
import stepfold.unfolded
from _stepfold_command import main

# Whose effects are drawn: they end a process at once, at the next instruction, or ask it to end.
SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
SECONDS = 600  # after which a child that hangs is killed, and the fault counts as one that hangs


@dataclass(frozen=True)
class End:
    """How a child ended.

    Attributes:
        code: Exit code, or minus the signal that killed it.
        calls: Python calls it made, if it came to its end.
        text: What it wrote on both outputs.
    """

    code: int
    calls: int
    text: str


def command(*words: str) -> Callable[[], None]:
    """The program with these words."""

    def run() -> None:
        sys.argv = ["stepfold", *words]
        main()

    return run


def child(
    folder: Path,
    work: Callable[[], None],
    *,
    at: int | None = None,
    number: int = signal.SIGKILL,
    before: Callable[[], Any] = lambda: None,
    counts: bool = True,
) -> End:
    """Do work in a forked process.

    Args:
        folder: Its current folder.
        work: What to do; a `SystemExit` gives the exit code.
        at: Number of the Python call at which the signal is sent; None for none.
        number: The signal.
        before: What to do first, for example to set a limit.
        counts: Whether to count calls.
    """
    reader, writer = os.pipe()
    log = folder.parent / f"{folder.name}.log"
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        code = 70
        try:
            code = _inside(folder, log, work, at, number, before, writer if counts else None)
        finally:
            os._exit(code)
    os.close(writer)
    status = _awaited(pid)
    with os.fdopen(reader, "rb") as pipe:
        content = pipe.read()
    calls = struct.unpack("q", content[:8])[0] if len(content) >= 8 else -1
    text = log.read_text(errors="replace") if log.exists() else ""
    with contextlib.suppress(FileNotFoundError):
        log.unlink()
    return End(os.waitstatus_to_exitcode(status), calls, text)


def _awaited(pid: int) -> int:
    """The status of a child; one that hangs is killed."""
    previous = signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
    signal.alarm(SECONDS)
    try:
        return os.waitpid(pid, 0)[1]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def _inside(
    folder: Path,
    log: Path,
    work: Callable[[], None],
    at: int | None,
    number: int,
    before: Callable[[], Any],
    writer: int | None,
) -> int:
    os.chdir(folder)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    before()
    for number_of_stream, name in ((1, "stdout"), (2, "stderr")):
        try:
            setattr(sys, name, open(number_of_stream, "w", closefd=False))  # noqa: SIM115
        except OSError:
            setattr(sys, name, None)  # as Python has it where one is closed
    made = [0]

    def count(frame: Any, event: str, argument: Any) -> None:
        made[0] += 1
        if made[0] == at:
            os.kill(os.getpid(), number)

    code = 0
    if writer is not None:
        sys.settrace(count)  # called for calls only, as it returns no function for the lines
    try:
        work()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:  # noqa: BLE001
        import traceback

        sys.settrace(None)
        traceback.print_exc()
        code = 71
    sys.settrace(None)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    if writer is not None:
        os.write(writer, struct.pack("q", made[0]))
    return code


def warm(folder: Path) -> None:
    """Load what commands load late, here and not in every child."""
    torch.set_num_threads(1)
    matplotlib.use("agg")
    scipy.sparse.linalg.aslinearoperator(scipy.sparse.eye_array(2))
    value = torch.nn.Parameter(torch.ones(1))
    value.sum().backward()
    torch.optim.Adam([value]).step()
    modules = (stepfold.cli, stepfold.distributed, stepfold.lab.report, stepfold.unfolded)
    assert all(modules)
    folder.mkdir(parents=True, exist_ok=True)


def file_limit(size: int) -> None:
    """No file of this process may grow beyond so many bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
