"""Runs that go on where they were when a process was lost.

Process 0 writes x, the number of steps, the bounds and the schedule into one file, which is
replaced as a whole or not at all. After a restart it reads the file and tells the others.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stepfold._arrays import from_host, to_host
from stepfold._checks import (
    check_callable,
    check_count,
    check_instance,
    check_nonnegative,
    check_path,
)
from stepfold._files import replacing
from stepfold.distributed.group import Group, current_group
from stepfold.problems import Composite, QuadraticProblem
from stepfold.result import Result
from stepfold.schedules import Schedule
from stepfold.schedules.base import check_schedule
from stepfold.solve import solve
from stepfold.spectrum import SpectralBounds

FORMAT = "stepfold.run/1"


def resumable_solve(
    problem: Any,
    schedule: Schedule | None = None,
    *,
    checkpoint: str | Path,
    every: float = 30.0,
    group: Group | None = None,
    max_steps: int | None = 10_000,
    callback: Callable[[int, Any], None] | None = None,
    **options: Any,
) -> Result[Any]:
    """`stepfold.solve`, from where an earlier process of the same run has left off.

    With known steps, and at looks only, the run after a restart makes the same iterates as one that
    was not interrupted, bit by bit, provided that there are as many processes as before. Conjugate
    gradients begin anew at the x that was kept. The file is removed once the run has converged.

    Args:
        problem: A problem over processes, or any quadratic or composite one.
        schedule: Known steps, or None. After a restart the one that is in the file, for the guard
            may have changed it.
        checkpoint: The file, on a disk that process 0 sees.
        every: Least seconds between two writings; 0 for one at each look or step.
        group: The processes; those of ``problem`` if None.
        max_steps: Budget of steps, those before the restart included.
        callback: As in `stepfold.solve`.
        options: Other arguments of `stepfold.solve`.

    Returns:
        The record of the run since the last start; ``num_steps`` counts from there.

    Raises:
        ValueError: If the file is damaged, or of another problem; on all processes.
        OSError: If it cannot be written.

    >>> import tempfile
    >>> from stepfold import LeastSquares
    >>> problem = LeastSquares(np.diag([2.0, 1.0]), np.array([2.0, 3.0]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = resumable_solve(problem, checkpoint=Path(folder) / "run.npz")
    >>> result.x.round(6)
    array([1., 3.])
    """
    every = float(check_nonnegative("every", every))
    smooth: Any = problem.problem if isinstance(problem, Composite) else problem
    check_instance("problem", smooth, QuadraticProblem, "as `LeastSquares(operator, rhs)`")
    if group is None:
        group = getattr(smooth, "group", None) or current_group()
    path = check_path("checkpoint", checkpoint)
    check_callable("callback", callback)
    check_schedule(schedule)
    check_instance("group", group, Group, "as `current_group()`")
    if max_steps is not None:
        check_count("max_steps", max_steps, minimum=0)
    identity = _identity(problem, smooth)
    held = group.broadcast(_read(path, identity) if group.rank == 0 else None)
    if isinstance(held, str):
        raise ValueError(held)
    x0, done = options.pop("x0", None), 0
    if held is not None:
        x0, done = from_host(held["x"], smooth.linear_term), held["num_steps"]
        schedule = schedule and Schedule.from_dict(held["schedule"])
    writer = None
    if group.rank == 0:
        # Iterates inside a period of known steps are no place to go on from.
        writer = _Writer(path, identity, every, done, at_steps=schedule is None, inner=callback)
        if isinstance(problem, Composite):
            writer.at_steps = False
    result = solve(
        problem,
        schedule,
        x0,
        max_steps=None if max_steps is None else max(0, max_steps - done),
        callback=writer or callback or _nothing,
        **options,
    )
    if result.converged and group.rank == 0:
        path.unlink(missing_ok=True)
    return result


def _nothing(count: int, x: Any) -> None:
    """What the other processes call, so that all of them are watched alike."""
    del count, x


class _Writer:
    """A callback that writes the file now and then.

    Args:
        path: The file.
        identity: What the problem is.
        every: Least seconds between two writings.
        done: Steps before this start.
        at_steps: Whether every step's iterate will do.
        inner: A callback of the caller's.
    """

    def __init__(
        self,
        path: Path,
        identity: str,
        every: float,
        done: int,
        *,
        at_steps: bool,
        inner: Callable[[int, Any], None] | None,
    ) -> None:
        self._path, self._identity, self._every, self._done = path, identity, every, done
        self.at_steps, self._inner = at_steps, inner
        self._written = time.monotonic()
        if every == 0:
            self._written = -math.inf

    def __call__(self, count: int, x: Any) -> None:
        if self.at_steps and self._is_due:
            self._write(count, x, None)
        if self._inner is not None:
            self._inner(count, x)

    def seen(self, count: int, x: Any, policy: Any) -> None:
        """A look: the best iterate so far, and the policy, which knows bounds and steps."""
        if not self.at_steps and self._is_due:
            self._write(count, x, policy)

    @property
    def _is_due(self) -> bool:
        return time.monotonic() - self._written >= self._every

    def _write(self, count: int, x: Any, policy: Any) -> None:
        bounds = None if policy is None else policy.bounds
        record = {
            "format": FORMAT,
            "problem": self._identity,
            "num_steps": self._done + count,
            "bounds": None if bounds is None else bounds.to_dict(),
            "schedule": None if policy is None else policy.schedule.to_dict(),
        }
        numbers = np.ascontiguousarray(to_host(x))
        record["checksum"] = hashlib.sha256(numbers.tobytes()).hexdigest()
        content = io.BytesIO()
        np.savez(content, x=numbers, record=np.array(json.dumps(record)))
        with replacing(self._path, prefix=f".{self._path.name}-", synced=True) as file:
            file.write(content.getvalue())
        if self._every:
            self._written = time.monotonic()


def _read(path: Path, identity: str) -> Any:
    """What is in the file; None if there is none, and a sentence if it will not do."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            x, record = held["x"], json.loads(str(held["record"]))
        whole = record["checksum"] == hashlib.sha256(x.tobytes()).hexdigest()
        found, other = record["format"], record["problem"] != identity
        SpectralBounds.from_dict(record["bounds"]) if record["bounds"] else None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        return f"`checkpoint` {path} is not a whole one ({error}); remove it to begin anew"
    if not whole or found != FORMAT:
        return f"`checkpoint` {path} is damaged, or of another version; remove it to begin anew"
    if other:
        return f"`checkpoint` {path} is of another problem; give another file, or remove it"
    return {"x": x, **record}


def _identity(problem: Any, smooth: Any) -> str:
    """A mark of the data: Aᵀb depends on all of them."""
    term = np.ascontiguousarray(to_host(smooth.linear_term))
    words = [repr(term.shape), str(term.dtype), repr(getattr(smooth, "ridge", 0.0))]
    if isinstance(problem, Composite):
        words.append(repr(problem.penalty))
    mark = hashlib.sha256("/".join(words).encode())
    mark.update(term.tobytes())
    return mark.hexdigest()
