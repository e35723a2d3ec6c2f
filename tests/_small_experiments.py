"""Experiments that take no time, at module level so that other processes find them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from stepfold.lab import Axis, Check, Curve, Figure, Outcome, Section
from stepfold.lab.experiments import Experiment
from stepfold.lab.parameters import Between
from stepfold.lab.sources import OWN, Source


def small_outcome(measured: float = 1.0) -> Outcome:
    """An outcome with one figure and one check, which passes at 1."""
    curve = Curve("c", np.arange(1.0, 3.0), np.ones(2))
    figure = Figure("f", "t", "one line", (curve,), Axis("x"), Axis("y"))
    check = Check("claim", "1", measured, 0.5, 1.5)
    return Outcome("Title", "Summary.", (Section("h", ("p",), figure),), (check,))


def adjustable(
    *,
    period: Annotated[int, Between(1, 9)] = 3,
    scale: Annotated[float, Between(0.5, 2)] = 1.0,
    kind: Literal["first", "second"] = "first",
    fast: bool = False,
) -> Outcome:
    """An experiment with every kind of parameter."""
    assert (type(period), type(scale), type(kind), type(fast)) == (int, float, str, bool)
    return small_outcome(scale)


def threads() -> Outcome:
    """Measures 1 if the process may use one thread for linear algebra."""
    return small_outcome(float(os.environ["OMP_NUM_THREADS"]))


def slow(*, seconds: Annotated[float, Between(0, 100)] = 100.0) -> Outcome:
    """Says that it has begun, and takes its time."""
    Path(os.environ["STEPFOLD_TEST_FOLDER"], f"begun-{os.getpid()}").touch()
    time.sleep(seconds)
    return small_outcome()


def failing() -> Outcome:
    """Fails as a computation may."""
    raise ArithmeticError("the loss is nan\nin stage 3")


def crashing() -> Outcome:
    """Ends its process."""
    os._exit(7)


SOURCE = Source(OWN, "a test")
SMALL = {
    "adjustable": Experiment("adjustable", SOURCE, adjustable, 1, {"period": 1, "fast": True}),
    "threads": Experiment("threads", SOURCE, threads, 2, {}),
    "slow": Experiment("slow", SOURCE, slow, 0.5, {"seconds": 0.0}),
    "failing": Experiment("failing", SOURCE, failing, 0.1, {}),
    "crashing": Experiment("crashing", SOURCE, crashing, 0.1, {}),
}
