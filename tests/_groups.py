"""Groups whose processes are threads of this one: the same exchanges, without starting anything."""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stepfold.distributed import Group
from stepfold.problems import Composite, QuadraticProblem


class ThreadGroup(Group):
    """One of several threads that exchange by a list and a barrier."""

    def __init__(self, rank: int, size: int, values: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.size = rank, size
        self._values, self._barrier = values, barrier

    def gather(self, value: Any) -> list[Any]:
        self._values[self.rank] = value
        self._wait()
        values = list(self._values)
        self._wait()
        return values

    def sum(self, values: Any) -> Any:
        parts = self.gather(values)
        total = parts[0] + 0 * parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def broadcast(self, value: Any) -> Any:
        return self.gather(value)[0]

    def _wait(self) -> None:
        try:
            self._barrier.wait()
        except threading.BrokenBarrierError:
            raise ConnectionError("another process has ended, hangs, or is out of step") from None


def together(
    size: int,
    program: Callable[[Group], Any],
    timeout: float = 120.0,
    lost: type[Exception] | tuple[()] = (),
) -> list[Any]:
    """What a program returns, or raises, in each of several threads.

    One that raises ``lost`` stands for a process that has ended: the others are told at once.
    """
    for member in (*vars(Composite).values(), *vars(QuadraticProblem).values()):
        if hasattr(member, "lock"):  # Python 3.11's is one for all objects, and so for all threads
            member.lock = contextlib.nullcontext()
    values: list[Any] = [None] * size
    barrier = threading.Barrier(size, timeout=timeout)

    def one(rank: int) -> Any:
        try:
            return program(ThreadGroup(rank, size, values, barrier))
        except Exception as error:  # noqa: BLE001 (looked at by the test)
            if isinstance(error, lost):
                barrier.abort()
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))
