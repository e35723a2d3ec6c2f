"""Step sizes with known answers: silver steps, their sum and their rate, and fractal orders.

Altschuler and Parrilo, Acceleration by Stepsize Hedging I and II (arXiv:2309.07879, 2309.16530).
Agarwal, Goel and Zhang, Acceleration via Fractal Learning Rate Schedules (arXiv:2103.01338): their
order is Lebedev and Finogenov's.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold.lab.curves import curves
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure
from stepfold.lab.formula import Formula
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import STEPSIZE_HEDGING, Source
from stepfold.polynomial import (
    chebyshev_rate,
    constant_rate,
    first_order_lower_bound,
    worst_case_period_rate,
)
from stepfold.schedules import (
    ORDERS,
    chebyshev_steps,
    silver_convex_steps,
    silver_period_rate,
    silver_steps,
)
from stepfold.spectrum import SpectralBounds

LEBEDEV_OF_8 = (1, 8, 4, 5, 2, 7, 3, 6)


@experiment(
    "known_steps",
    source=Source(STEPSIZE_HEDGING, "rates and sums of silver steps"),
    seconds=1,
    quick={},
)
def known_steps(
    *,
    condition_number: Annotated[float, Between(1.1, 1e6)] = 32.0,
    max_doublings: Annotated[int, Between(2, 10)] = 6,
) -> Outcome:
    """Silver steps beside Chebyshev's on quadratics, and Lebedev's order: known answers.

    Args:
        condition_number: κ.
        max_doublings: The longest silver schedule has two to this many steps.
    """
    bounds = SpectralBounds(1.0 / condition_number, 1.0)
    periods = [2**k for k in range(max_doublings + 1)]
    silver = [silver_steps(bounds, period) for period in periods]
    rates = {
        "silver": [worst_case_period_rate(s, bounds) ** (1 / s.period) for s in silver],
        "Chebyshev": [chebyshev_rate(bounds, period) for period in periods],
        "constant": [constant_rate(bounds)] * len(periods),
        "lower bound": [first_order_lower_bound(bounds)] * len(periods),
    }
    proven = [silver_period_rate(bounds, period) for period in periods]
    attained = [worst_case_period_rate(s, bounds) for s in silver]
    gap = max(abs(a / p - 1) for a, p in zip(attained, proven, strict=True))
    unit = SpectralBounds(0.0, 1.0)
    sums = {k: float(silver_convex_steps(unit, 2**k - 1).steps.sum()) for k in range(1, 9)}
    expected = {k: (1 + 2**0.5) ** k - 1 for k in sums}
    index = ORDERS["lebedev"](np.arange(8.0)) + 1
    ratio = float(rates["silver"][-1] / rates["Chebyshev"][-1])
    shown = min(8, periods[-1])
    steps = {
        "silver, in the order it must be taken": silver_steps(bounds, shown).steps,
        "Chebyshev, in Lebedev's order": chebyshev_steps(bounds, shown).steps,
    }
    return Outcome(
        title="Silver steps and Lebedev's order: known answers",
        summary=(
            f"For κ = {condition_number:g} a period of {periods[-1]} silver steps has the rate "
            f"{rates['silver'][-1]:.5f} a step, Chebyshev steps {rates['Chebyshev'][-1]:.5f}, "
            f"{ratio:.3f} times less. Silver steps are for all smooth convex functions, of which "
            "quadratics are the simplest; on these Chebyshev steps win."
        ),
        sections=[
            Section(
                "Silver steps",
                (
                    Formula(r"\sum_{t=1}^{2^k-1}\gamma_t L=(1+\sqrt2)^k-1"),
                    "Silver steps contract the error of every function whose second derivatives "
                    "lie in the interval, not of quadratics only; their period doubles by a rule. "
                    "On quadratics the proven rate is attained. Chebyshev steps need quadratics, "
                    "or a neighbourhood of the solution, and have the smaller rate there.",
                ),
                figure=Figure(
                    "rates",
                    "Rate per step by period",
                    "Rate per step against the period: both fall, Chebyshev's below silver's and "
                    "close to the lower bound.",
                    curves(rates, np.array(periods), style="both", emphasis=("silver",)),
                    Axis("period T", log=True),
                    Axis("rate per step"),
                ),
                table=Table(
                    ("k", "sum of 2ᵏ − 1 silver steps", "(1+√2)ᵏ − 1"),
                    tuple((str(k), f"{sums[k]:.8g}", f"{expected[k]:.8g}") for k in sums),
                ),
            ),
            Section(
                "The steps",
                (
                    "Both alternate long and short steps on every scale: fractal, as it was "
                    "called when learning rates were found to profit from it. For eight steps the "
                    f"order by rank is {' '.join(map(str, index))}.",
                ),
                figure=Figure(
                    "steps",
                    f"{shown} steps in order",
                    "Step size against position: both zig-zag between short and long steps.",
                    curves(steps, np.arange(1, shown + 1), style="both"),
                    Axis("position"),
                    Axis("step size γ, in units of 1/L", log=True),
                ),
            ),
        ],
        checks=[
            Check.at_most(
                "largest deviation of silver's attained from its proven rate",
                1e-6,
                gap,
                why="a quadratic is a worst case",
            ),
            Check.at_most(
                "largest relative deviation of a sum from (1+√2)ᵏ − 1",
                1e-12,
                max(abs(sums[k] / expected[k] - 1) for k in sums),
            ),
            Check.count(
                "places of Lebedev's order of 8 that are 1 8 4 5 2 7 3 6",
                8,
                (index == LEBEDEV_OF_8).sum(),
            ),
            Check.count(
                "places of the fractal order that mirror it",
                8,
                (ORDERS["fractal"](np.arange(8.0)) + 1 == 9 - np.array(LEBEDEV_OF_8)).sum(),
            ),
            Check.above("silver's rate over Chebyshev's, longest period", 1, ratio),
        ],
        records={"schedules/silver": silver[-1]},
    )
