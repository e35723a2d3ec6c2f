"""How far a solve is: one line on a terminal, written over."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stepfold.problems import Problem

FIRST_AFTER = 1.0
EVERY = 0.25
# Share of the time that may go into gradients for this line.
SHARE = 0.03


@contextlib.contextmanager
def announced(text: str, *, active: bool) -> Iterator[None]:
    """A line that stands while something is done that tells no progress."""
    if not (active and sys.stderr.isatty()):
        yield
        return
    sys.stderr.write(f"{text} …")
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write("\r" + " " * (len(text) + 2) + "\r")
        sys.stderr.flush()


@contextlib.contextmanager
def shown(problem: Problem[Any], *, active: bool) -> Iterator[Callable[[int, Any], None] | None]:
    """A callback for `solve`, or None where nobody watches."""
    if not (active and sys.stderr.isatty()):
        yield None
        return
    line = _Line(problem)
    try:
        yield line.update
    finally:
        line.erase()


class _Line:
    def __init__(self, problem: Problem[Any]) -> None:
        self._problem = problem
        self._begun = self._written = self._looked = time.perf_counter()
        self._cost = 0.0
        self._norm: float | None = None
        self._width = 0

    def update(self, step: int, x: Any) -> None:
        """Write the line anew, if it is time."""
        now = time.perf_counter()
        if now - self._begun < FIRST_AFTER or now - self._written < EVERY:
            return
        if now - self._looked >= self._cost / SHARE:
            self._norm = float(
                np.max(np.linalg.norm(np.atleast_2d(self._problem.gradient(x)), axis=1))
            )
            self._looked = time.perf_counter()
            self._cost = self._looked - now
        size = "" if self._norm is None else f", gradient norm {self._norm:.3g}"
        self._write(f"step {step}{size}, {now - self._begun:.0f} s")
        self._written = time.perf_counter()

    def erase(self) -> None:
        """Leave an empty line."""
        if self._width:
            self._write("")
            sys.stderr.write("\r")
            sys.stderr.flush()

    def _write(self, text: str) -> None:
        sys.stderr.write("\r" + text.ljust(self._width))
        sys.stderr.flush()
        self._width = len(text)
