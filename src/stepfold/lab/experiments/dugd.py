"""Deep-unfolded gradient descent: the experiment that the project starts from.

Takabe and Wadayama, Theoretical Interpretation of Learned Step Size in Deep-Unfolded Gradient
Descent (arXiv:2001.05142), Figure 1: what training finds, and what explains it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.experiments.base import EXPERIMENTS
from stepfold.lab.figure import Axis, Curve, Figure
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.measure import SpectralMeasure
from stepfold.polynomial import (
    marchenko_pastur_mean_squared_error,
    mean_squared_error,
    mean_squared_errors,
    residual_polynomial,
    spectral_radius,
)
from stepfold.result import TrainingRun
from stepfold.schedules import Schedule, chebyshev_steps, constant_steps, optimal_steps
from stepfold.schedules.ordering import outside_in_order
from stepfold.spectrum import Gram, SpectralBounds, exact_eigenvalues

DEPTHS = (2, 5, 8, 11, 15)
# Mean squared errors of learned, optimal, Chebyshev and constant steps at these depths, measured
# before this program existed.
EXPECTED_BY_DEPTH = {
    2: (0.1426, 0.1426, 0.2710, 0.1853),
    5: (1.648e-2, 1.617e-2, 4.955e-2, 6.02e-2),
    8: (2.51e-3, 1.90e-3, 5.87e-3, 2.69e-2),
}


@dataclass(frozen=True, eq=False)
class _Findings:
    """The four schedules on the spectrum they were made for."""

    measure: SpectralMeasure
    bounds: SpectralBounds
    run: TrainingRun
    constant: Schedule
    chebyshev: Schedule
    optimal: Schedule

    @property
    def learned(self) -> Schedule:
        return self.run.schedule

    @property
    def schedules(self) -> dict[str, Schedule]:
        return {
            "learned (DUGD)": self.learned,
            "Chebyshev": self.chebyshev,
            "optimal": self.optimal,
            "constant (GD)": self.constant,
        }

    def final_error(self, schedule: Schedule) -> float:
        return mean_squared_error(schedule, self.measure)


def published_matrix(seed: int = 12, num_unknowns: int = 300, num_rows: int = 600) -> FloatArray:
    """The published random H, of shape (rows, unknowns), entries of variance 1/unknowns."""
    # The published draw is this generator's; nothing else here uses it.
    legacy = np.random.RandomState(seed)
    shape = (num_unknowns, num_rows)
    matrix: FloatArray = legacy.normal(0, 1 / np.sqrt(num_unknowns), shape).T
    return matrix


@EXPERIMENTS.register("dugd")
def dugd(
    *,
    num_steps: int = 25,
    num_iterations: int = 500,
    batch_size: int = 200,
    seed: int = 0,
    progress: bool = False,
) -> Outcome:
    """Deep-unfolded gradient descent against constant, Chebyshev and optimal steps.

    Args:
        num_steps: T, the number of layers; the checks are for 25.
        num_iterations: Mini-batches per generation.
        batch_size: Problems in a mini-batch.
        seed: Seed of the training data; the matrix is the published one.
        progress: Whether to show a progress bar.
    """
    from stepfold.unfolded import SpectralLoss, UnfoldedIteration, train_incrementally

    measure = SpectralMeasure.from_eigenvalues(exact_eigenvalues(Gram(published_matrix())))
    run = train_incrementally(
        UnfoldedIteration(Schedule(np.full(num_steps, 0.3))),
        SpectralLoss(measure, batch_size=batch_size),
        num_iterations=num_iterations,
        seed=seed,
        progress=progress,
    )
    bounds = measure.bounds
    found = _Findings(
        measure,
        bounds,
        run,
        constant_steps(bounds, num_steps),
        chebyshev_steps(bounds, num_steps),
        optimal_steps(measure, num_steps),
    )
    gain = found.final_error(found.constant) / found.final_error(found.learned)
    surplus = found.final_error(found.learned) / found.final_error(found.optimal)
    return Outcome(
        name="dugd",
        title="What deep-unfolded gradient descent learns, and why",
        summary=(
            f"After {num_steps} iterations the learned steps are {gain:,.0f} times closer to the "
            "solution, in mean squared error, than the best constant step. Chebyshev steps, "
            "computed from two numbers, explain them; optimal steps, computed from the spectrum in "
            f"milliseconds and without training, are {surplus:.0f} times better still."
        ),
        sections=_story(found),
        checks=_checks(found),
        parameters={
            "unknowns": 300,
            "rows": 600,
            "matrix seed": 12,
            "num_steps": num_steps,
            "num_iterations": num_iterations,
            "batch_size": batch_size,
            "learning rate": 0.002,
            "initial step": 0.3,
            "seed": seed,
        },
        records={
            "schedules/learned": found.learned.to_dict(),
            "schedules/chebyshev": found.chebyshev.to_dict(),
            "schedules/optimal": found.optimal.to_dict(),
            "schedules/constant": found.constant.to_dict(),
            "training": run.to_dict(),
            "spectrum": measure.to_dict(),
        },
    )


def _story(found: _Findings) -> list[Section]:
    a, b = found.bounds.lower, found.bounds.upper
    kappa = found.bounds.condition_number
    num_steps = found.learned.num_steps
    peak = mean_squared_errors(found.learned, found.measure).max()
    return [
        Section(
            "The problem",
            (
                "Least squares with a random matrix H of 600 rows and 300 columns: find x from "
                f"y = Hx. The Hessian HᵀH has eigenvalues between {a:.4f} and {b:.4f}, a condition "
                f"number of {kappa:.2f}. Gradient descent, x ← x − γ Hᵀ(Hx − y), multiplies the "
                "error along the eigenvector of eigenvalue λ by 1 − γλ. One fixed step γ cannot "
                "suit large and small eigenvalues at once.",
                f"Deep unfolding gives each of {num_steps} iterations its own step and trains all "
                "of them by backpropagation through the iterations, one more iteration at a time, "
                "on random problems with known solutions.",
            ),
        ),
        Section(
            "Learned steps are faster",
            (
                "Mean squared error against the iteration. The learned steps first make the error "
                f"grow, up to {peak:.2g}, and then bring it down far below that of gradient "
                "descent with the best constant step: only the product of all factors counts, not "
                "what happens on the way. Chebyshev and optimal steps are taken here in an order "
                "that is safe in floating point.",
            ),
            figure=_error_figure(found),
        ),
        Section(
            "They look odd",
            (
                "The learned steps in the order of the layers zig-zag: large, small, large, small. "
                "Successive pairs of layers hold the largest and the smallest step, then the "
                "second largest and the second smallest, and so on inwards, until the late layers "
                "have had too little training to settle.",
            ),
            figure=_order_figure(found),
        ),
        Section(
            "Chebyshev steps explain them",
            (
                "The order does not matter for the result, so sort the steps. They fall on "
                "the Chebyshev steps, the reciprocals of the roots of a Chebyshev polynomial moved "
                "to the interval of the eigenvalues. These minimise the largest factor "
                "∏(1 − γₜλ) over the interval: the bound on the spectral radius that training "
                "lowers as well.",
                "The two largest steps are an exception. Training leaves them "
                f"{_shortfall(found.learned, found.chebyshev)} shorter than Chebyshev's, the "
                f"optimum only {_shortfall(found.optimal, found.chebyshev)}: they serve the few "
                "smallest eigenvalues, from which the loss has least to say, and training has not "
                "reached them yet.",
            ),
            figure=_sorted_figure(found),
        ),
        Section(
            "Training lowers the spectral radius too",
            (
                "The loss is a mean over eigenvalues of squared factors; the spectral radius ρ is "
                "the largest factor. Hence MSE ≤ ρ² ≤ n·MSE, and whoever lowers one lowers the "
                "other. The figure shows both at the end of every generation, and the smallest "
                "mean squared error that as many steps can have: training keeps to it for five "
                "generations and then falls behind.",
            ),
            figure=_training_figure(found),
        ),
        Section(
            "What each schedule does to each eigenvalue",
            (
                "The absolute value of the residual polynomial at the eigenvalues of H. Chebyshev "
                "steps make all peaks equally high; optimal steps give up a little at the sparse "
                "ends for lower peaks where most eigenvalues are. The learned polynomial is level "
                "over most of the spectrum, but leaves the few smallest and largest eigenvalues "
                "the most error: the training is not finished.",
            ),
            figure=_polynomial_figure(found),
        ),
        Section(
            "Other depths",
            (
                "The first g generations are a training of a network of g layers, so one run gives "
                "every depth. Mean squared errors after the last step:",
            ),
            table=_depth_table(found),
        ),
    ]


def _shortfall(schedule: Schedule, reference: Schedule) -> str:
    short = 1 - np.sort(schedule.steps)[-2:] / np.sort(reference.steps)[-2:]
    return f"{short.min():.0%} and {short.max():.0%}"


def _error_figure(found: _Findings) -> Figure:
    iterations = np.arange(found.learned.num_steps + 1)
    return Figure(
        "error_by_iteration",
        "Error of four schedules of equal length",
        "Mean squared error against iteration. Learned steps rise above ten thousand, then fall "
        "below a millionth; optimal steps end lowest, constant steps highest.",
        tuple(
            Curve(
                name,
                iterations,
                mean_squared_errors(schedule, found.measure),
                style="both",
                emphasis=schedule is found.learned,
            )
            for name, schedule in found.schedules.items()
        ),
        Axis("iteration"),
        Axis("mean squared error, relative to the start", log=True),
    )


def _order_figure(found: _Findings) -> Figure:
    layers = np.arange(1, found.learned.num_steps + 1)
    return Figure(
        "learned_steps",
        "Learned steps in the order of the layers",
        "Step size against layer. Large and small steps alternate, both moving towards the middle.",
        (
            Curve("learned", layers, found.learned.steps, style="both", emphasis=True),
            Curve("2/(a + b)", layers, found.constant.steps),
        ),
        Axis("layer"),
        Axis("step size γ", log=True),
    )


def _sorted_figure(found: _Findings) -> Figure:
    ranks = np.arange(1, found.learned.num_steps + 1)
    return Figure(
        "sorted_steps",
        "Steps in ascending order",
        "Sorted step sizes. Learned, Chebyshev and optimal steps nearly coincide except for the "
        "largest few, where Chebyshev steps are longest.",
        tuple(
            Curve(name, ranks, np.sort(schedule.steps), style="both", emphasis="learned" in name)
            for name, schedule in found.schedules.items()
            if schedule is not found.constant
        ),
        Axis("rank"),
        Axis("step size γ", log=True),
    )


def _training_figure(found: _Findings) -> Figure:
    history = found.run.history
    errors, radii = _recorded(history.mean_squared_errors), _recorded(history.spectral_radii)
    depths = np.arange(1, errors.size + 1)
    optimum = [found.final_error(optimal_steps(found.measure, int(depth))) for depth in depths]
    return Figure(
        "training",
        "Mean squared error and spectral radius over training",
        "Both the mean squared error and the squared spectral radius of the learned steps fall "
        "with every generation; the optimum falls faster from the sixth generation on.",
        (
            Curve("mean squared error", depths, errors, style="both", emphasis=True),
            Curve("spectral radius, squared", depths, radii**2, style="both", emphasis=True),
            Curve("smallest possible mean squared error", depths, np.array(optimum)),
        ),
        Axis("generation (number of trained layers)"),
        Axis("value at its end", log=True),
    )


def _polynomial_figure(found: _Findings) -> Figure:
    grid = np.geomspace(found.bounds.lower, found.bounds.upper, 1500)
    floor = 1e-4 * spectral_radius(found.chebyshev, found.measure.nodes)
    curves = [
        Curve(name, grid, np.abs(residual_polynomial(schedule, grid)), emphasis="learned" in name)
        for name, schedule in found.schedules.items()
    ]
    eigenvalues = found.measure.nodes
    marks = Curve(
        "eigenvalues of HᵀH", eigenvalues, np.full(eigenvalues.size, 1.5 * floor), "points"
    )
    return Figure(
        "residual_polynomials",
        "Factor by which each schedule multiplies the error",
        "Absolute residual polynomials over the eigenvalues. Chebyshev's peaks are level; those of "
        "optimal steps are lower in the middle; learned ones are highest at both ends.",
        (*curves, marks),
        Axis("eigenvalue λ", log=True),
        Axis("|∏ (1 − γₜ λ)|", log=True, floor=floor),
    )


def _depth_table(found: _Findings) -> Table:
    rows = []
    for depth in (*(d for d in DEPTHS if d <= found.learned.num_steps), found.learned.num_steps):
        errors = [found.final_error(schedule) for schedule in _at_depth(found, depth)]
        rows.append((str(depth), *(f"{error:.4g}" for error in errors)))
    return Table(("T", "learned", "optimal", "Chebyshev", "constant"), tuple(rows))


def _at_depth(found: _Findings, depth: int) -> tuple[Schedule, Schedule, Schedule, Schedule]:
    return (
        found.run.schedule_after(depth),
        optimal_steps(found.measure, depth),
        chebyshev_steps(found.bounds, depth),
        constant_steps(found.bounds, depth),
    )


def _checks(found: _Findings) -> list[Check]:
    bounds = found.bounds
    errors = {name: found.final_error(schedule) for name, schedule in found.schedules.items()}
    radii = {
        name: spectral_radius(schedule, found.measure.nodes)
        for name, schedule in found.schedules.items()
    }
    learned = errors["learned (DUGD)"]
    peak = float(mean_squared_errors(found.learned, found.measure).max())
    return [
        Check.close("condition number κ", 30.828752475, bounds.condition_number, rtol=1e-9),
        Check.close("largest eigenvalue", 5.678370598, bounds.upper, rtol=1e-9),
        Check.close("smallest eigenvalue", 0.184190736, bounds.lower, rtol=1e-8),
        Check.close("MSE of GD with step 2/(a + b)", 1.0482e-3, errors["constant (GD)"], rtol=1e-3),
        Check("MSE of trained DUGD", "3.9e-7 (2.5e-7 to 8e-7)", learned, 2.5e-7, 8e-7),
        Check.close("MSE of Chebyshev steps", 2.45e-8, errors["Chebyshev"], rtol=5e-3),
        Check.close("MSE of optimal steps", 8.61e-9, errors["optimal"], rtol=5e-3),
        Check(
            "MSE of DUGD over that of optimal steps",
            "45 (29 to 93)",
            learned / errors["optimal"],
            29,
            93,
        ),
        Check.close("spectral radius of DUGD", 7.6e-3, radii["learned (DUGD)"], rtol=0.15),
        Check.close("spectral radius of Chebyshev steps", 2.22e-4, radii["Chebyshev"], rtol=5e-3),
        Check.close("spectral radius of GD", 0.197, radii["constant (GD)"], rtol=5e-3),
        Check("largest MSE of DUGD on the way", "above 1e4", peak, lower=1e4),
        *_order_checks(found),
        *_shape_checks(found),
        *_training_checks(found),
        *_depth_checks(found),
    ]


def _order_checks(found: _Findings) -> list[Check]:
    depths = range(1, min(11, found.learned.num_steps) + 1)
    paired = sum(_pairs_are_outside_in(found.run.schedule_after(depth).steps) for depth in depths)
    return [
        Check(
            "depths T ≤ 11 whose pairs of layers hold the largest and smallest step left",
            "11",
            paired,
            lower=len(depths),
        )
    ]


def _pairs_are_outside_in(steps: FloatArray) -> bool:
    ascending = np.sort(steps)
    expected = ascending[outside_in_order(ascending)]
    return all(set(steps[k : k + 2]) == set(expected[k : k + 2]) for k in range(0, steps.size, 2))


def _shape_checks(found: _Findings) -> list[Check]:
    learned = np.sort(found.learned.steps)
    chebyshev = np.sort(found.chebyshev.steps)
    deviation = learned / chebyshev - 1
    correlation = float(np.corrcoef(np.log(learned), np.log(chebyshev))[0, 1])
    return [
        Check("log-log correlation, sorted learned and Chebyshev", "above 0.97", correlation, 0.97),
        Check(
            "their median relative deviation",
            "about 0.03",
            float(np.median(np.abs(deviation))),
            upper=0.04,
        ),
        Check(
            "largest learned step against Chebyshev's", "−0.47 to −0.35", deviation[-1], -0.5, -0.3
        ),
        Check("second largest", "−0.47 to −0.35", deviation[-2], -0.5, -0.3),
    ]


def _training_checks(found: _Findings) -> list[Check]:
    history = found.run.history
    errors, radii = _recorded(history.mean_squared_errors), _recorded(history.spectral_radii)
    theory = [marchenko_pastur_mean_squared_error(0.5, t) for t in range(1, 6)]
    lag = float(np.max(np.abs(errors[:5] / theory[: errors.size] - 1)))
    num_unknowns = found.measure.nodes.size
    return [
        Check("largest gap to (1−c)cᵗ/(1−cᵗ⁺¹), c = ½, t ≤ 5", "within 0.05", lag, upper=0.05),
        Check(
            "largest ratio of successive spectral radii over training",
            "below 1: it falls with the MSE",
            float(np.max(radii[1:] / radii[:-1])),
            upper=1,
        ),
        Check("largest MSE/ρ² over training", "at most 1", float((errors / radii**2).max()), 0, 1),
        Check(
            "largest ρ²/(n·MSE) over training",
            "at most 1",
            float((radii**2 / (num_unknowns * errors)).max()),
            0,
            1,
        ),
    ]


def _depth_checks(found: _Findings) -> list[Check]:
    names = ("learned", "optimal", "Chebyshev", "constant")
    return [
        Check.close(
            f"MSE of {name} steps at T = {depth}",
            expected,
            found.final_error(schedule),
            # Learned steps depend on the draw of the training data.
            rtol=0.02 if name == "learned" else 4e-3,
        )
        for depth, row in EXPECTED_BY_DEPTH.items()
        if depth <= found.learned.num_steps
        for name, expected, schedule in zip(names, row, _at_depth(found, depth), strict=True)
    ]


def _recorded(values: Any) -> FloatArray:
    assert values is not None, "the spectral loss knows its measure"  # noqa: S101
    recorded: FloatArray = values
    return recorded
