"""Evaluations of a map until the error is small: plain, relaxed, accelerated, Anderson, FISTA."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from _gallery import GALLERY, GalleryMap
from _timing import Report

from stepfold.accelerate import Anderson, accelerate, iterate
from stepfold.iterations import Fista

TOLERANCE = 1e-8
MOST = 10_000
OMEGAS = np.array([1.9, 1.8, 1.7, 1.6, 1.5, 1.4, 1.3, 1.2, 1.1, 1.0, 0.9, 0.8, 0.6, 0.4])
MEMORY = 5


def evaluations(report: Report, *, quick: bool) -> None:
    """The table over the gallery."""
    rows = []
    for name in GALLERY:
        made = [GALLERY[name](np.random.default_rng(seed)) for seed in range(1 if quick else 3)]
        columns = [[count(member) for count in METHODS.values()] for member in made]
        cells = [_cell([column[i] for column in columns]) for i in range(len(METHODS))]
        rows.append([f"`{name}`", *cells])
    report.table(
        "Evaluations of the map",
        ["map", *METHODS],
        rows,
        f"Until the error is {TOLERANCE:g} of the error at the start; the middle of three draws; – "
        f"where {MOST} do not do it, and for FISTA where the map is no proximal step. The best "
        f"constant ω (of {len(OMEGAS)} from {OMEGAS.min():g} to {OMEGAS.max():g}) is searched for, "
        "which costs many runs that are not counted. `accelerate` knows nothing but the map, and "
        "is looked at where its periods end.",
    )


def plain(member: GalleryMap) -> int | None:
    return first(member, relaxed(member, 1.0))


def constant(member: GalleryMap) -> int | None:
    """The best of all ω in `OMEGAS`."""
    best: int | None = None
    for omega in OMEGAS:
        found = first(member, relaxed(member, omega), MOST if best is None else best)
        best = best if found is None else found
    return best


def accelerated(member: GalleryMap) -> int | None:
    """`accelerate`, with nothing but the map and the start."""
    return _counted(accelerate, member)


def mixed(member: GalleryMap) -> int | None:
    """Anderson's acceleration, type II, without damping."""
    return _counted(functools.partial(iterate, method=Anderson(MEMORY)), member)


def _counted(method: Callable[..., Any], member: GalleryMap) -> int | None:
    result = method(
        member.map,
        member.start,
        rtol=0.0,
        max_products=MOST,
        stop=lambda x: member.error(x) <= TOLERANCE,
    )
    good = member.error(result.x) <= TOLERANCE
    return int(result.history.num_products[-1]) if good else None


def fista(member: GalleryMap) -> int | None:
    """Steps of FISTA with restart, one gradient each."""
    objective = member.composite
    if objective is None:
        return None

    def iterates() -> Iterator[Any]:
        method: Fista[Any] = Fista(objective.penalty)
        state = method.init(objective.problem, member.start)
        while True:
            state = method.step(objective.problem, state, objective.step)
            yield method.iterate(state)

    return first(member, iterates())


METHODS: dict[str, Callable[[GalleryMap], int | None]] = {
    "plain": plain,
    "best constant ω": constant,
    "accelerate": accelerated,
    f"Anderson, {MEMORY}": mixed,
    "FISTA": fista,
}


def relaxed(member: GalleryMap, omega: float) -> Iterator[Any]:
    """``x ← x + ω(f(x) − x)``, an evaluation each."""
    x = member.start
    while True:
        x = x + omega * (member.map(x) - x)
        yield x


def first(member: GalleryMap, iterates: Iterator[Any], most: int = MOST) -> int | None:
    """How many iterates until one is good enough; None if not before ``most``."""
    with np.errstate(over="ignore", invalid="ignore"):
        for number, x in enumerate(islice(iterates, most), 1):
            error = member.error(x)
            if error <= TOLERANCE:
                return number
            if not error < 1e6:
                return None
    return None


def _cell(counts: list[int | None]) -> str:
    found = sorted(MOST + 1 if count is None else count for count in counts)
    middle = found[len(found) // 2]
    return "–" if middle > MOST else str(middle)
