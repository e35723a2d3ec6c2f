"""Whether training lowers the spectral radius: a bound on it falls; it itself need not.

With errors that are alike in every direction the mean squared error is the mean of p² over the
eigenvalues, and the spectral radius ρ the largest |p|: ``MSE ≤ ρ² ≤ n·MSE``. Takabe and Wadayama,
Theoretical Interpretation of Learned Step Size in Deep-Unfolded Gradient Descent
(arXiv:2001.05142), conclude from this that training lowers ρ. It lowers the bound ``√(n·MSE)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray

from stepfold._typing import FloatArray
from stepfold.lab.curves import curves
from stepfold.lab.experiments._computed import BUILDERS, by_period
from stepfold.lab.experiments._ensembles import spectra
from stepfold.lab.experiments._published import NUM_ITERATIONS, Seed
from stepfold.lab.experiments._trainings import EARLIER, PAPER, THEORY, counted, spread
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure, Level
from stepfold.lab.formula import Formula
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import LEARNED_STEP_SIZE, Source
from stepfold.measure import SpectralMeasure
from stepfold.polynomial import (
    chebyshev_period_rate,
    first_order_lower_bound,
    mean_squared_error,
    spectral_radius,
)
from stepfold.schedules import Schedule, optimal_steps

if TYPE_CHECKING:
    from stepfold.unfolded import Progress, Replicas

SHOWN = (1, 2, 3, 5, 8, 11, 15, 20, 25)
# Points of a curve over all mini-batches.
MOST_POINTS = 250


@dataclass(frozen=True, eq=False)
class Found:
    """Trainings on several matrices, and a training that starts from Chebyshev steps."""

    measures: list[SpectralMeasure]
    replicas: Replicas
    from_chebyshev: tuple[FloatArray, FloatArray]

    @cached_property
    def fell(self) -> NDArray[np.bool_]:
        """Whether a mini-batch lowered the mean squared error, shape (R, G, K)."""
        lower: NDArray[np.bool_] = np.diff(self.replicas.mean_squared_error_path, axis=2) < 0
        return lower

    @cached_property
    def rose(self) -> NDArray[np.bool_]:
        """Whether it lowered the mean squared error and raised the radius, shape (R, G, K)."""
        return self.fell & (np.diff(self.replicas.spectral_radii, axis=2) > 0)

    @cached_property
    def radii(self) -> dict[str, FloatArray]:
        """Spectral radius by number of steps, shape (R or M, T)."""
        found = {"learned": self.replicas.spectral_radii[:, :, -1]}
        return found | self._computed(lambda s, m: spectral_radius(s, m.nodes))

    @cached_property
    def errors(self) -> dict[str, FloatArray]:
        """Mean squared error of the computed schedules, shape (M, T)."""
        return self._computed(mean_squared_error)

    def _computed(
        self, figure: Callable[[Schedule, SpectralMeasure], float]
    ) -> dict[str, FloatArray]:
        periods = range(1, self.replicas.steps.shape[2] + 1)
        builders = {name: BUILDERS[name] for name in ("Chebyshev", "optimal", "constant")}
        return by_period(figure, builders, self.measures, periods)

    @cached_property
    def correlated(self) -> list[tuple[int, float, float]]:
        """T, n·MSE and ρ² of the best steps for errors with covariance ∝ (HᵀH)²."""
        nodes = self.measures[0].nodes
        measure = SpectralMeasure(nodes, nodes**2)
        rows = []
        for depth in (d for d in SHOWN if d <= self.replicas.steps.shape[2]):
            best = optimal_steps(measure, depth)
            error = nodes.size * mean_squared_error(best, measure)
            rows.append((depth, error, spectral_radius(best, nodes) ** 2))
        return rows


@experiment(
    "spectral_radius",
    source=Source(LEARNED_STEP_SIZE, "training lowers the spectral radius"),
    seconds=15,
    quick={"period": 5, "num_iterations": 100, "num_matrices": 2, "num_seeds": 2},
)
def spectral_radius_over_training(
    *,
    period: Annotated[int, Between(2, 40)] = 25,
    num_matrices: Annotated[int, Between(1, 32)] = 3,
    num_seeds: Annotated[int, Between(1, 32)] = 4,
    num_iterations: Annotated[int, Between(1, 2000)] = NUM_ITERATIONS,
    matrix_seed: Seed = 12,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Training lowers a bound on the spectral radius; how often it lowers the radius itself.

    Args:
        period: T, the number of layers.
        num_matrices: Matrices of 600 rows and 300 columns.
        num_seeds: Trainings on each.
        num_iterations: Mini-batches per stage; claims about the training are tested at 500.
        matrix_seed: Seed of the first matrix; 12 is the published one.
        seed: Seed of the first training's data.
    """
    from stepfold.unfolded import train_replicas

    measures = spectra(num_matrices=num_matrices, matrix_seed=matrix_seed)
    replicas = train_replicas(
        measures,
        period,
        range(seed, seed + num_seeds),
        num_iterations=num_iterations,
        progress=progress,
    )
    found = Found(measures, replicas, _from_chebyshev(measures[0], period, matrix_seed))
    shares = found.rose.sum((1, 2)) / found.fell.sum((1, 2))
    trained_error, trained_radius = found.from_chebyshev
    return Outcome(
        title="Training lowers a bound on the spectral radius, not always the radius",
        summary=(
            f"In {counted(len(replicas), 'training')} the spectral radius ρ ends at "
            f"{spread(found.radii['learned'][:, -1])} and never leaves its bounds, "
            "MSE ≤ ρ² ≤ n·MSE. But in a share of "
            f"{spread(shares)} of the mini-batches that lowered the MSE ρ rose; and a training "
            f"that starts from Chebyshev steps lowers the MSE from {trained_error[0]:.3g} to "
            f"{trained_error[-1]:.3g} and raises ρ from {trained_radius[0]:.3g} to "
            f"{trained_radius[-1]:.3g}."
        ),
        sections=[
            _statement(found),
            _evidence(found, shares),
            _counterexamples(found),
            _by_depth(found),
        ],
        checks=_checks(found, shares, trained_in_full=num_iterations >= NUM_ITERATIONS),
        records={"shares": shares},
    )


