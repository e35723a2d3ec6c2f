"""The report's sections: plain words and figures."""

from __future__ import annotations

import numpy as np

from stepfold.lab.experiments.dugd.findings import Findings
from stepfold.lab.figure import Axis, Curve, Figure
from stepfold.lab.outcome import Section, Table
from stepfold.polynomial import mean_squared_error_path, residual_polynomial, spectral_radius
from stepfold.schedules import Schedule, optimal_steps

DEPTHS = (2, 5, 8, 11, 15)


def story(found: Findings) -> list[Section]:
    """Sections of the report, in order."""
    a, b = found.bounds.lower, found.bounds.upper
    kappa = found.bounds.condition_number
    period = found.learned.period
    peak = mean_squared_error_path(found.learned, found.measure).max()
    return [
        Section(
            "The problem",
            (
                "Least squares with a random matrix H of 600 rows and 300 columns: find x from "
                f"y = Hx. The Hessian HᵀH has eigenvalues between {a:.4f} and {b:.4f}, a condition "
                f"number of {kappa:.2f}. Gradient descent, x ← x − γ Hᵀ(Hx − y), multiplies the "
                "error along the eigenvector of eigenvalue λ by 1 − γλ. One fixed step γ cannot "
                "suit large and small eigenvalues at once.",
                f"Deep unfolding gives each of {period} iterations its own step and trains all "
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
                "other. The figure shows both at the end of every stage, and the smallest "
                "mean squared error that as many steps can have: training keeps to it for five "
                "stages and then falls behind.",
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
                "The first g stages are a training of a network of g layers, so one run gives "
                "every depth. Mean squared errors after the last step:",
            ),
            table=_depth_table(found),
        ),
    ]


def _shortfall(schedule: Schedule, reference: Schedule) -> str:
    short = 1 - np.sort(schedule.steps)[-2:] / np.sort(reference.steps)[-2:]
    return f"{short.min():.0%} and {short.max():.0%}"


def _error_figure(found: Findings) -> Figure:
    iterations = np.arange(found.learned.period + 1)
    return Figure(
        "error_by_iteration",
        "Error of four schedules of equal length",
        "Mean squared error against iteration. Learned steps rise above ten thousand, then fall "
        "below a millionth; optimal steps end lowest, constant steps highest.",
        tuple(
            Curve(
                name,
                iterations,
                mean_squared_error_path(schedule, found.measure),
                style="both",
                emphasis=schedule is found.learned,
            )
            for name, schedule in found.schedules.items()
        ),
        Axis("iteration"),
        Axis("mean squared error, relative to the start", log=True),
    )


def _order_figure(found: Findings) -> Figure:
    layers = np.arange(1, found.learned.period + 1)
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


def _sorted_figure(found: Findings) -> Figure:
    ranks = np.arange(1, found.learned.period + 1)
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


def _training_figure(found: Findings) -> Figure:
    errors, radii = found.training_errors, found.training_radii
    depths = np.arange(1, errors.size + 1)
    optimum = [found.final_error(optimal_steps(found.measure, int(depth))) for depth in depths]
    return Figure(
        "training",
        "Mean squared error and spectral radius over training",
        "Both the mean squared error and the squared spectral radius of the learned steps fall "
        "with every stage; the optimum falls faster from the sixth stage on.",
        (
            Curve("mean squared error", depths, errors, style="both", emphasis=True),
            Curve("spectral radius, squared", depths, radii**2, style="both", emphasis=True),
            Curve("smallest possible mean squared error", depths, np.array(optimum)),
        ),
        Axis("stage (number of trained layers)"),
        Axis("value at its end", log=True),
    )


def _polynomial_figure(found: Findings) -> Figure:
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


def _depth_table(found: Findings) -> Table:
    rows = []
    for depth in (*(d for d in DEPTHS if d <= found.learned.period), found.learned.period):
        errors = [found.final_error(schedule) for schedule in found.at_depth(depth)]
        rows.append((str(depth), *(f"{error:.4g}" for error in errors)))
    return Table(("T", "learned", "optimal", "Chebyshev", "constant"), tuple(rows))
