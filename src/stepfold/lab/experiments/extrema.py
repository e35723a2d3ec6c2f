"""The residual polynomial of Chebyshev steps and its T + 1 extrema of equal height.

That ``∏ (1 − γₜλ)`` takes its largest value T + 1 times with changing sign is what makes it the
smallest possible (Chebyshev's alternation theorem): a smaller one would cross it T times inside
[a, b] and once more at 0, more often than polynomials of degree T can.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Curve, Figure, Level
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.polynomial import chebyshev_period_rate, extrema_between, residual_polynomial
from stepfold.schedules import chebyshev_steps, constant_steps
from stepfold.spectrum import SpectralBounds


@experiment("extrema", seconds=1, quick={})
def extrema(
    *,
    period: Annotated[int, Between(2, 32)] = 5,
    condition_number: Annotated[float, Between(1.1, 1e4)] = 30.0,
) -> Outcome:
    """The residual polynomial of Chebyshev steps has T + 1 extrema of one height.

    Args:
        period: T.
        condition_number: κ; the interval is [1, κ].
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
    worse = 0
    rng = np.random.default_rng(0)
    grid = np.linspace(bounds.lower, bounds.upper, 4001)
    trials = 200
    for _ in range(trials):
        other = schedule.steps * np.exp(rng.normal(0, 0.02, period))
        worse += bool(np.abs(residual_polynomial(other, grid)).max() > rate)
    constant = np.abs(residual_polynomial(constant_steps(bounds, period), grid)).max()
    return Outcome(
        title="Why Chebyshev steps are best in the worst case",
        summary=(
            f"Over [1, {condition_number:g}] the polynomial of {period} Chebyshev steps "
            f"swings {period + 1} times to ±{rate:.5f}; {period} equal steps leave "
            f"{constant:.5f}. None of {trials} neighbouring schedules is better."
        ),
        sections=[
            Section(
                "Equal heights with changing signs",
                (
                    "T steps multiply the error along the eigenvector of eigenvalue λ by "
                    "p(λ) = ∏(1 − γₜλ), and p(0) = 1 whatever the steps. Chebyshev steps make all "
                    f"{period + 1} extrema over the interval equally high, with changing signs. "
                    "A polynomial of the same degree that stays lower everywhere would have to "
                    "cross this one between all neighbouring extrema and once more at 0, "
                    f"{period + 1} times in all, but two polynomials of degree {period} that "
                    "differ cannot meet so often.",
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
            )
        ],
        checks=[
            Check("number of extrema", str(period + 1), places.size, period + 1, period + 1),
            Check(
                "largest deviation of a height from sech(T arccosh((κ+1)/(κ−1)))",
                "0",
                float(np.abs(np.abs(values) / rate - 1).max()),
                0,
                1e-6,
            ),
            Check(
                "changes of sign between neighbours",
                str(period),
                int((values[1:] * values[:-1] < 0).sum()),
                period,
                period,
            ),
            Check(
                "largest distance of an extremum from (a+b)/2 − (b−a)/2 cos(kπ/T), over b − a",
                "0",
                float(np.abs(places - known).max() / (2 * radius)),
                0,
                1e-6,
            ),
            Check(
                f"of {trials} schedules with steps moved by 2 %, those that are worse",
                str(trials),
                worse,
                trials,
                trials,
            ),
        ],
        records={"schedules/chebyshev": schedule.to_dict()},
    )


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
