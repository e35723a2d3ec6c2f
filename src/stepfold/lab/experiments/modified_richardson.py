"""Chebyshev relaxation when the smallest eigenvalue is 0 or unknown: a = 0, and the fourth kind.

On [0, 1] the Chebyshev steps with a = 0, ``ωₜ = 2/(1 + cos((2t+1)π/(2T)))``, never let an error
grow, and shrink none for sure. Steps of the fourth kind are made for this case: they have the
smallest maximum of √λ|p(λ)|.

Wadayama and Takabe, Chebyshev Inertial Iteration for Accelerating Fixed-Point Iterations
(arXiv:2001.03280), modified Richardson iteration. Lottes, Optimal Polynomial Smoothers for
Multigrid V-cycles (arXiv:2202.08830): the fourth kind.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold.lab.curves import curves
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure, Level
from stepfold.lab.formula import Formula
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import INERTIAL_ITERATION, Source
from stepfold.polynomial import fourth_kind_period_rate, residual_polynomial, worst_case_period_rate
from stepfold.schedules import chebyshev_steps
from stepfold.spectrum import SpectralBounds


@experiment(
    "modified_richardson",
    source=Source(INERTIAL_ITERATION, "modified Richardson iteration"),
    seconds=1,
    quick={},
)
def modified_richardson(*, period: Annotated[int, Between(2, 64)] = 8) -> Outcome:
    """Relaxation with a = 0: what it does to each eigenvalue, beside the fourth kind.

    Args:
        period: T.
    """
    bounds = SpectralBounds(0.0, 1.0)
    t = np.arange(period)
    richardson = 2 / (1 + np.cos((2 * t + 1) * np.pi / (2 * period)))
    fourth = np.sort(chebyshev_steps(bounds, period, kind=4).steps)
    schedules = {
        "plain, ω = 1": np.ones(period),
        "a = 0 (modified Richardson)": richardson,
        "fourth kind": fourth,
    }
    names = list(schedules)
    largest = {name: worst_case_period_rate(steps, bounds) for name, steps in schedules.items()}
    weighted = {
        name: worst_case_period_rate(steps, bounds, power=0.5) for name, steps in schedules.items()
    }
    grid = np.geomspace(1e-5, 1, 1500)
    values = {name: np.abs(residual_polynomial(steps, grid)) for name, steps in schedules.items()}
    # cos(T arccos(1 − 2λ)) is the Chebyshev polynomial moved to [0, 1].
    known = np.abs(np.cos(period * np.arccos(1 - 2 * grid)))
    halved = {name: float(grid[np.argmax(row <= 0.5)]) for name, row in values.items()}
    return Outcome(
        title="When the smallest eigenvalue is not known",
        summary=(
            f"With a = 0 and T = {period} the largest factor over [0, 1] is "
            f"{largest[names[1]]:.4f}: errors never grow, but on the way to the first root the "
            "polynomial comes back to 1. The fourth kind has the smallest maximum of √λ|p(λ)|, "
            f"{weighted[names[2]]:.4f} against {weighted[names[1]]:.4f}, and halves errors down to "
            f"λ = {halved[names[2]]:.1e}, plain relaxation to {halved[names[0]]:.1e}."
        ),
        sections=[
            Section(
                "What T steps do to each eigenvalue",
                (
                    Formula(r"\omega_t = \frac{2}{1+\cos\frac{(2t+1)\pi}{2T}}"),
                    "In deblurring and tomography eigenvalues reach down to 0, and no lower bound "
                    "is known. Chebyshev steps for [0, 1] have p(λ) = cos(T arccos(1 − 2λ)), which "
                    "stays between −1 and 1 but swings between them over the whole interval: it "
                    "shrinks no error for sure. Steps of the fourth kind keep √λ|p(λ)| equally "
                    "low everywhere, which bounds the error in the energy norm.",
                ),
                figure=Figure(
                    "factors",
                    "Factor by which T steps multiply the error",
                    "Absolute residual polynomials over the logarithm of the eigenvalue. All start "
                    "at one for tiny eigenvalues; a = 0 swings up to one, the fourth kind swings "
                    "with falling heights, plain relaxation falls late.",
                    curves(values, grid, emphasis=names[1:]),
                    Axis("eigenvalue λ", log=True),
                    Axis("|∏ (1 − ωₜ λ)|"),
                ),
            ),
            Section(
                "Weighted with √λ",
                (
                    "The same times √λ: the energy norm of the error that an error of norm 1 "
                    "leaves. The fourth kind's extrema are level, at 1/(2T + 1).",
                ),
                figure=Figure(
                    "weighted",
                    "√λ times the factor",
                    "Weighted residual polynomials. The fourth kind's peaks are level and lowest; "
                    "those of a = 0 rise with the eigenvalue to one; plain has one peak.",
                    curves(
                        {name: np.sqrt(grid) * row for name, row in values.items()},
                        grid,
                        emphasis=names[1:],
                    ),
                    Axis("eigenvalue λ", log=True),
                    Axis("√λ |∏ (1 − ωₜ λ)|"),
                    levels=(Level("1/(2T + 1)", fourth_kind_period_rate(bounds, period)),),
                ),
                table=Table(
                    ("steps", "max |p|", "max √λ|p|", "halves errors down to λ ="),
                    tuple(
                        (
                            name,
                            f"{largest[name]:.4f}",
                            f"{weighted[name]:.4f}",
                            f"{halved[name]:.2e}",
                        )
                        for name in names
                    ),
                ),
            ),
        ],
        checks=[
            Check.at_most(
                "largest difference of |p| for a = 0 from |cos(T arccos(1 − 2λ))|",
                1e-9,
                np.abs(values[names[1]] - known).max(),
            ),
            Check.close("max |p| for a = 0", 1, largest[names[1]], rtol=1e-9),
            Check.close(
                "max √λ|p| of the fourth kind over 1/(2T + 1)",
                1,
                weighted[names[2]] / fourth_kind_period_rate(bounds, period),
                rtol=1e-6,
            ),
            Check.close("max √λ|p| for a = 0", 1, weighted[names[1]], rtol=1e-6),
            Check.below(
                "max √λ|p| of the fourth kind over plain",
                1,
                weighted[names[2]] / weighted[names[0]],
            ),
        ],
        records={"schedules/fourth-kind": chebyshev_steps(bounds, period, kind=4)},
    )
