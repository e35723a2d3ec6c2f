"""Runs that go on where they were when a process was lost.

Process 0 writes x, the position, what has been spent, the bounds and the schedule into one file,
which is replaced as a whole or not at all. After a restart it reads the file and tells the others.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import math
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import epsilon, from_host, to_host
from stepfold._checks import check_callable, check_instance, check_nonnegative, check_path
from stepfold._files import replacing
from stepfold.distributed.group import Group, current_group
from stepfold.distributed.spread import Spread, gathered
from stepfold.kernels import is_loaded, load
from stepfold.problems import Composite, Problem, QuadraticProblem
from stepfold.result import Result
from stepfold.run import Budgets
from stepfold.run.loop import Loop, Watcher
from stepfold.run.start import on_rows
from stepfold.run.units import in_units_near_one, scaled_bounds, scaled_schedule
from stepfold.schedules import Schedule
from stepfold.schedules.base import check_schedule
from stepfold.solve import solve
from stepfold.spectrum import SpectralBounds

FORMAT = "stepfold.run/2"
# Numbers that stand for a vector of the problem.
NUM_MARKS = 4


@on_rows
def resumable_solve(
    problem: Any,
    schedule: Schedule | None = None,
    *,
    checkpoint: str | Path,
    every: float = 30.0,
    group: Group | None = None,
    max_steps: int | None = 10_000,
    max_products: int | None = None,
    max_seconds: float | None = None,
    callback: Callable[[int, Any], None] | None = None,
    **options: Any,
) -> Result[Any]:
    """`stepfold.solve`, from where an earlier process of the same run has left off.

    With known steps of gradient descent the run after a restart makes the same iterates as one that
    was not interrupted, bit by bit, if there are as many processes as before and kernels were
    loaded when the file was written, or never are (see `stepfold.kernels.load`). Conjugate
    gradients, and problems with a penalty, begin anew at the x that was kept. The file is written
    in the course of the run and at its end, and removed once the run has converged.

    Args:
        problem: A problem over processes, or any other one but a map.
        schedule: Known steps, or None. After a restart with the same ones those in the file are
            taken, for the guard may have changed them.
        checkpoint: The file, on a disk that process 0 sees.
        every: Least seconds between two writings; 0 for one at each look or step.
        group: The processes; those of ``problem`` if None.
        max_steps: Budget of steps, those before the restart included.
        max_products: Budget of products, likewise; those to recognise the problem are not counted.
        max_seconds: Budget of seconds, likewise; those that nobody worked are not counted.
        callback: As in `stepfold.solve`.
        options: Other arguments of `stepfold.solve`.

    Returns:
        The record of the run since the last start; ``num_steps`` counts from there.

    Raises:
        TypeError: If ``problem`` is a map, or does not know its point 0.
        ValueError: If the file is damaged, or of another problem; on all processes.
        OSError: If there is no folder for it, or none may write there; on all processes. If a
            writing fails later, process 0 warns, and the run goes on.

    >>> import tempfile
    >>> from stepfold import LeastSquares
    >>> problem = LeastSquares(np.diag([2.0, 1.0]), np.array([2.0, 3.0]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = resumable_solve(problem, checkpoint=Path(folder) / "run.npz")
    >>> result.x.round(6)
    array([1., 3.])
    """
    every = float(check_nonnegative("every", every))
    check_callable("callback", callback)
    check_schedule(schedule)
    smooth: Any = problem.problem if isinstance(problem, Composite) else problem
    if not isinstance(smooth, Problem) or smooth.zero is None:
        raise TypeError(
            "`problem` must be a Problem that knows its point 0, or a Composite of one, got "
            f"{type(problem).__name__}; write x in a callback of `solve`"
        )
    if group is None:
        group = getattr(smooth, "group", None) or current_group()
    Budgets(max_steps, max_products, max_seconds)  # checks them
    path = check_path("checkpoint", checkpoint)
    check_instance("group", group, Group, "as `current_group()`")
    begun = _Begun(_words(problem, smooth, schedule), _marks(smooth))
    held = group.broadcast(_read(path, begun, epsilon(smooth.zero)) if group.rank == 0 else None)
    if isinstance(held, (OSError, ValueError)):
        raise held
    writer = _Writer(path, begun, group, smooth, every, callback)
    writer.at_steps = schedule is None and not isinstance(problem, Composite)
    x0 = options.pop("x0", None)
    if held is not None:
        x0, writer.before = _posed(held["x"], smooth), held["spent"]
        if held.get("compiled"):
            load()  # else the first steps would be made by NumPy, which rounds in another way
        if schedule is not None and held["schedule"] and held["words"] == begun.words:
            schedule = Schedule.from_dict(held["schedule"])
    steps, products, seconds = writer.before
    result = solve(
        problem,
        schedule,
        x0,
        max_steps=None if max_steps is None else max(0, max_steps - steps),
        max_products=None if max_products is None else max(0, max_products - products),
        max_seconds=None if max_seconds is None else max(0.0, max_seconds - seconds),
        callback=writer,
        **options,
    )
    writer.close(result)
    if held is not None and held["bounds"] and result.bounds is None:
        result = replace(result, bounds=SpectralBounds.from_dict(held["bounds"]))
    return result


class _Begun:
    """What a run is of: words about it, and numbers that other problems do not have."""

    def __init__(self, words: list[str], marks: list[float]) -> None:
        self.words, self.marks = words, marks


class _Writer(Watcher):
    """A callback that writes the file now and then.

    Args:
        path: The file.
        begun: What the run is of.
        group: The processes; the first of them writes.
        smooth: The problem, without a penalty.
        every: Least seconds between two writings.
        inner: A callback of the caller's.
    """

    def __init__(
        self,
        path: Path,
        begun: _Begun,
        group: Group,
        smooth: Any,
        every: float,
        inner: Callable[[int, Any], None] | None,
    ) -> None:
        self._path, self._begun, self._group = path, begun, group
        self._every, self._inner = every, inner
        self.at_steps = False
        """Whether every step's iterate will do: inside a period there is no place to go on from."""
        self.before: tuple[int, int, float] = (0, 0, 0.0)
        """Steps, products and seconds before this start."""
        # Entries that are shared out are gathered by all, who must agree on when.
        self._is_shared = isinstance(smooth.zero, Spread)
        self._takes_part = self._is_shared or group.rank == 0
        self._clock = smooth.clock if self._is_shared else time.monotonic
        self._written, self._started = self._clock(), self._clock()
        self._latest: tuple[Any, dict[str, Any]] | None = None
        if group.rank == 0:
            for draft in path.parent.glob(f".{glob.escape(path.name)}-*"):
                draft.unlink(missing_ok=True)

    def __call__(self, count: int, x: Any) -> None:
        if self._inner is not None:
            self._inner(count, x)

    def stepped(self, loop: Loop, x: Any) -> None:
        """Keep a step of conjugate gradients, with the bounds that they have found so far."""
        if self.at_steps and self._is_due:
            self._write(loop.units.posed(x), self._record(loop))

    def seen(self, loop: Loop) -> None:
        """Keep the place where the next period starts."""
        if self.at_steps or not self._takes_part:
            return
        self._latest = loop.units.posed(loop.policy.position(loop)), self._record(loop)
        if self._is_due:
            self._write(*self._latest)

    def close(self, result: Result[Any]) -> None:
        """Write how far the run has come, or remove the file if it has come to its end."""
        if result.converged:
            if self._group.rank == 0:
                self._path.unlink(missing_ok=True)
        elif self._latest is not None:
            self._write(*self._latest)
        elif self.at_steps and self._takes_part:
            products = result.history.num_products
            spent = result.num_steps, int(products[-1]) if products.size else 0
            self._write(result.x, self._facts(*spent, result.bounds, None))

    @property
    def _is_due(self) -> bool:
        if not self._takes_part:
            return False
        return self._every == 0 or self._clock() - self._written >= self._every

    def _record(self, loop: Loop) -> dict[str, Any]:
        policy, ledger, unit = loop.policy, loop.ledger, loop.units.hessian
        bounds = scaled_bounds(policy.bounds, unit)
        # Without steps that are known a policy would make some up for the next right-hand side.
        schedule = None if self.at_steps else scaled_schedule(policy.schedule, unit)
        return self._facts(ledger.num_steps, ledger.num_products, bounds, schedule)

    def _facts(
        self, num_steps: int, num_products: int, bounds: Any, schedule: Any
    ) -> dict[str, Any]:
        steps, products, seconds = self.before
        return {
            "words": self._begun.words,
            "marks": self._begun.marks,
            "spent": [
                steps + num_steps,
                products + num_products,
                seconds + self._clock() - self._started,
            ],
            "bounds": None if bounds is None else bounds.to_dict(),
            "schedule": None if schedule is None else schedule.to_dict(),
            "compiled": is_loaded(),
        }

    def _write(self, x: Any, record: dict[str, Any]) -> None:
        x = _host(x)
        self._written = self._clock()
        if self._group.rank > 0:
            return
        content = _packed(np.ascontiguousarray(x), record)
        try:
            with replacing(self._path, prefix=f".{self._path.name}-", synced=True) as file:
                file.write(content)
        except OSError as error:
            # The others wait for a sum: to end here would leave them without one.
            kept = (
                "the previous one is intact" if self._path.exists() else "there is no earlier one"
            )
            warnings.warn(
                f"`checkpoint` {self._path} could not be written ({error.strerror}), {kept}; the "
                "run goes on, make room",
                RuntimeWarning,
                stacklevel=2,
            )


def _packed(x: NDArray[Any], record: dict[str, Any]) -> bytes:
    text = json.dumps({"format": FORMAT, **record})
    content = io.BytesIO()
    checksum = _checksum(text, x)
    np.savez(content, x=x, record=np.bytes_(text.encode()), checksum=np.bytes_(checksum.encode()))
    return content.getvalue()


def _checksum(text: str, x: NDArray[Any]) -> str:
    """That of the record and of all of x: its dtype and its shape, then its bytes."""
    total = hashlib.sha256(json.dumps([text, x.dtype.str, list(x.shape)]).encode())
    total.update(np.ascontiguousarray(x).tobytes())
    return total.hexdigest()


def _read(path: Path, begun: _Begun, eps: float) -> Any:
    """What is in the file; None if there is none, and an error if it will not do."""
    if path.is_dir():
        return IsADirectoryError(f"`checkpoint` {path} is a folder; name a file")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return FileNotFoundError(
            f"`checkpoint` {path} needs a folder that may be written to, got {path.parent}; make it"
        )
    if not path.exists():
        return None
    found = _content(path)
    if isinstance(found, str):
        return ValueError(f"`checkpoint` {path} {found}; remove it to begin anew, or give another")
    there, here = (np.array(marks, np.float64) for marks in (found["marks"], begun.marks))
    alike = there.shape == here.shape and np.allclose(there, here, rtol=0, atol=math.sqrt(eps))
    if found["words"][1:] != begun.words[1:] or not alike:
        return ValueError(
            f"`checkpoint` {path} is of another problem; give another file, or remove it"
        )
    return found


def _content(path: Path) -> dict[str, Any] | str:
    """x and the record beside it, or what is wrong with the file."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            x = held["x"]
            text, checksum = (held[name].item().decode() for name in ("record", "checksum"))
        whole = checksum == _checksum(text, x)
        record = json.loads(text) if whole else {}
    except Exception as error:  # noqa: BLE001 (what a damaged archive raises nobody has listed)
        return f"is not a whole one ({type(error).__name__}: {error})"
    if not whole:
        return "is damaged: its checksum is not that of its content"
    if record.get("format") != FORMAT:
        return f"is of format {record.get('format')!r}, not {FORMAT!r}"
    return {"x": x, **record}


def _words(problem: Any, smooth: Any, schedule: Schedule | None) -> list[str]:
    """What a run is of: its steps, and then what the file must share with it."""
    steps = "none"
    if schedule is not None:
        steps = hashlib.sha256(np.ascontiguousarray(schedule.steps).tobytes()).hexdigest()
    words = [steps, repr(tuple(smooth.zero.shape)), str(smooth.zero.dtype)]
    words.append(repr(getattr(smooth, "ridge", 0.0)))
    if isinstance(problem, Composite):
        words.append(repr(problem.penalty))
    return words


def _marks(smooth: Any) -> list[float]:
    """Numbers that depend on all data; the same up to rounding for any number of processes."""
    units = in_units_near_one(smooth)
    scaled = units.problem
    if not isinstance(scaled, QuadraticProblem):
        return _marks_of(_host(scaled.gradient(scaled.zero)))
    term = scaled.linear_term
    marks = _marks_of(_host(term))
    if units.rhs is not None and units.solution is not None:
        # The unit of the term, which may be out of range: those of A and b, whose quotient is x's.
        marks[0] += float((2 * np.log(units.rhs) - np.log(units.solution)).mean())
    sizes = scaled.sizes()
    if sizes is None or not sizes.is_squared:
        marks += _marks_of(_host(scaled.product(term)))  # the term knows nothing of the matrix
    return marks


def _marks_of(vector: NDArray[Any]) -> list[float]:
    """The logarithm of a norm, and products with random vectors over it."""
    flat = np.ascontiguousarray(vector).reshape(-1)
    flat = flat.view(flat.real.dtype).astype(np.float64)
    norm = float(np.linalg.norm(flat))
    rng = np.random.default_rng(0)
    marks = [math.log(norm) if norm > 0 else 0.0]
    for _ in range(NUM_MARKS):
        weights = rng.standard_normal(flat.size)
        marks.append(float(weights @ flat) / norm if norm > 0 else 0.0)
    return marks


def _host(x: Any) -> NDArray[Any]:
    """All entries in NumPy, on every process."""
    found: NDArray[Any] = gathered(x) if isinstance(x, Spread) else to_host(x)
    return found


def _posed(x: NDArray[Any], smooth: Any) -> Any:
    """An iterate such as the problem takes."""
    zero = smooth.zero
    if isinstance(zero, Spread):
        return smooth.spread(np.ascontiguousarray(x[..., smooth.layout.own]))
    return from_host(x, zero)
