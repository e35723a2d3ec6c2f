"""The order of the steps: the same to mathematics, everything to floating point.

A rounding error made after t steps is multiplied by the product of the factors that follow, and
the iterate itself by the product of the first t. Lebedev and Finogenov (Zh. Vychisl. Mat. Mat. Fiz.
11, 1971) keep both small for T = 2ᵖ; `lebedev_order` and Leja's order do for any T.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.curves import curves
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure, Level
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import OWN, Source
from stepfold.polynomial import residual_polynomial
from stepfold.problems import Quadratic
from stepfold.schedules import ORDERS, Schedule, chebyshev_steps, roundoff_amplification
from stepfold.spectrum import SpectralBounds

SAFE = ("lebedev", "leja")


@experiment(
    "order", source=Source(OWN, "rounding errors by the order of the steps"), seconds=2, quick={}
)
def order(
    *,
    period: Annotated[int, Between(2, 256)] = 64,
    condition_number: Annotated[float, Between(2, 1e8)] = 1e4,
    precision: Literal["float64", "float32"] = "float64",
) -> Outcome:
    """The order of the steps decides what rounding leaves: 64 steps in every order.

    Args:
        period: T.
        condition_number: κ.
        precision: Arithmetic of the run.
    """
    bounds = SpectralBounds(1.0 / condition_number, 1.0)
    eigenvalues = np.geomspace(bounds.lower, bounds.upper, 200)
    chebyshev = chebyshev_steps(bounds, period)
    exact = float(np.sqrt((residual_polynomial(chebyshev, eigenvalues) ** 2).mean()))
    schedules = {name: chebyshev.reordered(name) for name in ORDERS}
    errors = {
        name: _errors(eigenvalues, schedule, precision) for name, schedule in schedules.items()
    }
    growth = {
        name: max(roundoff_amplification(schedule, bounds)) for name, schedule in schedules.items()
    }
    left = {name: float(curve[-1]) for name, curve in errors.items()}
    worst = max(left, key=lambda name: left[name])
    published = (period, condition_number, precision) == (64, 1e4, "float64")
    return Outcome(
        title="The order of the steps",
        summary=(
            f"The same {period} Chebyshev steps for κ = {condition_number:g}, in {precision}: "
            f"exactly {exact:.4f} of the error is left; in Lebedev's order {left['lebedev']:.4f}, "
            f"in Leja's {left['leja']:.4f}, smallest step first {left['ascending']:.1e}, largest "
            f"first {left['descending']:.1e}, outside-in, as training finds them, "
            f"{left['outside-in']:.1e}."
        ),
        sections=[
            Section(
                "Error on the way",
                (
                    "Norm of the error over that at the start, equal along 200 eigenvectors. "
                    "Ascending, the iterate stays small while rounding errors grow; descending, "
                    "the iterate itself grows and takes its digits with it. Interleaved orders "
                    "keep both small. Only an iterate after the last step means anything.",
                ),
                figure=Figure(
                    "errors",
                    f"Error of {period} steps in every order",
                    "Error against iteration for every order. Descending rises astronomically; "
                    "ascending falls, then rises as rounding errors grow; Lebedev's and Leja's end "
                    "at the exact value.",
                    curves(errors, emphasis=SAFE),
                    Axis("iteration"),
                    Axis("error norm, relative to the start", log=True),
                    levels=(Level("exact, after the last step", exact),),
                ),
                table=Table(
                    ("order", "error left", "over exact", "rounding multiplied by"),
                    tuple(
                        (
                            name,
                            f"{left[name]:.3g}",
                            f"{left[name] / exact:.3g}",
                            f"{growth[name]:.1e}",
                        )
                        for name in sorted(left, key=lambda name: left[name])
                    ),
                ),
            )
        ],
        checks=[
            *(
                Check.close(
                    f"error left in {name} order over exact", 1, left[name] / exact, rtol=1e-3
                )
                for name in SAFE
                if precision == "float64"
            ),
            Check.below(
                "amplification of the safe orders", 1e6, max(growth[name] for name in SAFE)
            ),
            *(
                [
                    Check(
                        "amplification of ascending order",
                        "about 1e31",
                        growth["ascending"],
                        1e30,
                        1e33,
                    ),
                    Check.above(
                        "error left in the worst order over exact", 1e6, left[worst] / exact
                    ),
                    Check.above(
                        "error left in outside-in order over exact",
                        1.5,
                        left["outside-in"] / exact,
                        why="it loses digits",
                    ),
                ]
                if published
                else []
            ),
        ],
        records={
            f"schedules/{name}": schedule for name, schedule in schedules.items() if name in SAFE
        },
    )


def _errors(eigenvalues: FloatArray, schedule: Schedule, precision: str) -> FloatArray:
    """Error norm over that at the start, equal along every eigenvector.

    The matrix is dense: in its eigenbasis rounding errors would never meet another eigenvalue.
    """
    size = eigenvalues.size
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((size, size)))
    hessian = ((basis * eigenvalues) @ basis.T).astype(precision)
    solution = (basis @ np.ones(size)).astype(precision)
    problem = Quadratic((hessian + hessian.T) / 2, hessian @ solution)
    x = np.zeros_like(solution)
    norms = [1.0]
    with np.errstate(over="ignore", invalid="ignore"):
        for gamma in schedule.steps.astype(precision):
            x = problem.gradient_step(x, gamma)
            difference = x.astype(np.float64) - solution
            norms.append(float(np.sqrt((difference**2).mean())))
    return np.array(norms)