def _from_chebyshev(
    measure: SpectralMeasure, period: int, matrix_seed: int
) -> tuple[FloatArray, FloatArray]:
    """Error and radius before the training from Chebyshev steps and after each mini-batch."""
    from stepfold.unfolded.networks.dugd import dugd

    task = dugd(num_layers=period, matrix_seed=matrix_seed, from_theory=True)
    seen = [task.network.schedule().steps]

    def look(_now: Progress) -> None:
        seen.append(task.network.schedule().steps)

    task.train(callback=look)
    errors = np.array([mean_squared_error(steps, measure) for steps in seen])
    return errors, np.array([spectral_radius(steps, measure.nodes) for steps in seen])


def _statement(found: Found) -> Section:
    return Section(
        "Statement, hypotheses and proof",
        (
            "Hypotheses. The errors at the start are alike in every direction: their covariance "
            "is a multiple of the unit matrix. The eigenvalues λ₁ … λₙ of HᵀH are fixed.",
            "Statement. The spectral radius ρ of T steps, the largest factor by which they "
            "multiply an error, is bounded by the mean squared error on both sides:",
            Formula(r"\mathrm{MSE}\le\rho^2\le n\,\mathrm{MSE},\quad\rho=\max_i|p(\lambda_i)|"),
            "Proof. With such errors MSE is the mean of the n numbers p(λᵢ)², and ρ² is their "
            "largest. The largest of n numbers that are not negative is at least their mean and "
            "at most their sum.",
            "What follows. Training lowers the MSE, and so it lowers the bound √(n·MSE) on ρ. It "
            "does not follow that ρ falls whenever the MSE does: between the bounds, a factor of "
            f"√n = {np.sqrt(found.measures[0].nodes.size):.1f} apart, ρ may go up.",
        ),
    )


