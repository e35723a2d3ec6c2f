"""Dense rows of `solve.py`: a step, a solve, bounds unknown, many right-hand sides, overhead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from _timing import Report, Timing, difference, fewest, take_turns
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import LinearOperator, cg, lsmr, lsqr

from stepfold import (
    LeastSquares,
    Quadratic,
    SpectralBounds,
    chebyshev_steps,
    estimate_bounds,
    plan,
    solve,
)
from stepfold.interop.scipy import lsq_chebyshev
from stepfold.spectrum import Lanczos

TOLERANCE = 1e-8
SMALL, LARGE = (2_500, 500), (10_000, 2_000)
Method = Callable[[int], tuple[Any, float]]
"""Iterations → solution and products spent."""


def dense_step(report: Report, quick: bool) -> None:
    """One gradient step beside two BLAS products, and beside a pure read of A."""
    shape = (5_000, 2_000) if quick else (20_000, 4_000)
    rng = np.random.default_rng(0)
    for dtype in (np.float64, np.float32):
        matrix = rng.standard_normal(shape, dtype=dtype)
        rhs, x = (rng.standard_normal(length, dtype=dtype) for length in shape)
        found = take_turns(steps(matrix, rhs, x), 5 if quick else 21)
        products = {"gradient_step": 2.0, "two BLAS products": 2.0}
        ours, blas, pure = (replace(t, products=products.get(t.name)) for t in found.values())
        what = f"step, {shape[0]} × {shape[1]}, {np.dtype(dtype)}"
        report.compare(what, ours, [blas], target=0.55)
        report.compare(what, ours, [pure], target=1.25)


def steps(matrix: Any, rhs: Any, x: Any) -> dict[str, Callable[[], Any]]:
    """One step of size 1/m each; the rival's is what people write."""
    problem = LeastSquares(matrix, rhs)
    gamma = 1.0 / matrix.shape[0]
    return {
        "gradient_step": lambda: problem.gradient_step(x, gamma),
        "two BLAS products": lambda: x - gamma * (matrix.T @ (matrix @ x - rhs)),
        "read of A": reader(matrix),
    }


def reader(matrix: Any) -> Callable[[], Any]:
    """One pass over memory on all threads, by whichever way is the faster here."""
    flat = matrix.reshape(-1)
    ways: dict[str, Callable[[], Any]] = {"BLAS": lambda: np.dot(flat, flat)}
    try:
        import numba
    except ImportError:
        return ways["BLAS"]

    @numba.njit(parallel=True, fastmath=True)
    def total(flat: Any) -> Any:
        result = flat[0] - flat[0]
        for i in numba.prange(flat.size):
            result += flat[i]
        return result

    ways["numba"] = lambda: total(flat)
    found = take_turns(ways, 5)
    return ways[min(found, key=lambda name: found[name].median)]


@dataclass(frozen=True)
class Case:
    """Least squares with a known solution and known ends of the spectrum of AᵀA."""

    name: str
    matrix: Any
    rhs: Any
    solutions: Any
    bounds: SpectralBounds

    def error(self, x: Any) -> float:
        """Largest relative error of the right-hand sides."""
        norms = np.linalg.norm(x - self.solutions, axis=-1)
        return float(np.max(norms / np.linalg.norm(self.solutions, axis=-1)))


def case(shape: tuple[int, int], *, spread: float = 1.0, batch: tuple[int, ...] = ()) -> Case:
    """Gaussian A with columns scaled from 1 down to 1/spread; b has a part outside A's range."""
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal(shape) * np.geomspace(1.0, 1.0 / spread, shape[1])
    gram = matrix.T @ matrix
    values = np.linalg.eigvalsh(gram)
    solutions = rng.standard_normal((*batch, shape[1]))
    noise = rng.standard_normal((*batch, shape[0]))
    noise -= cho_solve(cho_factor(gram), (noise @ matrix).T).T @ matrix.T
    rhs = solutions @ matrix.T
    noise *= 0.1 * np.linalg.norm(rhs) / np.linalg.norm(noise)
    bounds = SpectralBounds(values[0], values[-1])
    name = f"{shape[0]} × {shape[1]}, κ = {bounds.condition_number:.2g}"
    return Case(name, matrix, rhs + noise, solutions, bounds)


def chebyshev(case: Case, bounds: SpectralBounds) -> Method:
    """One period of T Chebyshev steps through `solve`."""

    def run(num_steps: int) -> tuple[Any, float]:
        problem = LeastSquares(case.matrix, case.rhs)
        result = solve(problem, chebyshev_steps(bounds, num_steps), rtol=0, max_steps=num_steps)
        return result.x, float(result.history.num_products[-1])

    return run


