"""Minimising the bound on the spectral radius gives Chebyshev steps: derivation and numbers.

That ``∏ (1 − γₜλ)`` takes its largest value T + 1 times with changing sign is what makes it the
smallest possible (Chebyshev's alternation theorem): a smaller one would cross it T times inside
[a, b] and once more at 0, more often than polynomials of degree T can. Beside it stands a numerical
minimisation that knows nothing of Chebyshev. Takabe and Wadayama, Theoretical Interpretation of
Learned Step Size in Deep-Unfolded Gradient Descent (arXiv:2001.05142).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.curves import median_curve
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments._trainings import THEORY, counted, spread
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Curve, Figure, Level
from stepfold.lab.formula import Formula
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import LEARNED_STEP_SIZE, Source
from stepfold.measure import SpectralMeasure
from stepfold.polynomial import (
    chebyshev_period_rate,
    extrema_between,
    residual_polynomial,
    worst_case_period_rate,
)
from stepfold.schedules import chebyshev_steps, constant_steps, optimal_steps
from stepfold.spectrum import SpectralBounds


@experiment(
    "extrema",
    source=Source(LEARNED_STEP_SIZE, "Chebyshev steps minimise the bound on the spectral radius"),
    seconds=3,
    quick={"num_starts": 2, "num_iterations": 50},
)
def extrema(
    *,
    period: Annotated[int, Between(2, 32)] = 5,
    condition_number: Annotated[float, Between(1.1, 1e4)] = 30.0,
    num_starts: Annotated[int, Between(1, 100)] = 8,
    num_iterations: Annotated[int, Between(10, 2000)] = 300,
    seed: Seed = 0,
) -> Outcome:
    """Minimising the bound on the spectral radius gives Chebyshev steps, derived and computed.

    Args:
        period: T.
        condition_number: κ; the interval is [1, κ].
        num_starts: Random starts of the numerical minimisation.
        num_iterations: Its iterations.
        seed: Seed of the starts.
    """
    bounds = SpectralBounds(1.0, condition_number)
    schedule = chebyshev_steps(bounds, period)
    rate = chebyshev_period_rate(bounds, period)
    places = np.concatenate(
        [[bounds.lower], extrema_between(np.asarray(schedule.steps)), [bounds.upper]]
    )
    values = residual_polynomial(schedule, places)
    # Extrema of the Chebyshev polynomial are at cos(kπ/T).
    middle, radius = (bounds.upper + bounds.lower) / 2, (bounds.upper - bounds.lower) / 2
    known = middle - radius * np.cos(np.arange(period + 1) * np.pi / period)
    paths, found = _minimise(bounds, period, num_starts, num_iterations, seed)
    excess = paths / rate
    ascending = np.sort(schedule.steps)
    deviation = float(np.abs(found / ascending - 1).max())
    grid = np.linspace(bounds.lower, bounds.upper, 4001)
    constant = np.abs(residual_polynomial(constant_steps(bounds, period), grid)).max()
    return Outcome(
        title="Minimising the bound on the spectral radius gives Chebyshev steps",
        summary=(
            f"Over [1, {condition_number:g}] the polynomial of {period} Chebyshev steps "
            f"swings {period + 1} times to ±{rate:.5f}; {period} equal steps leave "
            f"{constant:.5f}. From {counted(num_starts, 'random start')} a numerical search ends "
            f"{excess[:, -1].max() - 1:.1%} above that at most, with steps that are Chebyshev's "
            f"to {deviation:.1%}."
        ),
        sections=[
            Section(
                "Statement and hypotheses",
                (
                    "T steps multiply the error along the eigenvector of eigenvalue λ by "
                    "p(λ) = ∏(1 − γₜλ), and p(0) = 1 whatever the steps. Of the spectrum only an "
                    "interval [a, b] with a > 0 is known that contains it. Then the spectral "
                    "radius ρ has the bound",
                    Formula(r"\rho=\max_i|p(\lambda_i)|\le\max_{a\le\lambda\le b}|p(\lambda)|"),
                    "Statement. Among all T steps exactly one set makes this bound smallest: the "
                    "Chebyshev steps, reciprocals of the zeros of the Chebyshev polynomial C_T "
                    "moved to [a, b].",
                    Formula(
                        r"p(\lambda)=\frac{C_T\left(\frac{b+a-2\lambda}{b-a}\right)}"
                        r"{C_T\left(\frac{b+a}{b-a}\right)},\quad"
                        r"\max|p|=\frac{1}{C_T\left(\frac{\kappa+1}{\kappa-1}\right)}"
                    ),
                ),
            ),
            Section(
                "Proof: alternation and uniqueness",
                (
                    "C_T(cos φ) = cos Tφ takes the values ±1 in turn at T + 1 points, so the "
                    f"{period + 1} extrema of p over [a, b] are equally high, with changing signs.",
                    "Let q be a polynomial of degree T with q(0) = 1 and max |q| ≤ max |p|. At the "
                    "extrema p − q has the sign of p, or is 0. So between neighbouring extrema it "
                    "has a zero (counted twice where it touches), T in all, and one more at 0, "
                    "for p(0) = q(0). A polynomial of degree T with T + 1 zeros is 0: q = p. So p "
                    "is smallest, and it is the only one. Its zeros lie inside [a, b], so their "
                    "reciprocals are steps.",
                ),
                figure=_figure(bounds, period, rate, places, values),
                table=Table(
                    ("extremum", "λ", "p(λ)", "known place"),
                    tuple(
                        (str(k), f"{place:.6f}", f"{value:+.6f}", f"{where:.6f}")
                        for k, (place, value, where) in enumerate(
                            zip(places, values, known, strict=True)
                        )
                    ),
                ),
            ),
            Section(
                "Evidence: numerical minimisation from random starts",
                (
                    "The largest |p| is minimised by iteration, without Chebyshev polynomials: "
                    "points of the interval get random weights; the steps with the smallest "
                    "weighted mean of p² are computed; each weight is multiplied by |p| at its "
                    "point; and again (Lawson's algorithm). The weights move to where |p| is "
                    f"largest. All {num_starts} starts end at the same steps.",
                ),
                figure=Figure(
                    "minimisation",
                    "Largest |p| over the smallest possible, minimised from random starts",
                    "Ratio of the largest residual to Chebyshev's against the iteration: from "
                    "every start it falls to one.",
                    (
                        median_curve(
                            "largest |p| over Chebyshev's, all starts",
                            np.arange(1, num_iterations + 1),
                            excess - 1,
                            emphasis=True,
                            role="series",
                        ),
                    ),
                    Axis("iteration", log=True),
                    Axis("excess over Chebyshev steps", log=True),
                ),
                table=Table(
                    ("rank", "Chebyshev step", "found, median and range over starts"),
                    tuple(
                        (str(k + 1), f"{step:.5f}", spread(found[:, k], 5))
                        for k, step in enumerate(ascending)
                    ),
                ),
            ),
            Section(
                "Limits",
                (
                    "The bound is over the whole interval. On the eigenvalues themselves, which "
                    "leave gaps, other steps can have a slightly smaller radius; `minimax_steps` "
                    "finds them for known gaps. And the bound is about the worst error: on "
                    "average over errors that are alike in every direction optimal steps are "
                    "better.",
                ),
            ),
        ],
        checks=_checks(period, rate, values, (places - known) / (2 * radius), excess, deviation),
        records={"schedules/chebyshev": schedule},
    )


def _checks(
    period: int,
    rate: float,
    values: FloatArray,
    shifts: FloatArray,
    excess: FloatArray,
    deviation: float,
) -> list[Check]:
    heights, changes = np.abs(np.abs(values) / rate - 1), values[1:] * values[:-1] < 0
    checks = [
        Check.count("number of extrema", period + 1, values.size, THEORY),
        Check.at_most(
            "deviation of a height from sech(T arccosh((κ+1)/(κ−1)))", 1e-6, heights.max(), THEORY
        ),
        Check.count("changes of sign between neighbours", period, changes.sum(), THEORY),
        Check.at_most(
            "distance of an extremum from (a+b)/2 − (b−a)/2 cos(kπ/T), over b − a",
            1e-6,
            np.abs(shifts).max(),
            THEORY,
        ),
        Check.at_least(
            "smallest largest |p| on the way over Chebyshev's, all starts", 1, excess.min(), THEORY
        ),
    ]
    if excess.shape[1] < 300:
        return checks
    return [
        *checks,
        Check.at_most(
            "largest |p| at the end over Chebyshev's, worst start",
            1.03,
            excess[:, -1].max(),
            THEORY,
        ),
        Check.at_most(
            "largest deviation of a step from Chebyshev's, all starts", 0.02, deviation, THEORY
        ),
    ]


def _minimise(
    bounds: SpectralBounds, period: int, num_starts: int, num_iterations: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Largest |p| after each iteration, shape (starts, iterations), and the steps, ascending.

    References:
        Lawson, Contributions to the Theory of Linear Least Maximum Approximation (1961).
    """
    rng = np.random.default_rng(seed)
    middle, radius = (bounds.upper + bounds.lower) / 2, (bounds.upper - bounds.lower) / 2
    points = middle - radius * np.cos(np.linspace(0, np.pi, 20 * period + 1))
    paths, found = np.empty((num_starts, num_iterations)), np.empty((num_starts, period))
    for path, ascending in zip(paths, found, strict=True):
        # Cubes: some points begin with hardly any weight.
        weights = 1e-6 + rng.uniform(0, 1, points.size) ** 3
        for iteration in range(num_iterations):
            measure = SpectralMeasure(points, weights)
            steps = np.sort(optimal_steps(measure, period).steps)
            path[iteration] = worst_case_period_rate(steps, bounds)
            weights = weights * np.abs(residual_polynomial(steps, points))
            weights = np.maximum(weights / weights.max(), 1e-200)
        ascending[:] = steps
    return paths, found


def _figure(
    bounds: SpectralBounds,
    period: int,
    rate: float,
    places: FloatArray,
    values: FloatArray,
) -> Figure:
    grid = np.linspace(bounds.lower, bounds.upper, 1201)
    curves = {
        "Chebyshev steps": residual_polynomial(chebyshev_steps(bounds, period), grid),
        "equal steps 2/(a + b)": residual_polynomial(constant_steps(bounds, period), grid),
    }
    return Figure(
        "residual_polynomial",
        f"Residual polynomial of {period} steps",
        "Residual polynomials over the interval. Chebyshev's oscillates between two levels and "
        "touches them at marked points; that of equal steps is flat in the middle and high at both "
        "ends.",
        (
            *(
                Curve(name, grid, curve, emphasis=name.startswith("Cheb"))
                for name, curve in curves.items()
            ),
            Curve(f"{period + 1} extrema", places, values, "points"),
        ),
        Axis("eigenvalue λ"),
        Axis("∏ (1 − γₜ λ)"),
        levels=(Level("sech(T arccosh((κ+1)/(κ−1)))", rate), Level("its negative", -rate)),
    )
