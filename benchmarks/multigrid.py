"""Chebyshev smoothers beside PyAMG's: V-cycles, products, seconds of the processor.

    python benchmarks/multigrid.py                            # about three minutes
    python benchmarks/multigrid.py --quick                    # small grids, below 20 seconds
    python benchmarks/multigrid.py --write docs/guides/multigrid.md  # replace its tables

Everybody has the same smoothed aggregation hierarchy and the same right-hand side, one thread, and
goes on until the residual is 1e-8 of the right-hand side: conjugate gradients preconditioned by a
V-cycle, or V-cycles alone. Contestants take turns; ratios are taken within a turn.

A *product* reads every entry of the finest matrix once: a residual, a product of conjugate
gradients, a step of ours, a sweep of Jacobi, a sweep of Gauss–Seidel in one direction (a symmetric
sweep is two). The first step of ours and of PyAMG's Chebyshev from 0 takes none. PyAMG's own
residual norms, before and after each cycle, are in everybody's seconds and not counted.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from _timing import Report, quartiles, seconds, take_turns, with_threads

TOLERANCE = 1e-8
TARGET = 0.7
MOST_CYCLES = 100
BEGIN, END = "<!-- benchmarks/multigrid.py: begin -->", "<!-- benchmarks/multigrid.py: end -->"
DEFAULT = "Gauss–Seidel, symmetric (default)"
OURS = "fourth kind, 2 steps"

warnings.simplefilter("ignore")  # of PyAMG: conversions, and preconditioners that are not symmetric


@dataclass(frozen=True)
class Problem:
    name: str
    matrix: Any
    rhs: Any


@dataclass(frozen=True)
class Way:
    """A smoother: how it is put into a hierarchy, and its products before and after a correction.

    ``saved`` is how many fewer it takes before a correction from 0.
    """

    name: str
    install: Callable[[Any], Any]
    before: int
    after: int
    saved: int = 0
    is_symmetric: bool = True


def grid(conductivity: Any) -> Any:
    """Five-point finite volumes for cells of given conductivity, 0 outside."""
    import numpy as np
    import scipy.sparse as sp

    index = np.arange(conductivity.size).reshape(conductivity.shape)
    pairs, weights = [], []
    for axis in (0, 1):
        ends = [np.moveaxis(v, axis, 0) for v in (index, conductivity)]
        pairs.append(np.stack([ends[0][1:].ravel(), ends[0][:-1].ravel()]))
        a, b = ends[1][1:].ravel(), ends[1][:-1].ravel()
        weights.append(2 * a * b / (a + b))
    (heads, tails), w = np.hstack(pairs), np.hstack(weights)
    links = sp.coo_array((w, (heads, tails)), shape=(index.size,) * 2)
    links = (links + links.T).tocsr()
    boundary = np.zeros(conductivity.shape)
    for side in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        boundary[side] += 2 * conductivity[side]
    return sp.csr_array(sp.diags_array(links.sum(axis=1) + boundary.ravel()) - links)


def random_walker(side: int) -> tuple[Any, Any] | None:
    """The system that scikit-image's random walker solves to segment its photograph `camera`."""
    import numpy as np
    import scipy.sparse as sp

    try:
        from skimage import data
        from skimage.segmentation import random_walker_segmentation as module
    except ModuleNotFoundError:
        return None
    picture = data.camera()[:side, :side] / 255.0
    labels = np.zeros(picture.shape, np.int32)
    labels[: side // 16, :] = 1
    labels[-side // 4 :, side // 3 : side // 2] = 2
    matrix, rhs = module._build_linear_system(
        picture[:, :, None, None], np.ones(3), labels[:, :, None], 2, None, 130, False
    )
    return sp.csr_array(matrix), rhs.toarray()[:, 0]


def problems(quick: bool) -> Iterator[Problem]:
    import numpy as np
    from pyamg.gallery import poisson, stencil_grid
    from pyamg.gallery.diffusion import diffusion_stencil_2d

    def posed(name: str, matrix: Any) -> Problem:
        return Problem(name, matrix, np.random.default_rng(1).standard_normal(matrix.shape[0]))

    side = 64 if quick else 512
    yield posed(f"Poisson {side}²", poisson((side, side), format="csr"))
    edge = 16 if quick else 64
    yield posed(f"Poisson {edge}³", poisson((edge,) * 3, format="csr"))
    side = 64 if quick else 256
    stencil = diffusion_stencil_2d(epsilon=0.01, type="FD")
    yield posed(f"anisotropic 1:100, {side}²", stencil_grid(stencil, (side, side), format="csr"))
    blocks = 10.0 ** (4 * (np.random.default_rng(0).random((8, 8)) < 0.5))
    conductivity = np.kron(blocks, np.ones((side // 8, side // 8)))
    yield posed(f"jumps 1:10⁴, {side}²", grid(conductivity))
    side = 96 if quick else 512
    found = random_walker(side)
    if found is None:
        print("skipped: scikit-image is not installed (`pip install '.[photographs]'`)")
    else:
        yield Problem(f"random walker of a photograph, {side}²", *found)


def ways() -> list[Way]:
    from pyamg.relaxation.smoothing import change_smoothers as pyamg_smoothers

    from stepfold import chebyshev_steps
    from stepfold.interop.pyamg import FOURTH_KIND, change_smoothers
    from stepfold.schedules import optimised_fourth_kind_steps

    def theirs(pre: Any, post: Any) -> Callable[[Any], Any]:
        return lambda hierarchy: pyamg_smoothers(hierarchy, pre, post)

    def steps(family: Any, degree: int) -> Callable[[Any], Any]:
        return partial(change_smoothers, steps=family, degree=degree)

    symmetric = ("block_gauss_seidel", {"sweep": "symmetric"})
    forward, backward = (("gauss_seidel", {"sweep": s}) for s in ("forward", "backward"))
    return [
        Way(DEFAULT, theirs(symmetric, symmetric), 2, 2),
        Way("Gauss–Seidel, forward then backward", theirs(forward, backward), 1, 1),
        Way("Gauss–Seidel, backward then forward", theirs(backward, forward), 1, 1),
        Way("Gauss–Seidel, forward twice", theirs(forward, forward), 1, 1, is_symmetric=False),
        Way("Jacobi, ω = 4/3", theirs(*[("jacobi", {"omega": 4 / 3})] * 2), 1, 1),
        Way("PyAMG's Chebyshev, degree 3", theirs("chebyshev", "chebyshev"), 3, 3, 1),
        Way("fourth kind, 1 step", steps(FOURTH_KIND, 1), 1, 1, 1),
        Way(OURS, steps(FOURTH_KIND, 2), 2, 2, 1),
        Way("fourth kind, 3 steps", steps(FOURTH_KIND, 3), 3, 3, 1),
        Way("optimised fourth kind, 2 steps", steps(optimised_fourth_kind_steps, 2), 2, 2, 1),
        Way("first kind on [b/4, b], 2 steps", steps(chebyshev_steps, 2), 2, 2, 1),
    ]


def counted(way: Way, cycles: int, accelerated: bool) -> int:
    """Products of so many cycles: residual for the coarser level, smoothing, and the method's."""
    per_cycle = 1 + way.before + way.after
    if accelerated:
        return cycles * (per_cycle - way.saved + 1)
    return cycles * per_cycle - way.saved


def with_smoothers(hierarchy: Any, way: Way) -> list[tuple[Any, Any]]:
    way.install(hierarchy)
    return [(level.presmoother, level.postsmoother) for level in hierarchy.levels[:-1]]


def run(hierarchy: Any, smoothers: list[tuple[Any, Any]], rhs: Any, accel: Any) -> list[float]:
    """Solve; the norms of the residuals as PyAMG records them."""
    for level, (pre, post) in zip(hierarchy.levels, smoothers, strict=False):
        level.presmoother, level.postsmoother = pre, post
    residuals: list[float] = []
    hierarchy.solve(rhs, tol=TOLERANCE, accel=accel, maxiter=MOST_CYCLES, residuals=residuals)
    return residuals


def compare(report: Report, problem: Problem, repeats: int) -> list[tuple[str, float]]:
    """One table; the median ratio of our default to PyAMG's, as preconditioner and as solver."""
    import numpy as np
    import pyamg

    begin = time.process_time()
    hierarchy = pyamg.smoothed_aggregation_solver(problem.matrix)
    set_up = time.process_time() - begin
    contestants = ways()
    installed, costs = {}, {}
    for way in contestants:
        begin = time.process_time()
        installed[way.name] = with_smoothers(hierarchy, way)
        costs[way.name] = time.process_time() - begin
    verdicts, cells = [], {way.name: [way.name, seconds(costs[way.name])] for way in contestants}
    for accel, title in (("cg", "as preconditioner"), (None, "as solver")):
        runs, cycles, good = {}, {}, {}
        for way in contestants:
            # Conjugate gradients need a symmetric preconditioner.
            method = accel if way.is_symmetric or accel is None else "fgmres"
            runs[way.name] = partial(run, hierarchy, installed[way.name], problem.rhs, method)
            residuals = runs[way.name]()
            cycles[way.name] = len(residuals) - 1
            last = residuals[-1] / np.linalg.norm(problem.rhs)
            good[way.name] = bool(last <= 2 * TOLERANCE)
        ending = {name: go for name, go in runs.items() if good[name]}
        found = {}
        if ending:
            found = take_turns(ending, repeats, warm_up=False, pause=0, clock=time.process_time)
        for way in contestants:
            if not good[way.name]:
                cells[way.name] += [f"more than {MOST_CYCLES}", "–", "–", "–"]
                continue
            timing = found[way.name]
            ratio = "–"
            if DEFAULT in found:
                pairs = zip(timing.seconds, found[DEFAULT].seconds, strict=True)
                low, middle, high = quartiles(a / b for a, b in pairs)
                ratio = f"{middle:.2f} ({low:.2f}–{high:.2f})"
                if way.name == OURS:
                    verdicts.append((title, middle))
            count = str(counted(way, cycles[way.name], accel is not None))
            cells[way.name] += [str(cycles[way.name]), count, seconds(timing.median), ratio]
    levels, complexity = len(hierarchy.levels), hierarchy.operator_complexity()
    report.table(
        f"{problem.name}",
        [
            "smoother",
            "set-up",
            *("cycles, cg", "products", "CPU time", "ratio"),
            *("cycles alone", "products", "CPU time", "ratio"),
        ],
        [cells[way.name] for way in contestants],
        f"{problem.matrix.shape[0]} unknowns, {problem.matrix.nnz} entries, {levels} levels, "
        f"operator complexity {complexity:.2f}; the hierarchy itself takes {seconds(set_up)}.",
    )
    return verdicts


def without_multigrid(report: Report, chosen: list[Problem], repeats: int) -> None:
    """Conjugate gradients scaled by the diagonal beside `solver`: when multigrid pays at all."""
    from scipy.sparse import diags_array
    from scipy.sparse.linalg import cg

    from stepfold.interop.pyamg import solver

    rows = []
    for problem in chosen:
        matrix, rhs = problem.matrix, problem.rhs
        counts = {"cg": 0, "multigrid": 0}

        def plain(matrix: Any = matrix, rhs: Any = rhs, counts: Any = counts) -> None:
            steps: list[None] = []
            scaling = diags_array(1 / matrix.diagonal())
            cg(matrix, rhs, rtol=TOLERANCE, M=scaling, callback=lambda _: steps.append(None))
            counts["cg"] = len(steps)

        def multigrid(matrix: Any = matrix, rhs: Any = rhs, counts: Any = counts) -> None:
            residuals: list[float] = []
            solver(matrix).solve(rhs, tol=TOLERANCE, accel="cg", residuals=residuals)
            counts["multigrid"] = len(residuals) - 1

        found = take_turns(
            {"cg": plain, "multigrid": multigrid}, repeats, pause=0, clock=time.process_time
        )
        pairs = zip(found["cg"].seconds, found["multigrid"].seconds, strict=True)
        low, middle, high = quartiles(a / b for a, b in pairs)
        rows.append(
            [
                problem.name,
                str(counts["cg"]),
                seconds(found["cg"].median),
                str(5 * counts["multigrid"]),
                seconds(found["multigrid"].median),
                f"{middle:.1f} ({low:.1f}–{high:.1f})",
            ]
        )
    report.table(
        "Beside conjugate gradients scaled by the diagonal",
        [
            "problem",
            "products, `cg`",
            "CPU time",
            "products, `solver`",
            "with set-up",
            "times less",
        ],
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small grids, one turn")
    parser.add_argument("--repeats", type=int, default=5, help="turns")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="page with the two markers")
    arguments = parser.parse_args()
    if arguments.write and arguments.quick:
        parser.error("--write replaces the tables: leave out --quick")
    with_threads(1)
    import pyamg

    from stepfold.kernels import load

    load()
    report = Report()
    repeats = 1 if arguments.quick else arguments.repeats
    chosen = list(problems(arguments.quick))
    ratios: dict[str, list[tuple[str, float]]] = {}
    for problem in chosen:
        for title, ratio in compare(report, problem, repeats):
            ratios.setdefault(title, []).append((problem.name, ratio))
    without_multigrid(report, chosen, repeats)
    lines = []
    for title, found in ratios.items():
        met = sum(ratio <= TARGET for _, ratio in found)
        each = ", ".join(f"{name} {ratio:.2f}" for name, ratio in found)
        lines.append(
            f"- {OURS}, {title}, CPU time beside PyAMG's default: {each}. At most {TARGET} on "
            f"{met} of {len(found)}."
        )
        if len(found) < len(chosen):
            rest = len(chosen) - len(found)
            lines[-1] += (
                f" On the other {rest} one of the two takes more than {MOST_CYCLES} cycles."
            )
    summary = "\n".join(lines)
    print(summary)
    if arguments.write:
        page = arguments.write.read_text()
        conditions = (
            f"PyAMG {pyamg.__version__}, Python {sys.version.split()[0]}, one thread, medians and "
            f"quartiles of {repeats} turns. Residual to {TOLERANCE:g} of the right-hand side."
        )
        text = f"{BEGIN}\n{conditions}\n\n{summary}\n\n{report.markdown()}{END}"
        pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
        arguments.write.write_text(pattern.sub(lambda _: text, page))


if __name__ == "__main__":
    main()