def rival(function: Any, case: Case, rhs: Any = None) -> Method:
    """SciPy's `lsqr` or `lsmr` for a number of iterations, its own tests of convergence off."""
    limit = {lsqr: "iter_lim", lsmr: "maxiter"}[function]
    rhs = case.rhs if rhs is None else rhs

    def run(iterations: int) -> tuple[Any, float]:
        settings = {"atol": 0, "btol": 0, "conlim": 0, limit: iterations}
        x, _, done = function(case.matrix, rhs, **settings)[:3]
        return x, 2.0 * done + 1

    return run


def fused_cg(case: Case) -> Method:
    """SciPy's `cg` on the normal equations, with AᵀA p from our own one-pass step.

    Nobody ships it, and it is the strongest rival: conjugate gradients sweep once too if the
    product is fused.
    """
    shape = case.matrix.shape
    product = LeastSquares(case.matrix, np.zeros(shape[0], case.matrix.dtype))
    normal = LinearOperator(
        (shape[1], shape[1]), matvec=lambda p: product.gradient_step(p, -1.0) - p, dtype=float
    )

    def run(iterations: int) -> tuple[Any, float]:
        rhs = case.matrix.T @ case.rhs
        return cg(normal, rhs, rtol=0, atol=0, maxiter=iterations)[0], 2.0 * iterations + 1

    return run


FUSED = "cg on AᵀA, our product"


def at_equal_error(
    methods: dict[str, Method], error: Callable[[Any], float], repeats: int, tolerance: float
) -> list[Timing]:
    """Fewest iterations to the tolerance for each, found beforehand; then timed in turns."""
    runs: dict[str, Callable[[], Any]] = {}
    facts: dict[str, tuple[float, float]] = {}
    for name, method in methods.items():
        best, reached = fewest(lambda k, m=method: error(m(k)[0]), tolerance, 25)
        facts[name] = (method(best)[1], reached)
        runs[name] = lambda k=best, m=method: m(k)
    timings = take_turns(runs, repeats)
    return [
        replace(t, products=facts[name][0], error=facts[name][1]) for name, t in timings.items()
    ]


def dense_solve(report: Report, quick: bool) -> None:
    """Least squares to 1e-8, aspect 1/5, bounds known."""
    for spread in (1.0, 6.0):
        problem = case(SMALL if quick else LARGE, spread=spread)
        ours, *rivals, fused = at_equal_error(
            {
                "Chebyshev, bounds known": chebyshev(problem, problem.bounds),
                "SciPy lsqr": rival(lsqr, problem),
                "SciPy lsmr": rival(lsmr, problem),
                FUSED: fused_cg(problem),
            },
            problem.error,
            3 if quick else 7,
            TOLERANCE,
        )
        report.compare(f"solve, {problem.name}", ours, rivals, target=0.65)
        report.compare(f"solve, {problem.name}", ours, [fused])


def estimated(case: Case) -> Method:
    """Bounds from Lanczos steps, then `solve`; the count is of quarters of a digit of ``rtol``."""

    def run(quarters: int) -> tuple[Any, float]:
        problem = LeastSquares(case.matrix, case.rhs)
        bounds = estimate_bounds(problem, method=Lanczos())
        rtol = 10.0 ** (-quarters / 4)
        best = plan(problem, rtol=min(rtol, 0.5), bounds=bounds)
        result = solve(problem, best.schedule, rtol=rtol)
        return result.x, float(bounds.num_products + result.history.num_products[-1])

    return run


def adaptive(case: Case) -> Method:
    """`lsq_chebyshev`, whose first iterations find the bounds; counted in quarters of a digit."""

    def run(quarters: int) -> tuple[Any, float]:
        tolerance = 10.0 ** (-quarters / 4)
        result = lsq_chebyshev(case.matrix, case.rhs, atol=tolerance, btol=tolerance)
        return result.x, float(np.sum(result.num_products))

    return run


def dense_unknown(report: Report, quick: bool) -> None:
    """The same with bounds unknown: what finds them counts."""
    for spread, target in ((1.0, 1.0), (6.0, 0.7)):
        _unknown(report, case(SMALL if quick else LARGE, spread=spread), target, quick)


def dense_ill(report: Report, quick: bool) -> None:
    """Bounds unknown, at a larger condition number."""
    _unknown(report, case(SMALL if quick else LARGE, spread=30.0), 0.7, quick)


def _unknown(report: Report, problem: Case, target: float, quick: bool) -> None:
    ours = {
        "estimate_bounds, plan, solve": estimated(problem),
        "lsq_chebyshev": adaptive(problem),
    }
    rivals = {
        "SciPy lsqr": rival(lsqr, problem),
        "SciPy lsmr": rival(lsmr, problem),
        FUSED: fused_cg(problem),
    }
    timings = at_equal_error({**ours, **rivals}, problem.error, 3 if quick else 5, TOLERANCE)
    for timing in timings[: len(ours)]:
        what = f"bounds unknown, {problem.name}"
        aim = target if timing.name == "lsq_chebyshev" else None
        report.compare(what, timing, timings[len(ours) : -1], target=aim)
        report.compare(what, timing, timings[-1:])