def _evidence(found: Found, shares: FloatArray) -> Section:
    path, radii = found.replicas.mean_squared_error_path, found.replicas.spectral_radii
    size = found.measures[0].nodes.size
    every = max(1, path[0, :, 1:].size // MOST_POINTS)
    errors, squares = (
        each[:, :, 1:].reshape(len(each), -1)[:, ::every] for each in (path, radii**2)
    )
    batches = 1 + every * np.arange(errors.shape[1])
    rows = []
    for depth in (d for d in SHOWN if d <= path.shape[1]):
        g = depth - 1
        share = found.rose[:, g].sum(1) / np.maximum(found.fell[:, g].sum(1), 1)
        ratio = radii[:, g, -1] / radii[:, g, 0]
        fallen = f"{(ratio < 1).sum()} of {ratio.size}"
        rows.append((str(depth), spread(found.fell[:, g].mean(1)), spread(share), fallen))
    return Section(
        "Evidence: how often the radius falls",
        (
            "The exact MSE and ρ of the layers in training are computed after every mini-batch. "
            "ρ² stays between its bounds all the way, and falls with them in the long run. From "
            f"one mini-batch to the next it need not: ρ rose in {spread(shares)} of those that "
            "lowered the MSE (median and range over trainings). From the start to the end of a "
            "stage it fell in nearly every training.",
        ),
        table=Table(
            (
                "stage",
                "mini-batches that lower the MSE",
                "share of these that raise ρ",
                "trainings whose ρ fell in the stage",
            ),
            tuple(rows),
        ),
        figure=Figure(
            "training",
            "Spectral radius and its bounds during training",
            "The squared spectral radius between the mean squared error and n times it, all three "
            "falling in stairs, one for each layer that is added.",
            curves(
                {
                    "learned: ρ²": squares,
                    "lower bound: mean squared error": errors,
                    "upper bound: n · mean squared error": size * errors,
                },
                batches,
                emphasis=("learned: ρ²",),
            ),
            Axis("mini-batch"),
            Axis("value", log=True),
        ),
    )


def _counterexamples(found: Found) -> Section:
    errors, radii = found.from_chebyshev
    period = found.replicas.steps.shape[2]
    columns = (
        *("T", "MSE Chebyshev", "MSE optimal", "ρ Chebyshev", "ρ optimal"),
        *("3: n·MSE", "3: ρ²"),
    )
    rows = tuple(
        (
            str(depth),
            *(f"{found.errors[name][0, depth - 1]:.3g}" for name in ("Chebyshev", "optimal")),
            *(f"{found.radii[name][0, depth - 1]:.3g}" for name in ("Chebyshev", "optimal")),
            f"{error:.3g}",
            f"{square:.3g}",
        )
        for depth, error, square in found.correlated
    )
    return Section(
        "Limits: three counterexamples",
        (
            "1. Lower MSE, larger ρ. From Chebyshev steps to optimal ones the MSE falls and ρ "
            "rises, for every number of steps: Chebyshev steps keep the largest factor small, "
            "optimal ones the mean.",
            f"2. In training. {period} layers that start as Chebyshev steps are trained all at "
            "once on the logarithm of the loss. The figure shows both after each mini-batch: "
            f"the MSE ends {errors[0] / errors[-1]:.2f} times lower, ρ "
            f"{radii[-1] / radii[0]:.2f} times higher.",
            "3. Other errors. If the covariance of the errors is proportional to (HᵀH)², even the "
            "bound fails: from a few steps on, the best steps for such errors have n·MSE < ρ² "
            "(last two columns, MSE relative to the start). What holds for errors whose variance "
            "is spread over the eigenvectors in shares wᵢ that add up to 1 is ρ² ≤ MSE / min wᵢ.",
        ),
        table=Table(columns, rows),
        figure=Figure(
            "from_chebyshev",
            "Training from Chebyshev steps",
            "Mean squared error and squared spectral radius during a training from Chebyshev "
            "steps: the first falls to the smallest possible, the second rises.",
            curves(
                {"learned: mean squared error": errors, "spectral radius, squared": radii**2},
                emphasis=("learned: mean squared error",),
            ),
            Axis("mini-batch"),
            Axis("value", log=True),
            levels=(Level("smallest possible MSE", float(found.errors["optimal"][0, -1])),),
        ),
    )


def _by_depth(found: Found) -> Section:
    depths = np.arange(1, found.replicas.steps.shape[2] + 1)
    bounds = found.measures[0].bounds
    rates = {name: row ** (1 / depths) for name, row in found.radii.items()}
    rows = tuple(
        (str(t), *(spread(row[:, t - 1]) for row in found.radii.values()))
        for t in depths
        if t in SHOWN
    )
    return Section(
        "Beside computed steps",
        (
            "The T-th root of ρ after T steps, beside the limit (√κ−1)/(√κ+1) that no first-order "
            "method can beat for long. Chebyshev steps have the smallest guaranteed radius; "
            "learned ones follow at a distance, though training never looks at ρ.",
        ),
        table=Table(("T", *(f"ρ {name}" for name in found.radii)), rows),
        figure=Figure(
            "rate",
            "T-th root of the spectral radius",
            "Rate per step against the number of steps. Chebyshev's falls towards the lower "
            "bound, learned and optimal ones above it, the constant one is level.",
            curves(rates, depths, style="both", emphasis=("learned",)),
            Axis("number of steps T"),
            Axis("rate per step"),
            levels=(Level("first-order lower bound", first_order_lower_bound(bounds)),),
        ),
    )


def _checks(found: Found, shares: FloatArray, *, trained_in_full: bool) -> list[Check]:
    path, radii = found.replicas.mean_squared_error_path, found.replicas.spectral_radii
    size, period = found.measures[0].nodes.size, path.shape[1]
    better = found.errors["optimal"] < found.errors["Chebyshev"]
    worse = found.radii["optimal"] > found.radii["Chebyshev"]
    errors, trained = found.from_chebyshev
    bound = np.array(
        [[chebyshev_period_rate(m.bounds, t + 1) for t in range(period)] for m in found.measures]
    )
    learned = found.radii["learned"]
    constant = np.repeat(found.radii["constant"], len(learned) // len(found.measures), axis=0)
    surplus = errors[-1] / found.errors["optimal"][0, -1]
    ratio = min(error / square for _, error, square in found.correlated)
    checks = [
        Check.at_most("largest MSE/ρ², every mini-batch", 1, (path / radii**2).max(), THEORY),
        Check.at_most(
            "largest ρ²/(n·MSE), every mini-batch", 1, (radii**2 / (size * path)).max(), THEORY
        ),
        Check.count(
            f"of {better.size} matrices and T, those where optimal steps have less MSE, larger ρ",
            better.size,
            (better & worse).sum(),
            EARLIER,
        ),
        Check.at_most(
            "MSE of the training from Chebyshev steps over the optimum", 1.01, surplus, EARLIER
        ),
        Check.at_least(
            "its ρ at the end over that at the start",
            1,
            trained[-1] / trained[0],
            THEORY,
            "it rises",
        ),
        Check.at_most(
            "largest radius of Chebyshev steps over sech(T arccosh((κ+1)/(κ−1)))",
            1,
            (found.radii["Chebyshev"] / bound).max(),
            THEORY,
        ),
    ]
    if period >= 5:
        claim = "errors ∝ (HᵀH)²: smallest n·MSE/ρ² over T"
        checks.append(Check.at_most(claim, 1, ratio, EARLIER, "the bound fails"))
    if not trained_in_full:
        return checks
    return [
        *checks,
        Check.at_least(
            "share of MSE-lowering mini-batches that raise ρ, smallest over trainings",
            0.01,
            shares.min(),
            EARLIER,
            "ρ does not always fall",
        ),
        Check.at_most("the same, largest", 0.25, shares.max(), EARLIER, "ρ falls mostly"),
        Check.at_least(
            "share of stages, over all trainings, from whose start to end ρ falls",
            0.97,
            (radii[:, :, -1] < radii[:, :, 0]).mean(),
            PAPER,
        ),
        Check.at_most(
            "largest radius of learned over constant steps, T from 2",
            1,
            (learned / constant)[:, 1:].max(),
            PAPER,
        ),
    ]
