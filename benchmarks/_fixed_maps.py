"""Evaluations of a map until the error is small: plain, relaxed, accelerated, Anderson, FISTA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from _timing import Report

from stepfold.accelerate import accelerate
from stepfold.iterations import Fista
from stepfold.problems.gallery import GALLERY, GalleryMap

TOLERANCE = 1e-8
MOST = 60_000
OMEGAS = np.arange(0.1, 2.0, 0.1)
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
        f"Until the error is {TOLERANCE:g} of the error at the start; the middle of three draws, – "
        f"where {MOST} do not do it. The best constant ω is searched for, which costs many runs "
        "that are not counted. `accelerate` knows nothing but the map, and is looked at where its "
        "periods end.",
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
    result = accelerate(
        member.map,
        member.start,
        rtol=0.0,
        max_evaluations=MOST,
        stop=lambda x: member.error(x) <= TOLERANCE,
    )
    good = member.error(result.x) <= TOLERANCE
    return int(result.history.num_products[-1]) if good else None


def anderson(member: GalleryMap) -> int | None:
    return first(member, mixed(member))


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
    f"Anderson, {MEMORY}": anderson,
    "FISTA": fista,
}


def relaxed(member: GalleryMap, omega: float) -> Iterator[Any]:
    """``x ← x + ω(f(x) − x)``, an evaluation each."""
    x = member.start
    while True:
        x = x + omega * (member.map(x) - x)
        yield x


def mixed(member: GalleryMap) -> Iterator[Any]:
    """Anderson's acceleration of type II, a window of `MEMORY` differences, without damping."""
    shape = member.start.shape
    x = member.start.ravel()
    points: list[Any] = []
    residuals: list[Any] = []
    while True:
        image = member.map(x.reshape(shape)).ravel()
        points, residuals = [*points, image][-MEMORY - 1 :], [*residuals, image - x][-MEMORY - 1 :]
        x = image
        if len(residuals) > 1:
            steps = np.diff(np.array(residuals), axis=0).T
            weights = np.linalg.lstsq(steps, residuals[-1])[0]
            x = image - np.diff(np.array(points), axis=0).T @ weights
        yield x.reshape(shape)


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
