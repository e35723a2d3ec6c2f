"""A nonlinear map of the plane: near its fixed point linear rates hold.

``f(x) = (x₁^0.2 + x₂^0.5, x₁^0.5 + x₂^0.2)`` has a fixed point with equal coordinates. Wadayama and
Takabe, Chebyshev Inertial Iteration for Accelerating Fixed-Point Iterations (arXiv:2001.03280), on
nonlinear fixed points.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold._typing import FloatArray
from stepfold.accelerate import accelerate
from stepfold.iterations import Relaxation
from stepfold.lab.curves import curves
from stepfold.lab.experiments._unfolded import iterates
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure
from stepfold.lab.formula import Formula
from stepfold.lab.outcome import Check, Outcome, Section
from stepfold.lab.parameters import Between
from stepfold.lab.sources import INERTIAL_ITERATION, Source
from stepfold.polynomial import chebyshev_period_rate, constant_rate
from stepfold.problems.fixed_point import FixedPoint
from stepfold.schedules import Schedule, chebyshev_steps, constant_steps
from stepfold.spectrum import SpectralBounds


@experiment(
    "planar_map",
    source=Source(INERTIAL_ITERATION, "a nonlinear map of the plane"),
    seconds=1,
    quick={},
)
def planar_map(
    *,
    period: Annotated[int, Between(2, 16)] = 4,
    num_periods: Annotated[int, Between(1, 20)] = 4,
    start: Annotated[float, Between(0.1, 100)] = 8.0,
) -> Outcome:
    """A nonlinear map of the plane, relaxed by the Chebyshev steps of its Jacobian's spectrum.

    Args:
        period: T, the period of the relaxations.
        num_periods: Periods shown.
        start: The first coordinate of the start; the second is 1.
    """
    problem = FixedPoint(_map)
    x0 = np.array([start, 1.0])
    solution = accelerate(problem, x0, rtol=1e-15).x
    eigenvalues = np.sort(np.linalg.eigvals(np.eye(2) - _jacobian(solution)).real)
    bounds = SpectralBounds(eigenvalues[0], eigenvalues[1])
    last = period * num_periods
    schedules = {
        "plain": Schedule(np.ones(1)),
        "best constant relaxation": constant_steps(bounds, 1),
        f"Chebyshev relaxation, T = {period}": chebyshev_steps(bounds, period),
    }
    errors = {
        name: _errors(problem, schedule, x0, solution, last) for name, schedule in schedules.items()
    }
    chebyshev = errors[list(errors)[2]]
    promised = chebyshev_period_rate(bounds, period)
    # Far away the map is not linear; the last periods show the rate, before rounding does.
    ends = chebyshev[::period]
    ends = ends[ends > 1e-12]
    per_period = float(ends[-1] / ends[-2])
    plain = errors["plain"]
    shown = np.flatnonzero(plain > 1e-12)[-3:]
    plain_rate = float((plain[shown[-1]] / plain[shown[0]]) ** (1 / (shown[-1] - shown[0])))
    return Outcome(
        title="A nonlinear map of the plane",
        summary=(
            f"The fixed point is {solution[0]:.5f} in both coordinates, and I − J has the "
            f"eigenvalues {eigenvalues[0]:.5f} and {eigenvalues[1]:.5f} there. Plain iteration "
            f"shrinks the error by {plain_rate:.3f} an iteration; a period of {period} "
            f"Chebyshev relaxations by {per_period:.1e}, {per_period ** (1 / period):.3f} an "
            "iteration."
        ),
        sections=[
            Section(
                "Error by iteration",
                (
                    Formula(r"f(x)=\left(x_1^{0.2}+x_2^{0.5},\; x_1^{0.5}+x_2^{0.2}\right)"),
                    "Near the fixed point the map is nearly linear, and errors are multiplied by "
                    "I − ωB with B = I − J, J the matrix of derivatives. The Chebyshev steps of "
                    "the spectrum of B so do what they do for linear equations, once the iterate "
                    "is near.",
                ),
                figure=Figure(
                    "errors",
                    "Distance from the fixed point",
                    "Distance against iteration. Chebyshev relaxation falls fastest, then the "
                    "best constant relaxation, then the plain iteration, all to rounding.",
                    curves(errors, style="both", emphasis=(list(errors)[2],)),
                    Axis("iteration"),
                    Axis("distance from the fixed point", log=True),
                ),
            )
        ],
        checks=[
            Check.close("first coordinate", 2.96457, float(solution[0]), rtol=2e-6),
            Check.close("second coordinate", 2.96457, float(solution[1]), rtol=2e-6),
            Check.close("smaller eigenvalue of I − J", 0.62576, bounds.lower, rtol=1e-5),
            Check.close("larger eigenvalue of I − J", 1.20655, bounds.upper, rtol=1e-5),
            Check(
                "plain rate over max |1 − λ|",
                "1, near the fixed point",
                plain_rate / float(np.abs(1 - eigenvalues).max()),
                0.95,
                1.05,
            ),
            Check.at_most(
                "factor of the last Chebyshev period over its bound",
                1.2,
                per_period / promised,
                why="the linear rate holds locally",
            ),
            Check.below(
                "bound per iteration over that of the best constant relaxation",
                1,
                promised ** (1 / period) / constant_rate(bounds),
            ),
        ],
        records={"schedules/chebyshev": chebyshev_steps(bounds, period)},
    )


def _map(x: FloatArray) -> FloatArray:
    image: FloatArray = np.array([x[0] ** 0.2 + x[1] ** 0.5, x[0] ** 0.5 + x[1] ** 0.2])
    return image


def _jacobian(x: FloatArray) -> FloatArray:
    fifth, half = 0.2 * x**-0.8, 0.5 * x**-0.5
    jacobian: FloatArray = np.array([[fifth[0], half[1]], [half[0], fifth[1]]])
    return jacobian


def _errors(
    problem: FixedPoint[FloatArray],
    schedule: Schedule,
    x: FloatArray,
    solution: FloatArray,
    last: int,
) -> FloatArray:
    points = iterates(Relaxation(), problem, x, map(schedule, range(last)))
    return np.array([np.linalg.norm(point - solution) for point in points])
