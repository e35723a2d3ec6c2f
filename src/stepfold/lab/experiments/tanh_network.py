"""The fixed point of a network with tanh units, ``x = tanh(Wx + b)``, as in equilibrium models.

With W symmetric and ``D = diag(1 − x²)`` at the fixed point, ``J = DW`` has the spectrum of the
symmetric ``D^{1/2} W D^{1/2}``: it is real, and inside (−1, 1) if W's is. Wadayama and Takabe,
Chebyshev Inertial Iteration for Accelerating Fixed-Point Iterations (arXiv:2001.03280).
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from stepfold._typing import FloatArray
from stepfold.accelerate import accelerate
from stepfold.lab.curves import curves
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Curve, Figure
from stepfold.lab.formula import Formula
from stepfold.lab.outcome import Check, Outcome, Section
from stepfold.lab.parameters import Between
from stepfold.lab.sources import INERTIAL_ITERATION, Source
from stepfold.polynomial import chebyshev_rate
from stepfold.problems.fixed_point import EVALUATIONS_AT_START
from stepfold.schedules import Schedule, chebyshev_steps
from stepfold.spectrum import SpectralBounds

GUARDED = "relaxation, bounds found on the way"


@experiment(
    "tanh_network",
    source=Source(INERTIAL_ITERATION, "the fixed point of a tanh network"),
    seconds=2,
    quick={"num_units": 64},
)
def tanh_network(
    *,
    num_units: Annotated[int, Between(8, 1000)] = 256,
    radius: Annotated[float, Between(0.1, 0.99)] = 0.95,
    period: Annotated[int, Between(2, 64)] = 16,
    seed: Seed = 0,
) -> Outcome:
    """The fixed point of a tanh network, by plain, Chebyshev and learned relaxation.

    Args:
        num_units: n.
        radius: Spectral radius of W.
        period: T, the period of the relaxations.
        seed: Seed of W, b and the start.
    """
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((num_units, num_units))
    weights = (weights + weights.T) / 2
    weights *= radius / np.abs(np.linalg.eigvalsh(weights)).max()
    bias = 0.1 * rng.standard_normal(num_units)
    x0 = rng.standard_normal(num_units)

    def network(x: FloatArray) -> FloatArray:
        image: FloatArray = np.tanh(weights @ x + bias)
        return image

    solution = accelerate(network, x0, rtol=1e-14).x
    slope = np.sqrt(1 - solution**2)
    eigenvalues = np.linalg.eigvalsh(np.eye(num_units) - slope[:, None] * weights * slope)
    bounds = SpectralBounds(eigenvalues[0], eigenvalues[-1])
    schedule = chebyshev_steps(bounds, period)
    runs: dict[str, dict[str, Any]] = {
        "plain": {"schedule": Schedule(np.ones(1)), "guard": False},
        f"Chebyshev relaxation, T = {period}": {"schedule": schedule, "guard": False},
        GUARDED: {},
    }
    paths = {name: _path(network, x0, solution, options) for name, options in runs.items()}
    evaluations = {name: count for name, (_, _, count) in paths.items()}
    name = f"Chebyshev relaxation, T = {period}"
    rate = _tail_rate(*paths[name][:2], period)
    promised = chebyshev_rate(bounds, period)
    return Outcome(
        title="The fixed point of a tanh network",
        summary=(
            f"To a residual of 1e-10 the plain iteration takes {evaluations['plain']} evaluations "
            f"of the network, Chebyshev relaxation with the true spectrum {evaluations[name]}, and "
            f"relaxation that finds it on the way {evaluations[GUARDED]}."
        ),
        sections=[
            Section(
                "Error by evaluation",
                (
                    Formula(r"x=\tanh(Wx+b)"),
                    f"{num_units} units, W symmetric with spectral radius {radius:g}. The "
                    f"spectrum of I − J at the fixed point is [{bounds.lower:.4f}, "
                    f"{bounds.upper:.4f}]. The third run knows nothing of it and learns it from "
                    "the residuals it computes anyway.",
                ),
                figure=Figure(
                    "errors",
                    "Distance from the fixed point",
                    "Distance against evaluations of the network. Both relaxations fall much "
                    "faster than the plain iteration.",
                    tuple(
                        Curve(label, counts, errors, emphasis=label != "plain")
                        for label, (counts, errors, _) in paths.items()
                    ),
                    Axis("evaluations of the network"),
                    Axis("distance from the fixed point", log=True),
                ),
            ),
            Section(
                "The spectrum",
                (
                    "Eigenvalues of I − J at the fixed point, in ascending order: all real, "
                    "because W is symmetric, and within 1 ± the radius of W.",
                ),
                figure=Figure(
                    "spectrum",
                    "Eigenvalues of I − J",
                    "Sorted eigenvalues rise like a semicircle's quantiles from near zero to "
                    "below two.",
                    curves(
                        {"eigenvalues": eigenvalues},
                        np.arange(1, num_units + 1),
                        style="points",
                    ),
                    Axis("rank"),
                    Axis("eigenvalue of I − J"),
                ),
            ),
        ],
        checks=[
            Check.at_most(
                "largest |f(x) − x| at the solution",
                1e-12,
                np.abs(network(solution) - solution).max(),
                why="rounding",
            ),
            Check.below(
                "largest distance of an eigenvalue of I − J from 1, over the radius of W",
                1,
                float(np.abs(eigenvalues - 1).max()) / radius,
            ),
            Check.at_most(
                "measured Chebyshev rate over its bound, in the last periods", 1.03, rate / promised
            ),
            Check.below(
                "evaluations with Chebyshev relaxation over plain",
                0.9,
                evaluations[name] / evaluations["plain"],
            ),
            Check.below(
                "evaluations with learned relaxation over plain",
                0.9,
                evaluations[GUARDED] / evaluations["plain"],
            ),
        ],
        records={"schedules/chebyshev": schedule},
    )


def _path(
    network: Any, x0: FloatArray, solution: FloatArray, options: dict[str, Any]
) -> tuple[FloatArray, FloatArray, int]:
    """Evaluations and errors after each step, and the evaluations to a residual of 1e-10."""
    seen: list[tuple[float, float]] = []

    def watch(t: int, x: FloatArray) -> None:
        seen.append((t + EVALUATIONS_AT_START, float(np.linalg.norm(x - solution))))

    result = accelerate(
        network, x0, rtol=0.0, atol=1e-10, max_products=20_000, callback=watch, **options
    )
    counts, errors = np.array(seen).T
    return counts, errors, int(result.history.num_products[-1])


def _tail_rate(counts: FloatArray, errors: FloatArray, period: int) -> float:
    """Rate per evaluation over the last two periods, which the linear theory describes."""
    before = -1 - 2 * period
    return float((errors[-1] / errors[before]) ** (1 / (counts[-1] - counts[before])))
