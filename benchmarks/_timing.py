"""Timings that can be compared: contestants take turns, and ratios are taken within a turn.

The machine's speed drifts (other work, clock rates, caches). A contestant that is timed right after
its rival meets the same weather, so the ratio of the two is taken turn by turn; its median and its
quartiles are what tables show.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


PAUSE = 0.2


def with_threads(num_threads: int) -> None:
    """Start this program again with the libraries' thread counts set, unless they are.

    BLAS and numba read them once, when they are loaded. Call it before NumPy is imported.
    """
    wanted = {name: str(num_threads) for name in THREAD_VARIABLES}
    if all(os.environ.get(name) == count for name, count in wanted.items()):
        return
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})


@dataclass(frozen=True)
class Timing:
    """Seconds of one contestant, turn by turn, and what it did in them.

    ``products`` counts products with the matrix or its transpose; ``error`` is the relative error
    of the solution, for contestants that solve.
    """

    name: str
    seconds: tuple[float, ...]
    products: float | None = None
    error: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def per(self, count: float) -> Timing:
        """The same for one of ``count`` equal parts."""
        products = None if self.products is None else self.products / count
        return replace(self, seconds=tuple(s / count for s in self.seconds), products=products)


def take_turns(
    contestants: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    warm_up: bool = True,
    pause: float = PAUSE,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time each contestant once per turn, by default after a turn that does not count.

    The order rotates, so that nobody always runs on the caches that the same rival left. Before
    each there is a pause: after a product OpenBLAS's threads go on spinning for a tenth of a
    second, on the very cores that the next contestant's threads need. Contestants too small for
    threads need none. Another clock is ``time.process_time``: seconds of the processor, of all
    threads.
    """
    names = list(contestants)
    for name in names if warm_up else ():
        contestants[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            time.sleep(pause)
            begin = clock()
            contestants[name]()
            seconds[name].append(clock() - begin)
    return {name: Timing(name, tuple(values)) for name, values in seconds.items()}


def difference(longer: Timing, shorter: Timing, num_steps: int) -> Timing:
    """Seconds of a further step: what two runs that differ by ``num_steps`` differ by, each."""
    pairs = zip(longer.seconds, shorter.seconds, strict=True)
    return Timing(longer.name, tuple((a - b) / num_steps for a, b in pairs))


def quartiles(values: Iterable[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile; of one value, that value three times."""
    values = list(values)
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


@dataclass(frozen=True)
class Comparison:
    """Ours beside a rival's; the target is the largest ratio of seconds that was aimed at."""

    what: str
    ours: Timing
    rival: Timing
    target: float | None = None

    @property
    def ratios(self) -> list[float]:
        """Ours / rival, turn by turn."""
        if len(self.ours.seconds) != len(self.rival.seconds):
            return [self.ours.median / self.rival.median]
        return [a / b for a, b in zip(self.ours.seconds, self.rival.seconds, strict=True)]

    def cells(self) -> list[str]:
        low, middle, high = quartiles(self.ratios)
        target, verdict = "", ""
        if self.target is not None:
            target = f"≤ {self.target:g}"
            verdict = "met" if middle <= self.target else "missed"
        elif middle > 1:
            verdict = "lost"
        elif middle < 1:
            verdict = "won"
        return [
            self.what,
            self.ours.name,
            self.rival.name,
            duration(self.ours),
            duration(self.rival),
            f"{middle:.2f} ({low:.2f}–{high:.2f})",
            target,
            verdict,
            f"{count(self.ours.products)} / {count(self.rival.products)}",
            f"{scientific(self.ours.error)} / {scientific(self.rival.error)}",
        ]


COMPARISON_HEADER = [
    "what",
    "ours",
    "rival",
    "time, ours",
    "time, rival",
    "ratio (quartiles)",
    "target",
    "",
    "products, ours / rival",
    "error, ours / rival",
]


@dataclass
class Report:
    """What a run has to say; every piece is printed when it is known, too."""

    comparisons: list[Comparison] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def compare(
        self, what: str, ours: Timing, rivals: Iterable[Timing], target: float | None = None
    ) -> None:
        for rival in rivals:
            comparison = Comparison(what, ours, rival, target)
            self.comparisons.append(comparison)
            print(markdown_row(comparison.cells()), flush=True)

    def table(self, title: str, header: list[str], rows: list[list[str]], after: str = "") -> None:
        text = f"### {title}\n\n{markdown_table(header, rows)}\n"
        text += f"\n{after}\n" if after else ""
        self.tables.append(text)
        print(f"\n{text}", flush=True)

    def note(self, text: str) -> None:
        if text in self.notes:
            return
        self.notes.append(text)
        print(f"note: {text}", flush=True)

    def markdown(self) -> str:
        parts = [markdown_table(COMPARISON_HEADER, [c.cells() for c in self.comparisons]), ""]
        parts += self.tables
        parts += [f"- {note}" for note in self.notes]
        return "\n".join(parts).rstrip() + "\n"


def markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    rule = "|".join("---" for _ in header)
    return "\n".join([markdown_row(header), f"|{rule}|", *map(markdown_row, rows)])


def duration(timing: Timing) -> str:
    """Median, and half the distance of the quartiles in per cent of it."""
    low, middle, high = quartiles(timing.seconds)
    return f"{seconds(middle)} ± {50 * (high - low) / middle:.0f} %"


def seconds(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def count(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def scientific(value: float | None) -> str:
    return "–" if value is None else f"{value:.0e}"


def slope(sizes: list[float], values: list[float]) -> float:
    """Slope of the least-squares line through the logarithms."""
    x, y = [math.log(v) for v in sizes], [math.log(v) for v in values]
    return statistics.linear_regression(x, y).slope


def fewest(error_after: Callable[[int], float], tolerance: float, guess: int) -> tuple[int, float]:
    """Fewest steps with an error of at most ``tolerance``, and that error.

    Bisection on the logarithm of the error, which falls about linearly from 0 at 0 steps.

    Raises:
        RuntimeError: If 60 runs do not find it: the error stagnates above the tolerance.
    """
    low, log_low = 0, 0.0
    high: int | None = None
    log_high = error = -math.inf
    steps = max(1, guess)
    for _ in range(60):
        found = error_after(steps)
        log_found = math.log(max(found, 1e-300))
        if found <= tolerance:
            high, log_high, error = steps, log_found, found
        else:
            low, log_low = steps, log_found
        if high is None:
            rate = log_low / low
            ahead = math.ceil(math.log(tolerance) / rate) if rate < 0 else 2 * low
            steps = min(max(ahead, low + 1), 2 * low)
            continue
        if high - low == 1:
            return high, error
        share = (math.log(tolerance) - log_low) / (log_high - log_low)
        steps = min(max(low + round(share * (high - low)), low + 1), high - 1)
    raise RuntimeError(f"no number of steps up to {steps} reaches an error of {tolerance:g}")
