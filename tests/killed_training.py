"""Trains in processes that are killed without warning, and says what each of them ended with.

Run as a program with a folder and moments as JSON, [[event, count], …]: for each moment a training
is killed at the count-th event of that name, then, resumed, at the next such event (unless it ends
before), then resumed to its end. Children are forked, so torch is imported once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from stepfold import Schedule, SpectralMeasure
from stepfold.iterations import HeavyBall
from stepfold.problems import Quadratic
from stepfold.unfolded import (
    HeldOut,
    Sample,
    SampledLoss,
    UnfoldedIteration,
    incremental,
    train,
)

DIAGONAL = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)


def sampler(rng: Any) -> Sample:
    """Randomness from both generators: the one that is handed over, and torch's own."""
    target = torch.from_numpy(rng.standard_normal((5, 3)))
    noise = 0.01 * torch.randn(5, 3, dtype=torch.float64)
    return Sample(Quadratic(torch.diag(DIAGONAL), target * DIAGONAL + noise), target)


class Bomb:
    """Kills this process at the count-th event of a name."""

    def __init__(self, name: str | None, count: int) -> None:
        self.name, self.count = name, count

    def event(self, name: str) -> None:
        if name == self.name:
            self.count -= 1
            if self.count == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def arm(bomb: Bomb) -> None:
    """Make the places where a checkpoint is written into events."""
    real_open, real_sync, real_replace = os.fdopen, os.fsync, Path.replace

    def fdopen(*arguments: Any) -> Any:
        file = real_open(*arguments)
        real_write = file.write

        class Halves:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def write(self, content: bytes) -> None:
                real_write(content[: len(content) // 2])
                file.flush()
                bomb.event("half written")
                real_write(content[len(content) // 2 :])

            flush, fileno = file.flush, file.fileno

        return Halves()

    def fsync(number: int) -> None:
        bomb.event("written")
        real_sync(number)

    def replace(self: Path, target: Path) -> Path:
        bomb.event("synced")
        done = real_replace(self, target)
        bomb.event("replaced")
        return done

    os.fdopen, os.fsync = fdopen, fsync
    Path.replace = replace


def training(folder: Path, bomb: Bomb) -> None:
    """Train to the end, or to the bomb; leave the outcome in ``outcome.json``."""
    torch.manual_seed(3)
    arm(bomb)
    network = UnfoldedIteration(
        Schedule([0.3, 0.2, 0.25]), iteration=HeavyBall(0.1), parameters={"momentum": 0.1}
    )
    loss = SampledLoss(sampler, SpectralMeasure.from_eigenvalues(DIAGONAL.tolist()))
    slower = torch.optim.lr_scheduler.StepLR
    run = train(
        network,
        loss,
        incremental(3, 12),
        scheduler=lambda optimizer: slower(optimizer, 7, 0.9),
        held_out=HeldOut(loss, every=4, patience=2),
        batches_per_step=2,
        callback=lambda _progress: bomb.event("iteration"),
        checkpoint=folder / "checkpoint",
        checkpoint_every=3,
        resume=True,
    )
    record = run.to_dict()
    del record["history"]["seconds"]
    values = {name: value.tolist() for name, value in network.state_dict().items()}
    (folder / "outcome.json").write_text(json.dumps([record, values]))


def child(folder: Path, bomb: Bomb, *, kill_after: float | None = None) -> bool:
    """Train in a process of its own; whether it was killed."""
    folder.mkdir(exist_ok=True)
    pid = os.fork()
    if pid == 0:
        try:
            training(folder, bomb)
        except BaseException as error:  # noqa: BLE001
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def main(root: Path, moments: list[list[Any]]) -> None:
    value = torch.nn.Parameter(torch.ones(1))
    value.sum().backward()
    torch.optim.Adam([value]).step()  # imports half of torch, here and not in every child
    child(root / "whole", Bomb(None, 0))
    for index, (event, count) in enumerate(moments):
        folder = root / str(index)
        if event == "seconds":
            child(folder, Bomb(None, 0), kill_after=count)
        else:
            assert child(folder, Bomb(event, count)), "the first training must be killed"
            child(folder, Bomb(event, 2))
        child(folder, Bomb(None, 0))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