ALONE = 8
"""Right-hand sides that the rival solves one by one; its time is multiplied."""


def many_sides(report: Report, quick: bool) -> None:
    """64 right-hand sides that share A, finding the bounds included, at two sizes."""
    for shape in ((2_000, 400),) if quick else ((10_000, 2_000), (20_000, 4_000)):
        problem = case(shape, batch=(64,))
        ours: dict[str, Method] = {"lsq_chebyshev": adaptive(problem)}
        if shape[0] <= 10_000:
            ours["estimate_bounds, plan, solve"] = estimated(problem)
        _many_sides(report, problem, ours)


def _many_sides(report: Report, problem: Case, ours: dict[str, Method]) -> None:
    alone = [
        rival(lsqr, replace(problem, rhs=rhs, solutions=solution))
        for rhs, solution in zip(problem.rhs[:ALONE], problem.solutions[:ALONE], strict=True)
    ]
    first = replace(problem, solutions=problem.solutions[:ALONE])
    few = replace(problem, solutions=problem.solutions[:2])
    iterations, _ = fewest(
        lambda k: few.error(np.array([method(k)[0] for method in alone[:2]])), TOLERANCE, 23
    )
    quarters = {
        name: fewest(lambda k, m=method: problem.error(m(k)[0]), TOLERANCE, 32)[0]
        for name, method in ours.items()
    }
    found: dict[str, tuple[Any, float | None]] = {}

    def run(name: str) -> None:
        found[name] = ours[name](quarters[name])

    def run_lstsq() -> None:
        found["numpy.linalg.lstsq"] = np.linalg.lstsq(problem.matrix, problem.rhs.T)[0].T, None

    def run_lsqr() -> None:
        results = [method(iterations) for method in alone]
        products = sum(spent for _, spent in results) * len(problem.rhs) / ALONE
        found[one_by_one] = np.array([x for x, _ in results]), products

    one_by_one = "SciPy lsqr one by one"
    contestants: dict[str, Callable[[], Any]] = {
        **{name: (lambda n=name: run(n)) for name in ours},
        "numpy.linalg.lstsq": run_lstsq,
        one_by_one: run_lsqr,
    }
    timings = []
    for timing in take_turns(contestants, 3, warm_up=False).values():
        x, products = found[timing.name]
        is_part = timing.name == one_by_one
        error = (first if is_part else problem).error(x)
        whole = timing.per(ALONE / len(problem.rhs)) if is_part else timing
        timings.append(replace(whole, products=products, error=error))
    # A product with a block of 64 vectors counts once.
    what = f"64 right-hand sides, {problem.name}"
    report.compare(what, timings[0], timings[len(ours) :], target=0.2)
    for timing in timings[1 : len(ours)]:
        report.compare(what, timing, timings[len(ours) :])
    report.note(
        f"64 right-hand sides: lsqr was timed on {ALONE} of them, and its time multiplied by "
        f"{len(problem.rhs) // ALONE}."
    )


def overhead(report: Report, quick: bool) -> None:
    """n = 100, dense: what an iteration costs beside its product, alone and with the call."""
    rng = np.random.default_rng(2)
    basis = np.linalg.qr(rng.standard_normal((100, 100)))[0]
    matrix = (basis * np.geomspace(1.0, 1e6, 100)) @ basis.T
    matrix = (matrix + matrix.T) / 2
    rhs = rng.standard_normal(100)
    problem = Quadratic(matrix, rhs)
    period = 64
    schedule = chebyshev_steps(SpectralBounds(1.0, 1e6), period)
    once, more = period, 4 * period

    def bare_steps() -> Any:
        x = np.zeros(100)
        for gamma in schedule:
            x = problem.gradient_step(x, gamma)
        return x

    found = take_turns(
        {
            "solve": lambda: solve(problem, schedule, rtol=0, max_products=once + 1),
            "solve, more": lambda: solve(problem, schedule, rtol=0, max_products=more + 1),
            "gradient_step": bare_steps,
            "SciPy cg": lambda: cg(matrix, rhs, rtol=0, atol=0, maxiter=once),
            "SciPy cg, more": lambda: cg(matrix, rhs, rtol=0, atol=0, maxiter=more),
        },
        20 if quick else 200,
        pause=0,
    )
    whole, bare, theirs = (
        replace(found[name].per(once), products=1.0)
        for name in ("solve", "gradient_step", "SciPy cg")
    )
    further, theirs_further = (
        replace(difference(found[f"{name}, more"], found[name], more - once), name=name)
        for name in ("solve", "SciPy cg")
    )
    report.compare("a further iteration, n = 100 dense", further, [theirs_further], target=0.5)
    report.compare("a bare iteration, n = 100 dense", bare, [theirs])
    report.compare(f"one of {once} iterations, call included, n = 100 dense", whole, [theirs])
