"""The lasso by proximal gradient (ISTA), FISTA and Chebyshev relaxation, far away and nearby.

The proximal gradient map has at the solution the Jacobian of a linear one on the support S and 0
off it, so ``B = I − J`` has the eigenvalues of γA_SᵀA_S and, for the other coordinates, 1.
Relaxation by the Chebyshev steps of that spectrum is fast once the support is found. Far away the
map is another one, and the same steps stall.

Wadayama and Takabe, Chebyshev Inertial Iteration for Accelerating Fixed-Point Iterations
(arXiv:2001.03280), on proximal methods. Beck and Teboulle (SIAM J. Imaging Sci. 2, 2009): FISTA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np

from stepfold._typing import FloatArray
from stepfold.accelerate import accelerate
from stepfold.iterations.fista import Fista
from stepfold.iterations.proximal import ProximalGradient
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments._rivals import RATIOS, ChebyshevRival, tuned_chebyshev
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Curve, Figure
from stepfold.lab.formula import Formula
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import INERTIAL_ITERATION, Source
from stepfold.problems.composite import Composite
from stepfold.problems.composite import lasso as lasso_problem
from stepfold.problems.fixed_point import EVALUATIONS_AT_START
from stepfold.schedules import Schedule, chebyshev_steps
from stepfold.spectrum import SpectralBounds

TARGET = 1e-8
TUNED = "ISTA, Chebyshev steps, tuned"
NUM_TUNED = 64
"""Iterations after which Chebyshev steps are tuned."""
Path = tuple[FloatArray, FloatArray]


@experiment(
    "lasso",
    source=Source(INERTIAL_ITERATION, "proximal gradient methods (ISTA)"),
    seconds=8,
    quick={"num_rows": 64, "num_unknowns": 128},
)
def lasso(
    *,
    num_rows: Annotated[int, Between(16, 2000)] = 256,
    num_unknowns: Annotated[int, Between(16, 4000)] = 512,
    ratio: Annotated[float, Between(0.01, 0.9)] = 0.1,
    period: Annotated[int, Between(2, 64)] = 8,
    seed: Seed = 0,
) -> Outcome:
    """The lasso by ISTA, FISTA and Chebyshev relaxation: fast nearby, safe far away.

    Args:
        num_rows: m; A has entries of variance 1/m.
        num_unknowns: n; a tenth of the true coordinates is not zero, the noise is N(0, 0.1²).
        ratio: Weight of the penalty in units of the one from which on the solution is 0.
        period: T, the period of the relaxation with the true spectrum.
        seed: Seed of the data.
    """
    rng = np.random.default_rng(seed)
    operator, rhs = _data(rng, num_rows, num_unknowns)
    objective = lasso_problem(operator, rhs, ratio=ratio)
    weight = ratio * float(np.abs(operator.T @ rhs).max())
    gamma = float(np.linalg.norm(operator, 2)) ** -2
    solution = _solve_exactly(objective, gamma, num_unknowns)
    support = np.flatnonzero(solution)
    columns = operator[:, support]
    on_support = gamma * np.linalg.eigvalsh(columns.T @ columns)
    bounds = SpectralBounds(on_support[0], max(1.0, on_support[-1]))
    numerical = _numerical_spectrum(objective, gamma, solution)
    predicted = np.sort(np.append(on_support, np.ones(num_unknowns - support.size)))
    nearby = solution.copy()
    nearby[support] *= 1 + 0.1 * rng.uniform(-1, 1, support.size)
    starts = {"far away": np.zeros(num_unknowns), "nearby": nearby}
    tuned = _tuned_on_another_draw(seed, num_rows, num_unknowns, ratio)
    runs = {
        place: _runs(objective, gamma, x0, solution, bounds, period, tuned)
        for place, x0 in starts.items()
    }
    counts = {
        place: {name: _evaluations(path) for name, path in paths.items()}
        for place, paths in runs.items()
    }
    true = f"Chebyshev relaxation, true spectrum, T = {period}"
    safe = "relaxation, bounds found on the way"
    far, near = counts["far away"], counts["nearby"]
    return Outcome(
        title="The lasso, by relaxation that knows when it is nearby",
        summary=(
            f"From 0 to within {TARGET:g} of the solution: ISTA {_count(far['ISTA'])} "
            f"evaluations, FISTA {_count(far['FISTA'])}, with restart "
            f"{_count(far['FISTA with restart'])}, Chebyshev relaxation with the true spectrum "
            f"{_count(far[true])}, guarded relaxation that finds it on the way "
            f"{_count(far[safe])}, ISTA with Chebyshev steps that were tuned on another lasso "
            f"{_count(far[TUNED])}. "
            f"From nearby: ISTA {_count(near['ISTA'])}, the true spectrum {_count(near[true])}."
        ),
        sections=_sections(runs, counts, bounds, predicted, numerical, support.size, tuned),
        checks=[
            Check.at_most(
                "largest |x − prox(x − γ∇f(x))|/γ at the solution, over the penalty's weight",
                1e-10,
                float(objective.optimality(solution, gamma)) / weight,
                why="rounding",
            ),
            Check.at_most(
                "largest distance of an eigenvalue of B from γ·eig(A_SᵀA_S) and 1",
                1e-5,
                np.abs(numerical - predicted).max(),
            ),
            Check.below(
                "from nearby: evaluations with the true spectrum over ISTA",
                0.7,
                near[true] / near["ISTA"],
            ),
            Check.below(
                "from nearby: evaluations of guarded relaxation over ISTA",
                0.8,
                near[safe] / near["ISTA"],
            ),
            Check.at_most(
                "from 0: evaluations of guarded relaxation over ISTA",
                1.15,
                far[safe] / far["ISTA"],
                why="the guard keeps what it costs small",
            ),
            Check.below(
                "from 0: guarded relaxation over the true spectrum without a guard",
                1,
                0.0 if np.isinf(far[true]) else far[safe] / far[true],
                why="Chebyshev steps are for nearby",
            ),
        ],
        parameters={"size of the support": support.size},
        records={"schedules/chebyshev": chebyshev_steps(bounds, period)},
    )


def _data(
    rng: np.random.Generator, num_rows: int, num_unknowns: int
) -> tuple[FloatArray, FloatArray]:
    """A random operator, and what it makes of a sparse vector, with noise."""
    operator: FloatArray = rng.normal(0, num_rows**-0.5, (num_rows, num_unknowns))
    truth = np.zeros(num_unknowns)
    chosen = rng.choice(num_unknowns, num_unknowns // 10, replace=False)
    truth[chosen] = rng.standard_normal(chosen.size)
    rhs: FloatArray = operator @ truth + 0.1 * rng.standard_normal(num_rows)
    return operator, rhs


def _solve_exactly(objective: Composite[FloatArray], gamma: float, size: int) -> FloatArray:
    problem = objective.fixed_point(gamma)
    result = accelerate(problem, np.zeros(size), rtol=1e-15, max_products=100_000)
    # Relaxation leaves traces where the solution is 0; the map itself does not.
    return problem.image(result.x)


def _numerical_spectrum(
    objective: Composite[FloatArray], gamma: float, solution: FloatArray
) -> FloatArray:
    """Eigenvalues of I − J, ascending, by central differences: knows nothing of supports."""
    image, step = objective.fixed_point(gamma).map, 1e-6
    columns = [
        (image(solution + step * unit) - image(solution - step * unit)) / (2 * step)
        for unit in np.eye(solution.size)
    ]
    eigenvalues: FloatArray = np.sort(1 - np.linalg.eigvals(np.array(columns)).real)
    return eigenvalues


def _tuned_on_another_draw(
    seed: int, num_rows: int, num_unknowns: int, ratio: float
) -> ChebyshevRival:
    """Chebyshev steps for ISTA, in units of 1/L, that come nearest to another lasso's solution."""
    operator, rhs = _data(np.random.default_rng([seed, 1]), num_rows, num_unknowns)
    objective = lasso_problem(operator, rhs, ratio=ratio)
    gamma = float(np.linalg.norm(operator, 2)) ** -2
    solution = _solve_exactly(objective, gamma, num_unknowns)
    method: ProximalGradient[FloatArray] = ProximalGradient(objective.penalty)

    def distance(steps: FloatArray, _: Any) -> float:
        x = np.zeros(num_unknowns)
        for step in steps:
            x = method.step(objective.problem, x, float(step) * gamma)
        return float(np.linalg.norm(x - solution))

    return tuned_chebyshev(distance, NUM_TUNED, starts=RATIOS[3:4])


