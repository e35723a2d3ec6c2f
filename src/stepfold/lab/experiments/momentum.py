"""Chebyshev steps beside momentum and the semi-iteration, and what the published curves do to both.

Errors that are equal in every direction of the eigenvectors give, after each iteration of a linear
method, the root of the mean square of its polynomial over the spectrum: no sampling is needed.

Takabe and Wadayama, Convergence Acceleration via Chebyshev Step (arXiv:2010.13335), Figure 13, with
the authors' program for it (github.com/wadayama/Chebyshev, CHGD_MSE.ipynb): the draw of the matrix
is theirs, and so are the two curves that mislead.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from stepfold._typing import FloatArray
from stepfold.iterations import GradientDescent, Iteration, heavy_ball, nesterov, semi_iteration
from stepfold.iterations.momentum import Pair
from stepfold.iterations.semi_iteration import next_weight
from stepfold.lab.curves import curves
from stepfold.lab.experiments._ensembles import spectra
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import CHEBYSHEV_STEP, Source
from stepfold.polynomial import chebyshev_period_rate, first_order_lower_bound
from stepfold.problems import Quadratic
from stepfold.schedules import Schedule, chebyshev_steps, constant_steps
from stepfold.spectrum import SpectralBounds

WRONG_START = "heavy ball as published, x₋₁ = x*"
TWICE = "semi-iteration as published, 2t products"
ASCENDING = "Chebyshev steps, smallest first"


@experiment(
    "momentum",
    source=Source(CHEBYSHEV_STEP, "Figure 13: momentum and the semi-iteration"),
    seconds=2,
    quick={},
)
def momentum(
    *,
    period: Annotated[int, Between(1, 64)] = 16,
    num_periods: Annotated[int, Between(1, 32)] = 4,
    num_rows: Annotated[int, Between(310, 10_000)] = 450,
    matrix_seed: Seed = 32,
) -> Outcome:
    """Chebyshev steps need no momentum: beside heavy ball, Nesterov and the semi-iteration.

    Args:
        period: T, the period of the Chebyshev steps.
        num_periods: Periods shown.
        num_rows: Rows of H; it has 300 columns.
        matrix_seed: Seed of its draw; the published one is 32.
    """
    eigenvalues = spectra(num_rows=num_rows, matrix_seed=matrix_seed)[0].nodes
    bounds = SpectralBounds(eigenvalues[0], eigenvalues[-1])
    last = period * num_periods
    problem = Quadratic(np.diag(eigenvalues), np.zeros(eigenvalues.size))
    start = np.ones(eigenvalues.size)  # the same error along every eigenvector
    chebyshev = chebyshev_steps(bounds, period)
    ball, ball_iteration = heavy_ball(bounds)
    methods: dict[str, tuple[Schedule, Iteration[Any, FloatArray]]] = {
        "constant step": (constant_steps(bounds), GradientDescent()),
        "Chebyshev steps": (chebyshev, GradientDescent()),
        "heavy ball": (ball, ball_iteration),
        "Nesterov": nesterov(bounds),
        "semi-iteration": semi_iteration(bounds),
    }
    errors = {
        name: _errors(problem, schedule, iteration, iteration.init(problem, start), last)
        for name, (schedule, iteration) in methods.items()
    }
    errors["conjugate gradients"] = _conjugate_gradients(eigenvalues, start, last)
    ascending = chebyshev.reordered("ascending")
    published = {
        ASCENDING: _errors(problem, ascending, GradientDescent(), start, last),
        # The solution is 0, and so is the published program's x₋₁.
        WRONG_START: _errors(problem, ball, ball_iteration, Pair(start, 0 * start), last),
        TWICE: _published_semi_iteration(eigenvalues, last),
    }
    end = {name: curve[last] for name, curve in {**errors, **published}.items()}
    return Outcome(
        title="No momentum needed, and what the published curves do",
        summary=(
            f"After {last} iterations Chebyshev steps of period {period} have brought the error "
            f"to {end['Chebyshev steps']:.1e} of the start, heavy ball to {end['heavy ball']:.1e}, "
            f"the semi-iteration to {end['semi-iteration']:.1e}, the constant step to "
            f"{end['constant step']:.1e}. Counted fairly, momentum and semi-iteration are ahead, "
            "at the price of one more vector; the published curves start the one wrongly and give "
            "the other twice the products."
        ),
        sections=_sections(errors, published, period),
        checks=_checks(
            errors,
            published,
            bounds,
            period,
            published_setting=((period, num_periods, num_rows, matrix_seed) == (16, 4, 450, 32)),
        ),
        parameters={"unknowns": 300, "condition number": bounds.condition_number},
        records={"schedules/chebyshev": chebyshev},
    )


def _errors(
    problem: Quadratic[FloatArray],
    schedule: Schedule,
    iteration: Iteration[Any, FloatArray],
    state: Any,
    last: int,
) -> FloatArray:
    """Error norm over that at the start, before the first and after each of ``last`` steps."""
    norms = [np.linalg.norm(iteration.iterate(state))]
    for t in range(last):
        state = iteration.step(problem, state, schedule(t))
        norms.append(np.linalg.norm(iteration.iterate(state)))
    curve: FloatArray = np.array(norms) / norms[0]
    return curve


def _conjugate_gradients(eigenvalues: FloatArray, start: FloatArray, last: int) -> FloatArray:
    """Conjugate gradients towards 0 on the diagonal matrix of the eigenvalues."""
    x, residual = start, -eigenvalues * start
    direction, square = residual, residual @ residual
    norms = [np.linalg.norm(x)]
    for _ in range(last):
        if square > 0:
            product = eigenvalues * direction
            step = square / (direction @ product)
            x = x + step * direction
            residual = residual - step * product
            square, before = residual @ residual, square
            direction = residual + (square / before) * direction
        norms.append(np.linalg.norm(x))
    curve: FloatArray = np.array(norms) / norms[0]
    return curve


def _published_semi_iteration(eigenvalues: FloatArray, last: int) -> FloatArray:
    """What the published program draws at t: t steps of the recurrence, then t gradient steps.

    Its recurrence is for the interval [a, 2b − a], which contains the spectrum and is longer.
    """
    step = 1 / eigenvalues[-1]
    contraction = 1 - eigenvalues[0] / eigenvalues[-1]
    curve = []
    for t in range(last + 1):
        x = previous = np.ones(eigenvalues.size)
        omega = 1.0
        for _ in range(t):
            moved = omega * (x - step * eigenvalues * x - previous) + previous
            x, previous, omega = moved, x, next_weight(omega, contraction)
        for _ in range(t):
            x = x - omega * step * eigenvalues * x
        curve.append(np.linalg.norm(x))
    errors: FloatArray = np.array(curve) / curve[0]
    return errors


def _sections(
    errors: dict[str, FloatArray], published: dict[str, FloatArray], period: int
) -> list[Section]:
    last = errors["constant step"].size - 1
    ends = range(period, last + 1, period)
    every = {**errors, **published}
    return [
        Section(
            "Counted fairly",
            (
                "Norm of the error over that at the start, for a start whose error is equal along "
                "every eigenvector: the root mean square of a random one. Every method makes one "
                "product with the Hessian an iteration. Chebyshev steps keep one vector and take "
                "no inner product; heavy ball, Nesterov and the semi-iteration keep one vector "
                "more; conjugate gradients, the reference, two more and two inner products.",
                "Chebyshev steps are meant to be read at multiples of their period. The "
                "semi-iteration equals them at T, and only there: at 2T it has the best polynomial "
                "of degree 2T, they have the square of the best one of degree T.",
            ),
            figure=_figure(
                "errors",
                "Error of six methods",
                "Error against iteration. Conjugate gradients are lowest, then the semi-iteration, "
                "heavy ball and Chebyshev steps close together, Nesterov, and the constant step.",
                errors,
            ),
            table=Table(
                ("method", *(f"t = {t}" for t in ends)),
                tuple((name, *(f"{curve[t]:.1e}" for t in ends)) for name, curve in every.items()),
            ),
        ),
        Section(
            "As published",
            (
                "The published program starts heavy ball from x₋₁ = 0, which is the solution, and "
                "not from x₋₁ = x₀: the first move then is a jump away from the solution, which "
                "costs up to half as much again in the first period and nothing in the end. It "
                "draws for the semi-iteration at t the error after t steps of the recurrence and t "
                "gradient steps after them, 2t products in all, and it gives the recurrence the "
                "interval [a, 2b − a] instead of [a, b]: so it looks ahead at first and is behind "
                "the fair one in the end, with twice its work. It takes the Chebyshev steps with "
                "the smallest first: the curve inside a period is lower, but for longer periods "
                "that order loses all digits (see the experiment on order).",
                "Each published curve is shown with the fair one in the same picture.",
            ),
            figure=_figure(
                "published",
                "Published curves beside fair ones",
                "Error against iteration. The published heavy ball is above the fair one at "
                "first; the published semi-iteration below the fair one until 44 iterations.",
                {
                    name: every[name]
                    for name in (
                        "Chebyshev steps",
                        ASCENDING,
                        "heavy ball",
                        WRONG_START,
                        "semi-iteration",
                        TWICE,
                    )
                },
            ),
        ),
    ]


def _figure(name: str, title: str, alt: str, rows: dict[str, FloatArray]) -> Figure:
    return Figure(
        name,
        title,
        alt,
        curves(rows, emphasis=("Chebyshev steps",)),
        Axis("iteration"),
        Axis("error norm, relative to the start", log=True),
    )


def _checks(
    errors: dict[str, FloatArray],
    published: dict[str, FloatArray],
    bounds: SpectralBounds,
    period: int,
    *,
    published_setting: bool,
) -> list[Check]:
    last = errors["constant step"].size - 1
    semi, chebyshev = errors["semi-iteration"], errors["Chebyshev steps"]
    promised = np.array([chebyshev_period_rate(bounds, t) for t in range(1, last + 1)])
    at_ends = [
        chebyshev[k * period] / chebyshev_period_rate(bounds, period) ** k
        for k in range(1, last // period + 1)
    ]
    checks = [
        Check.close(
            "semi-iteration over Chebyshev steps at T",
            1,
            semi[period] / chebyshev[period],
            rtol=1e-9,
        ),
        Check.at_most(
            "largest semi-iteration error over sech(t arccosh((κ+1)/(κ−1)))",
            1,
            (semi[1:] / promised).max(),
        ),
        Check.at_most("largest Chebyshev error over its bound, at multiples of T", 1, max(at_ends)),
        Check.close(
            "Chebyshev steps, published over safe order, at the end",
            1,
            published[ASCENDING][last] / chebyshev[last],
            rtol=1e-6,
        ),
    ]
    if not published_setting:
        return checks
    span = slice(period, last + 1)
    iterations = np.arange(last + 1)[span]
    slope = np.polyfit(iterations, np.log(errors["heavy ball"][span]), 1)[0]
    return [
        Check.close("condition number κ", 88.10381317, bounds.condition_number, rtol=1e-9),
        Check.close("largest eigenvalue", 4.933429046, bounds.upper, rtol=1e-9),
        *checks,
        Check.below(
            "semi-iteration over Chebyshev steps at 4T",
            0.5,
            semi[last] / chebyshev[last],
            why="equal at T only, not at its multiples",
        ),
        Check(
            "Chebyshev steps over heavy ball at 4T",
            "at most 5: no momentum needed",
            chebyshev[last] / errors["heavy ball"][last],
            1,
            5,
        ),
        Check.below(
            "Chebyshev steps over constant step at 4T",
            0.01,
            chebyshev[last] / errors["constant step"][last],
        ),
        Check.below(
            "Chebyshev steps over Nesterov at 4T", 1, chebyshev[last] / errors["Nesterov"][last]
        ),
        Check(
            "heavy ball's rate per iteration over the lower bound",
            "1 in the long run",
            float(np.exp(slope)) / first_order_lower_bound(bounds),
            0.98,
            1.08,
        ),
        Check.above(
            "heavy ball as published over heavy ball, largest up to T",
            1.3,
            (published[WRONG_START] / errors["heavy ball"])[: period + 1].max(),
            why="a wrong start",
        ),
        Check(
            "heavy ball as published over heavy ball at 4T",
            "below 1: the start is forgotten",
            published[WRONG_START][last] / errors["heavy ball"][last],
            0.5,
            1,
        ),
        Check.above(
            "semi-iteration as published over semi-iteration at 4T",
            1,
            published[TWICE][last] / errors["semi-iteration"][last],
            why="with twice the products",
        ),
        Check.below(
            "semi-iteration as published over Chebyshev steps at T",
            0.9,
            published[TWICE][period] / chebyshev[period],
            why="2T products against T",
        ),
    ]
