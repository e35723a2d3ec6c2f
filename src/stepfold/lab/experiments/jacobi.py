"""Jacobi's method for linear equations, relaxed: constant and Chebyshev periodical over-relaxation.

For P = D + R, ``x ← D⁻¹(q − Rx)`` multiplies errors by ``I − B``, ``B = D⁻¹P``. Relaxation by the
Chebyshev steps of the spectrum of B needs no more than its two ends.

Wadayama and Takabe, Chebyshev Inertial Iteration for Accelerating Fixed-Point Iterations
(arXiv:2001.03280), Figure 4; the draw of the matrix is that of the authors' program
(github.com/wadayama/Chebyshev, Jacobi.ipynb), which draws a new start for every point of its curves
and so shows noise; here all curves have one start.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold._typing import FloatArray
from stepfold.iterations import Relaxation
from stepfold.lab.curves import curves
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments._unfolded import iterates
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure
from stepfold.lab.formula import Formula
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import INERTIAL_ITERATION, Source
from stepfold.polynomial import chebyshev_rate, constant_rate, first_order_lower_bound
from stepfold.problems.splittings import jacobi_iteration
from stepfold.schedules import Schedule, chebyshev_steps, constant_steps
from stepfold.spectrum import SpectralBounds

PUBLISHED = (512, 8, 0)


@experiment(
    "jacobi",
    source=Source(INERTIAL_ITERATION, "Figure 4: Jacobi's method"),
    seconds=3,
    quick={"num_unknowns": 96},
)
def jacobi(
    *,
    num_unknowns: Annotated[int, Between(8, 2000)] = 512,
    period: Annotated[int, Between(2, 64)] = 8,
    num_periods: Annotated[int, Between(1, 20)] = 3,
    matrix_seed: Seed = 0,
) -> Outcome:
    """Jacobi's method by Chebyshev relaxation, beside the plain and the best constant one.

    Args:
        num_unknowns: n; P = I + MᵀM with M of shape (n, n) and entries N(0, 0.03²).
        period: T, the period of the relaxations.
        num_periods: Periods shown.
        matrix_seed: Seed of torch's generator; the numbers are for 0 and n = 512.
    """
    matrix = _matrix(num_unknowns, matrix_seed)
    diagonal = np.diag(matrix)
    scaled = matrix / np.sqrt(diagonal[:, None] * diagonal)  # similar to B, and symmetric
    eigenvalues = np.linalg.eigvalsh(scaled)
    bounds = SpectralBounds(eigenvalues[0], eigenvalues[-1])
    schedules = {
        "Jacobi": Schedule(np.ones(1)),
        "constant relaxation": constant_steps(bounds, 1),
        f"Chebyshev relaxation, T = {period}": chebyshev_steps(bounds, period),
    }
    last = period * num_periods
    start = np.random.default_rng(0).standard_normal(num_unknowns)
    errors = {name: _errors(matrix, schedule, start, last) for name, schedule in schedules.items()}
    rates = {
        "Jacobi": float(np.abs(1 - eigenvalues).max()),
        "constant relaxation": constant_rate(bounds),
        f"Chebyshev relaxation, T = {period}": chebyshev_rate(bounds, period),
        "lower bound": first_order_lower_bound(bounds),
    }
    measured = {name: float(curve[last] ** (1 / last)) for name, curve in errors.items()}
    return Outcome(
        title="Jacobi's method, accelerated by Chebyshev relaxation",
        summary=(
            f"The rate per iteration falls from {rates['Jacobi']:.5f} (Jacobi) over "
            f"{rates['constant relaxation']:.5f} (best constant relaxation) to "
            f"{list(rates.values())[2]:.5f} (Chebyshev relaxation of period {period}); the "
            f"limit for long periods is {rates['lower bound']:.5f}."
        ),
        sections=[
            Section(
                "Error by iteration",
                (
                    "Linear equations with a random positive definite matrix. Relaxation moves "
                    "by a factor ω of what Jacobi's method would; a factor for each iteration of "
                    "a period, from the two ends of the spectrum, makes three numbers' worth of "
                    "work of one.",
                    Formula(r"x \leftarrow x + \omega_t\,(f(x) - x),\quad f(x)=D^{-1}(q-Rx)"),
                    "Errors are in the norm of D, in which the rates hold for every iteration "
                    "and not only in the limit; Chebyshev's hold at multiples of the period.",
                ),
                figure=Figure(
                    "errors",
                    "Error of three relaxations",
                    "Error against iteration, falling in straight lines: Jacobi's slowly, constant "
                    "relaxation faster, Chebyshev relaxation fastest, in waves.",
                    curves(errors, style="both", emphasis=(list(errors)[2],)),
                    Axis("iteration"),
                    Axis("error norm, relative to the start", log=True),
                ),
                table=Table(
                    ("method", "rate per iteration", f"measured over {last} iterations"),
                    tuple(
                        (name, f"{rate:.5f}", f"{measured[name]:.5f}" if name in measured else "–")
                        for name, rate in rates.items()
                    ),
                ),
            )
        ],
        checks=[
            *(
                _published_checks(bounds, rates)
                if (num_unknowns, period, matrix_seed) == PUBLISHED
                else []
            ),
            *(
                Check.at_most(
                    f"measured rate of {name} over its bound", 1, measured[name] / rates[name]
                )
                for name in measured
            ),
            Check.below(
                "measured rate of Chebyshev relaxation over that of the best constant one",
                1,
                measured[list(errors)[2]] / measured["constant relaxation"],
            ),
        ],
        parameters={"smallest eigenvalue": bounds.lower, "largest eigenvalue": bounds.upper},
        records={"schedules/chebyshev": chebyshev_steps(bounds, period)},
    )


def _matrix(num_unknowns: int, seed: int) -> FloatArray:
    """The published P = I + MᵀM, drawn by torch in single precision."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    draw = torch.normal(torch.zeros(num_unknowns, num_unknowns), 0.03, generator=generator)
    factor = draw.numpy().astype(np.float64)
    matrix: FloatArray = np.eye(num_unknowns) + factor.T @ factor
    return matrix


def _errors(matrix: FloatArray, schedule: Schedule, start: FloatArray, last: int) -> FloatArray:
    """Error in the norm of D over that at the start; the solution is 0."""
    problem = jacobi_iteration(matrix, np.zeros(start.size))
    weights = np.diag(matrix)
    points = iterates(Relaxation(), problem, start, map(schedule, range(last)))
    norms: FloatArray = np.array([np.sqrt(weights @ x**2) for x in points])
    norms /= norms[0]
    return norms


def _published_checks(bounds: SpectralBounds, rates: dict[str, float]) -> list[Check]:
    expected = (0.92162, 0.47919, 0.27830, 0.25520)
    return [
        Check.close("smallest eigenvalue of B", 0.67658, bounds.lower, rtol=1e-5),
        Check.close("largest eigenvalue of B", 1.92162, bounds.upper, rtol=1e-5),
        *(
            Check.close(f"rate, {name}", value, rates[name], rtol=2e-5)
            for name, value in zip(rates, expected, strict=True)
        ),
    ]