def _runs(
    objective: Composite[FloatArray],
    gamma: float,
    x0: FloatArray,
    solution: FloatArray,
    bounds: SpectralBounds,
    period: int,
    tuned: ChebyshevRival,
) -> dict[str, Path]:
    """Evaluations and errors of every method."""

    def relaxed(**options: Any) -> Callable[[Any], object]:
        problem = objective.fixed_point(gamma)
        return lambda see: accelerate(
            problem,
            x0,
            rtol=0.0,
            atol=1e-10,
            max_products=6000,
            callback=lambda t, x: see(t + EVALUATIONS_AT_START, x),
            **options,
        )

    def fista(restart: bool) -> Callable[[Any], object]:
        def go(see: Any) -> None:
            method: Fista[FloatArray] = Fista(objective.penalty, restart=restart)
            state = method.init(objective.problem, x0)
            for count in range(1, 2001):
                state = method.step(objective.problem, state, gamma)
                see(count, method.iterate(state))

        return go

    def steps(see: Any) -> None:
        method: ProximalGradient[FloatArray] = ProximalGradient(objective.penalty)
        x = x0
        for count, step in enumerate(tuned.steps(2000), 1):
            x = method.step(objective.problem, x, float(step) * gamma)
            see(count, x)

    methods = {
        "ISTA": relaxed(schedule=Schedule(np.ones(1)), guard=False),
        TUNED: steps,
        "FISTA": fista(False),
        "FISTA with restart": fista(True),
        f"Chebyshev relaxation, true spectrum, T = {period}": relaxed(
            schedule=chebyshev_steps(bounds, period), guard=False
        ),
        "relaxation, bounds found on the way": relaxed(),
    }
    scale = float(np.linalg.norm(solution))
    paths = {}
    for name, method in methods.items():
        seen = [(0.0, float(np.linalg.norm(x0 - solution)) / scale)]

        def see(count: int, x: FloatArray, into: Any = seen) -> None:
            into.append((float(count), float(np.linalg.norm(x - solution)) / scale))

        method(see)
        counts, errors = np.array(seen).T
        paths[name] = counts, errors
    return paths


