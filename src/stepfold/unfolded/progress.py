"""Watching a training: what a callback sees, and a progress bar."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Where a training is, after an iteration.

    Args:
        stage: Which stage, from 0.
        num_layers: Depth of the network in it.
        iteration: Iterations done in this stage.
        num_iterations: Iterations of this stage at most.
        loss: Loss of this iteration, averaged over its mini-batches.
        best_loss: Smallest loss of the stage so far; on held-out data where there are any.
        num_skipped: Iterations of the whole training whose gradient was not finite.
        done: Iterations done in the whole training, counting stages that stopped early as full.
        total: Iterations of the whole training at most.
        seconds: Time spent, earlier processes included.
    """

    stage: int
    num_layers: int
    iteration: int
    num_iterations: int
    loss: float
    best_loss: float
    num_skipped: int
    done: int
    total: int
    seconds: float


def in_terminal() -> bool:
    """Whether somebody watches: standard error is a terminal, and this no worker process."""
    is_worker = multiprocessing.parent_process() is not None
    return sys.stderr is not None and sys.stderr.isatty() and not is_worker


@contextlib.contextmanager
def progress_bar(total: int, done: int, *, shown: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar on standard error with loss, best loss and time left; nothing unless ``shown``."""
    if not shown:
        yield lambda _progress: None
        return
    from rich.console import Console
    from rich.errors import LiveError
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("layers {task.fields[layers]}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.2e}  best {task.fields[best]:.2e}"),
        TextColumn("{task.fields[skipped]}"),
        TimeRemainingColumn(),
    )
    bars = Bars(*columns, console=Console(stderr=True), transient=True)
    task = bars.add_task(
        "", total=total, completed=done, layers=1, loss=math.nan, best=math.nan, skipped=""
    )

    def show(now: Progress) -> None:
        bars.update(
            task,
            completed=now.done,
            layers=now.num_layers,
            loss=now.loss,
            best=now.best_loss,
            skipped=f"{now.num_skipped} skipped" if now.num_skipped else "",
        )

    with contextlib.suppress(LiveError):  # another display is shown already
        bars.start()
    try:
        yield show
    finally:
        bars.stop()
