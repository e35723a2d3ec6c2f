"""What an iteration takes on many processes, from what a few operations take on one or two.

A model of few terms: reading stored entries, passing over vectors, messages to neighbours, sums
over all processes, and what a step takes beside these. Sums over P processes go through a tree of
``⌈log₂ P⌉`` messages; long ones through a ring, which sends every number twice. A product runs
while messages travel; a pipelined method's sum travels during its product.

What it leaves out: processes that wait for a slow one, networks that several share, caches that
small parts fit into (predictions are then too slow), and topologies. Beyond what was measured it
tells orders of magnitude, and which term rules.

References:
    Hockney, The communication challenge for MPP (Parallel Computing 20, 1994), for messages;
    Thakur, Rabenseifner and Gropp, Optimization of collective communication operations in MPICH
    (2005), sections 3 and 4, for trees and rings; Ghysels and Vanroose (Parallel Computing 40,
    2014), for the three kinds of conjugate gradients.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold._checks import (
    check_choice,
    check_count,
    check_instance,
    check_nonnegative,
    check_period,
    check_positive,
)
from stepfold._codec import JsonRecord
from stepfold.distributed.group import Alone, Group
from stepfold.distributed.unknowns import ShardedQuadratic
from stepfold.schedules import Schedule
from stepfold.solve import solve

BYTES = 8
# T, where nobody says.
PERIOD = 64

# For each method: passes over vectors in a step (reads and writes of all n numbers), sums of a few
# numbers, and whether these travel during the product. Counted in the recurrences.
METHODS = {
    "known steps": (5, 0, False),
    "textbook conjugate gradients": (12, 2, False),
    "fused conjugate gradients": (14, 1, False),
    "pipelined conjugate gradients": (22, 1, True),
}
# Sums at the end of a period: the norms of the gradient and of x together.
SUMS_OF_A_LOOK = 1


@dataclass(frozen=True)
class Costs(JsonRecord):
    """What operations take, in seconds.

    Args:
        entry: A product's, for each stored entry of a matrix.
        number: Of reading or writing a number of a vector.
        latency: Of a short message from one process to another.
        per_byte: Of a long message, for each byte.
        step: Of a known step beside all of these: the interpreter's. Taken for other methods' too.
        sum_latency: Of a round of a short sum over the processes; ``latency`` if None.
        source: Where the numbers are from.

    Raises:
        ValueError: If a number is negative or not finite.

    >>> Costs(entry=1e-9, number=1e-9, latency=1e-5, per_byte=1e-10).source
    'given'
    """

    entry: float
    number: float
    latency: float
    per_byte: float
    step: float = 0.0
    sum_latency: float | None = None
    source: str = "given"

    def __post_init__(self) -> None:
        for name in ("entry", "number", "latency", "per_byte", "step"):
            check_nonnegative(name, getattr(self, name))
        if self.sum_latency is not None:
            check_nonnegative("sum_latency", self.sum_latency)

    def sum_seconds(self, num_processes: int, count: int = 1) -> float:
        """Of a sum of ``count`` numbers over all processes: the faster of a tree and a ring.

        >>> Costs(0.0, 0.0, latency=0.5, per_byte=0.0).sum_seconds(1024)
        5.0
        """
        if num_processes == 1:
            return 0.0
        rounds, size = math.ceil(math.log2(num_processes)), BYTES * count
        latency = self.latency if self.sum_latency is None else self.sum_latency
        tree = rounds * (latency + size * self.per_byte)
        share = (num_processes - 1) / num_processes
        ring = 2 * (num_processes - 1) * latency + 2 * share * size * self.per_byte
        return float(min(tree, ring))


@dataclass(frozen=True)
class HaloWork(JsonRecord):
    """A sparse system whose unknowns are shared out in blocks of a grid.

    Args:
        unknowns: n.
        entries: Stored entries of the matrix.
        dimensions: Of the grid, 1 to 3: a block of m unknowns has ``m^(1 − 1/d)`` on each of its
            2d faces. A graph that is cut well is like a grid of 2.
        depth: Known steps for which messages are exchanged once; see `ShardedQuadratic`.

    Raises:
        ValueError: If a number is out of range.

    >>> HaloWork(unknowns=10**6, entries=5 * 10**6).dimensions
    2
    """

    unknowns: int
    entries: int
    dimensions: int = 2
    depth: int = 1

    def __post_init__(self) -> None:
        check_count("unknowns", self.unknowns)
        check_count("entries", self.entries)
        check_count("depth", self.depth)
        if check_count("dimensions", self.dimensions) > 3:
            raise ValueError(f"`dimensions` must be 1, 2 or 3, got {self.dimensions}")

    def step_seconds(
        self, costs: Costs, num_processes: int, method: str, period: int = PERIOD
    ) -> float:
        """Seconds of a step, for a process with an average part.

        Args:
            costs: What operations take.
            num_processes: P.
            method: A key of `METHODS`.
            period: T of known steps, after which there is one sum.

        Raises:
            ValueError: If the method is unknown, or there are more processes than unknowns.

        >>> costs = Costs(1e-9, 1e-9, latency=1e-5, per_byte=1e-10)
        >>> work = HaloWork(10**6, 5 * 10**6)
        >>> known = work.step_seconds(costs, 1000, "known steps")
        >>> known < work.step_seconds(costs, 1000, "pipelined conjugate gradients")
        True
        """
        _check(num_processes, self.unknowns, period)
        passes, sums, hides = _method(method)
        part = self.unknowns / num_processes
        product = costs.entry * self.entries / num_processes
        # All but two parts have neighbours on every side; of two each has one.
        neighbours = min(num_processes - 1, 2 * self.dimensions)
        face: float = part ** (1 - 1 / self.dimensions)
        total = costs.sum_seconds(num_processes, 3)
        vectors = costs.step + passes * costs.number * part
        depth = self.depth if method == "known steps" else 1
        messages = neighbours * (costs.latency / depth + BYTES * face * costs.per_byte)
        if depth == 1:
            product = float(max(product, messages))
        else:
            # The rows of others around are multiplied too, and nothing while messages travel.
            more = min(1 + neighbours * (depth - 1) * face / part, num_processes)
            product, vectors = product * more + messages, vectors * more
        if method == "known steps":
            return vectors + product + SUMS_OF_A_LOOK * total / period
        return vectors + (max(product, total) if hides else product + sums * total)


@dataclass(frozen=True)
class RowsWork(JsonRecord):
    """Least squares whose rows are shared out, with x on every process.

    Args:
        columns: n.
        entries: Stored entries of the matrix; a sweep reads each once and multiplies twice.

    Raises:
        ValueError: If a number is out of range.

    >>> RowsWork(columns=300, entries=10**6).columns
    300
    """

    columns: int
    entries: int

    def __post_init__(self) -> None:
        check_count("columns", self.columns)
        check_count("entries", self.entries)

    def step_seconds(
        self, costs: Costs, num_processes: int, method: str, period: int = PERIOD
    ) -> float:
        """Seconds of a step; x is replicated, so inner products take no sum, by any method.

        Every method sums a vector of n numbers in each step. The three kinds of conjugate gradients
        differ in passes over vectors only, and fewer steps are needed than known ones.
        """
        _check(num_processes, None, period)
        passes, _, _ = _method(method)
        vectors = costs.step + passes * costs.number * self.columns
        sweep = costs.entry * self.entries / num_processes
        return vectors + sweep + costs.sum_seconds(num_processes, self.columns)


def _check(num_processes: int, unknowns: int | None, period: int) -> None:
    check_count("num_processes", num_processes, maximum=10**9)
    check_period(period)
    if unknowns is not None and num_processes > unknowns:
        raise ValueError(
            f"`num_processes` must be at most the number of unknowns, {unknowns}, got "
            f"{num_processes}"
        )


def _method(name: str) -> tuple[int, int, bool]:
    check_choice("method", name, METHODS)
    return METHODS[name]


def break_even(
    work: HaloWork | RowsWork, costs: Costs, num_processes: int, method: str, period: int = PERIOD
) -> float:
    """How many times as many known steps as steps of another method take as long as those.

    Args:
        work: The problem.
        costs: What operations take, in seconds.
        num_processes: How many processes share it.
        method: Name of the other method.
        period: T, the known steps between two sums.

    Raises:
        TypeError: If ``work`` is neither of the two kinds.
        ValueError: If there is no such method, or a number is not positive.

    >>> costs = Costs(1e-9, 1e-9, latency=1e-3, per_byte=0.0)
    >>> break_even(HaloWork(10**4, 5 * 10**4), costs, 16, "textbook conjugate gradients") > 2.5
    True
    """
    if not isinstance(work, (HaloWork, RowsWork)):
        raise TypeError(
            f"`work` must be HaloWork or RowsWork, got {type(work).__name__}; as "
            "`RowsWork(columns, entries)`"
        )
    check_instance("costs", costs, Costs, "take those of `measured_costs`")
    ours = work.step_seconds(costs, num_processes, "known steps", period)
    return work.step_seconds(costs, num_processes, method, period) / ours if ours else math.inf


def measured_costs(group: Group, seconds: float = 1.0, **known: float) -> Costs:
    """Measure what operations take on these processes; call it on all of them.

    Args:
        group: The processes. One alone has no network: its two numbers must be given.
        seconds: About how long it may take.
        known: ``latency`` or ``per_byte``, where they are known and not to be measured.

    Raises:
        TypeError: If another keyword is given.
        ValueError: If there is one process, and a number of the network is not given.

    >>> from stepfold.distributed import Alone
    >>> costs = measured_costs(Alone(), 0.05, latency=1e-5, per_byte=1e-10)
    >>> costs.entry > 0, costs.latency
    (True, 1e-05)
    """
    unknown = set(known) - {"latency", "per_byte"}
    if unknown:
        raise TypeError(f"`known` must be of latency and per_byte, got {sorted(unknown)}")
    check_positive("seconds", seconds)
    missing = [name for name in ("latency", "per_byte") if name not in known]
    if group.size == 1 and missing:
        raise ValueError(
            f"`{missing[0]}` must be given for one process, which has no network to measure; or "
            "start two, under torchrun"
        )
    import scipy.sparse

    size = 2**20
    diagonals = [np.full(size, 4.0), *[np.full(size, -1.0)] * 4]
    stored: Any = (np.stack(diagonals), [0, 1, -1, 1024, -1024])
    matrix = scipy.sparse.dia_array(stored, shape=(size, size)).tocsr()
    x, y = np.ones(size), np.ones(size)
    share = seconds / 6
    entry = _fastest(lambda: matrix @ x, share) / matrix.nnz

    def passes() -> None:
        np.add(x, y, out=y)

    number = _fastest(passes, share) / (3 * size)
    tiny = ShardedQuadratic(scipy.sparse.eye_array(2, format="csr"), np.ones(2), group=Alone())
    steps = Schedule(np.full(PERIOD, 0.1))
    budget = 4 * PERIOD

    def run() -> None:
        solve(tiny, steps, rtol=0.0, max_steps=budget, guard=None)

    step = _fastest(run, share) / budget
    latency, per_byte = known.get("latency"), known.get("per_byte")
    sum_latency = latency
    if group.size > 1:
        short, long = np.zeros(4), np.zeros(2**17)
        brief = _exchange_seconds(group, lambda: _pass_on(group, short), share)
        if latency is None:
            latency = brief
            rounds = math.ceil(math.log2(group.size))
            sum_latency = _exchange_seconds(group, lambda: group.sum(short), share) / rounds
        if per_byte is None:
            seconds = _exchange_seconds(group, lambda: _pass_on(group, long), share)
            per_byte = max(seconds - brief, 0.0) / long.nbytes
    assert latency is not None and per_byte is not None  # noqa: S101, PT018
    # The slowest process decides; all must have the same numbers.
    mine = (entry, number, latency, per_byte, step, sum_latency)
    entry, number, latency, per_byte, step, sum_latency = np.max(
        group.gather(mine), axis=0
    ).tolist()
    source = f"measured on {group.size} process{'es' * (group.size > 1)}"
    return Costs(entry, number, latency, per_byte, step, sum_latency, source)


def _pass_on(group: Group, array: Any) -> None:
    """Send to the next process, and receive from the last."""
    after, before = (group.rank + 1) % group.size, (group.rank - 1) % group.size
    group.swap({after: array}, {before: np.empty_like(array)})()


def _exchange_seconds(group: Group, exchange: Callable[[], Any], seconds: float) -> float:
    """The lower quartile of the times of some exchanges: others on the machine only slow."""

    def once() -> float:
        begun = time.perf_counter()
        exchange()
        return time.perf_counter() - begun

    once()
    longest = max(group.gather(once()))
    # As many on each process.
    count = int(np.clip(seconds / max(longest, 1e-7), 5, 200))
    return float(np.quantile([once() for _ in range(count)], 0.25))


def _fastest(run: Callable[[], Any], seconds: float) -> float:
    """The shortest of some runs, the first not counted: others on the machine only slow."""
    run()
    best, until = math.inf, time.perf_counter() + seconds
    while True:
        begun = time.perf_counter()
        run()
        ended = time.perf_counter()
        best = min(best, ended - begun)
        if ended > until:
            return best