def _evaluations(path: Path) -> float:
    """Evaluations after which the error stays below the target; infinite if it does not."""
    counts, errors = path
    above = np.flatnonzero(~(errors <= TARGET))
    return float(counts[above[-1] + 1]) if above[-1] + 1 < counts.size else np.inf


def _count(evaluations: float) -> str:
    return "never" if np.isinf(evaluations) else f"{evaluations:.0f}"


def _sections(
    runs: dict[str, dict[str, Path]],
    counts: dict[str, dict[str, float]],
    bounds: SpectralBounds,
    predicted: FloatArray,
    numerical: FloatArray,
    support_size: int,
    tuned: ChebyshevRival,
) -> list[Section]:
    words = {
        "far away": (
            "Started from 0, coordinates change between zero and not zero on the way, and the map "
            "near the solution says nothing about the map here. Chebyshev relaxation with the "
            "spectrum of the solution is thrown about until it comes near; learned from the "
            "residuals, and under the guard, which keeps a period only if it brought the "
            "residual down, it is fast from the start. Chebyshev steps may also be the steps of "
            "ISTA itself; those here are the nearest to the solution of another random lasso "
            f"after {NUM_TUNED} iterations from 0: {tuned}, in units of the largest eigenvalue.",
        ),
        "nearby": (
            "Started close to the solution, with its support, the map is linear, and Chebyshev "
            "relaxation has the rate that the spectrum promises.",
        ),
    }
    sections = [
        Section(
            f"Started {place}",
            words[place],
            figure=Figure(
                f"errors_{place.replace(' ', '_')}",
                f"Distance from the solution, started {place}",
                "Distance against evaluations of the proximal gradient map for six methods.",
                tuple(
                    Curve(name, *_shown(path), emphasis="relaxation" in name)
                    for name, path in paths.items()
                ),
                Axis("evaluations of the map"),
                Axis("distance, relative to the solution's norm", log=True, floor=1e-11),
            ),
            table=Table(
                ("method", f"evaluations until within {TARGET:g}"),
                tuple((name, _count(count)) for name, count in counts[place].items()),
            ),
        )
        for place, paths in runs.items()
    ]
    ranks = np.arange(1, predicted.size + 1)
    spectrum = Section(
        "The spectrum at the solution",
        (
            Formula(
                r"B = I-J:\quad \gamma A_S^\top A_S \text{ on the support } S,\; 1 \text{ off it}"
            ),
            f"The support has {support_size} of {predicted.size} coordinates. Eigenvalues of B "
            "from differences of the map, which know nothing of supports, fall on the predicted "
            f"ones: the spectrum is [{bounds.lower:.4f}, {bounds.upper:.4f}].",
        ),
        figure=Figure(
            "spectrum",
            "Eigenvalues of B at the solution",
            "Sorted eigenvalues: those of the support rise from a small number, then a long level "
            "at one. Points and line coincide.",
            (
                Curve("predicted", ranks, predicted, emphasis=True),
                Curve("from differences of the map", ranks, numerical, "points"),
            ),
            Axis("rank"),
            Axis("eigenvalue of B"),
        ),
    )
    return [*sections, spectrum]


def _shown(path: Path) -> Path:
    """At most 400 points, up to where the error has come down."""
    counts, errors = path
    done = np.flatnonzero(errors <= 1e-10)
    counts, errors = (row[: done[0] + 1] if done.size else row for row in (counts, errors))
    kept = np.unique(np.linspace(0, counts.size - 1, 400).astype(int))
    return counts[kept], errors[kept]
