"""A training explained: what was learned, how far it is from the optimum, and what to do."""

from __future__ import annotations

import math

import numpy as np

from stepfold.lab.explanation.learned import TAIL, Learned, last_drop
from stepfold.lab.figure import Axis, Curve, Figure
from stepfold.lab.outcome import Outcome, Section, Table
from stepfold.measure import SpectralMeasure
from stepfold.polynomial import residual_polynomial
from stepfold.result import TrainingRun

# Growth of rounding errors in the learned order from which another order is advised.
UNSAFE = 1e3


def explain_run(run: TrainingRun, measure: SpectralMeasure, *, name: str = "the run") -> Outcome:
    """Learned steps beside Chebyshev's and the optimal ones, and what training has missed.

    Args:
        run: A training of gradient descent, by `train_incrementally`, `train_exactly` or any other.
        measure: How the first error is spread over the eigenvalues, such as `Loss.measure`.
        name: What to call it.

    Returns:
        Sections with figures and tables; the summary ends with advice.

    Raises:
        ValueError: If the measure has fewer distinct nodes above 0 than there are steps.

    >>> from stepfold import Schedule, SpectralMeasure
    >>> from stepfold.unfolded import SpectralLoss, UnfoldedIteration, train_incrementally
    >>> measure = SpectralMeasure.from_eigenvalues([1.0, 2.0, 3.0])
    >>> network = UnfoldedIteration(Schedule([0.3]))
    >>> run = train_incrementally(network, SpectralLoss(measure), num_iterations=300)
    >>> "found the optimum" in explain_run(run, measure).summary
    True
    """
    learned = Learned(run, measure, name)
    return Outcome(
        name="explain-run",
        title=f"What {name} learned",
        summary=_summary(learned),
        sections=[
            _distance_section(learned),
            _steps_section(learned),
            _order_section(learned),
            _polynomial_section(learned),
            _training_section(learned),
        ],
        parameters={"run": name, "num_steps": run.schedule.num_steps, "seed": run.seed},
        records={
            "distances": {
                "verdict": learned.verdict.name,
                "gap": learned.gap,
                "equivalent_steps": learned.equivalent_steps,
                "mean_squared_errors": learned.errors,
                "spectral_radii": learned.radii,
                "slopes": learned.slopes.tolist(),
            },
            **{
                f"schedules/{label.lower()}": schedule.to_dict()
                for label, schedule in learned.schedules.items()
            },
        },
    )


def _summary(learned: Learned) -> str:
    count = learned.run.schedule.num_steps
    text = (
        f"{count} learned steps leave a mean squared error of {learned.errors['learned']:.4g}, "
        f"relative to the start: {learned.gap:.4g} times the smallest possible one"
    )
    if learned.equivalent_steps < count:
        text += f"; {learned.equivalent_steps} optimal steps do as well"
    return f"{text}. {learned.verdict.value}"


def _distance_section(learned: Learned) -> Section:
    rows = tuple(
        (
            label,
            f"{error:.4g}",
            f"{error / learned.errors['optimal']:.4g}",
            f"{learned.radii[label]:.4g}",
        )
        for label, error in sorted(learned.errors.items(), key=lambda item: item[1])
    )
    drop, is_noise = last_drop(learned.run.history.losses[-1])
    return Section(
        "How far it is from the optimum",
        (
            "Mean squared error after all steps, relative to the start; how many times that is the "
            "smallest possible; and the largest factor by which an eigenvector's share of the "
            "error is multiplied.",
            f"A change of one step by 1 % still changes the error by up to "
            f"{float(np.abs(learned.slopes).max()):.2g} %; at the optimum by nothing. Over the "
            f"last {TAIL:.0%} of the last stage the loss fell by {drop:.2%}"
            + (", which its noise explains." if is_noise else ", more than its noise explains."),
        ),
        table=Table(("steps", "error", "over the optimum", "spectral radius"), rows),
    )


def _steps_section(learned: Learned) -> Section:
    ranks = np.arange(1, learned.run.schedule.num_steps + 1)
    curves = [
        Curve(label, ranks, np.sort(schedule.steps), "both", emphasis=label == "learned")
        for label, schedule in learned.schedules.items()
        if label != "constant"
    ]
    sentences = []
    for label in ("Chebyshev", "optimal"):
        if label in learned.schedules:
            deviation = learned.deviation(label)
            sentence = (
                f"Beside the {label} steps the median deviation is "
                f"{float(np.median(np.abs(deviation))):.2%}, that of the largest step "
                f"{deviation[-1]:+.1%}"
            )
            correlation = learned.correlation(label)
            if math.isfinite(correlation):
                sentence += f", the correlation of the logarithms {correlation:.4f}"
            sentences.append(sentence + ".")
    return Section(
        "The steps, sorted",
        (
            "Only the product of all factors 1 − γₜλ counts, so the order does not matter for the "
            "result in exact arithmetic.",
            " ".join(sentences),
        ),
        figure=Figure(
            "sorted_steps",
            "Steps in ascending order",
            "Sorted step sizes: learned ones beside Chebyshev and optimal ones.",
            tuple(curves),
            Axis("rank"),
            Axis("step size γ", log=True),
        ),
    )


def _order_section(learned: Learned) -> Section:
    steps = learned.run.schedule.steps
    layers = np.arange(1, steps.size + 1)
    heads, tails = learned.amplification
    paired = learned.outside_in_pairs
    order = (
        f"Pairs of layers are outside-in down to layer {paired}: the first two hold the largest "
        "and the smallest step, the next two the largest and smallest left, and so on. "
        if paired > 1
        else "Pairs of layers do not hold the largest and the smallest step left. "
    )
    if max(heads, tails) >= UNSAFE:
        advice = (
            f"That costs {math.log10(max(heads, tails)):.1f} digits: take "
            "`run.schedule.reordered('leja')`, which has the same result with less rounding."
        )
    else:
        advice = "Neither costs more than three digits: the order can be kept."
    return Section(
        "The order of the layers",
        (
            f"{order}On the way an error may grow {heads:.3g}-fold, and a rounding error made on "
            f"the way {tails:.3g}-fold. {advice}",
        ),
        figure=Figure(
            "learned_steps",
            "Learned steps in the order of the layers",
            "Step size against layer.",
            (Curve("learned", layers, steps, "both", emphasis=True),),
            Axis("layer"),
            Axis("step size γ", log=True),
        ),
    )


def _polynomial_section(learned: Learned) -> Section:
    bounds = learned.measure.bounds
    is_positive = bounds.lower > 0
    space = np.geomspace if is_positive else np.linspace
    grid = space(bounds.lower, bounds.upper, 1000)
    floor = 1e-3 * max(min(learned.radii.values()), 1e-12)
    return Section(
        "What they do to each eigenvalue",
        (
            "The residual polynomial ∏(1 − γₜλ), in absolute value. Where the learned one stands "
            "above the optimal one, training has not yet paid attention.",
        ),
        figure=Figure(
            "residual_polynomials",
            "Factor by which each schedule multiplies the error",
            "Absolute residual polynomials over the spectrum.",
            tuple(
                Curve(
                    label,
                    grid,
                    np.abs(residual_polynomial(schedule, grid)),
                    emphasis=label == "learned",
                )
                for label, schedule in learned.schedules.items()
            ),
            Axis("eigenvalue λ", log=is_positive),
            Axis("|∏ (1 − γₜ λ)|", log=True, floor=floor),
        ),
    )


def _training_section(learned: Learned) -> Section:
    history = learned.run.history
    errors, radii = history.mean_squared_errors, history.spectral_radii
    if errors is None or radii is None or errors.size < 2:
        losses = history.losses[np.isfinite(history.losses)]
        return Section(
            "Over training",
            ("The loss of each mini-batch, as it was recorded.",),
            figure=Figure(
                "training",
                "Loss over training",
                "Loss against the mini-batch.",
                (Curve("loss", np.arange(1, losses.size + 1), losses, "both", emphasis=True),),
                Axis("mini-batch"),
                Axis("loss", log=bool(losses.min() > 0)),
            ),
        )
    stages = np.arange(1, errors.size + 1)
    depths = np.asarray(history.num_layers)
    ratio = float((radii[1:] / radii[:-1]).max())
    return Section(
        "Over training",
        (
            "Mean squared error and squared spectral radius at the end of each stage: the one "
            "bounds the other, MSE ≤ ρ² ≤ n·MSE, where all eigenvalues count alike. "
            + (
                "The radius fell at every stage."
                if ratio < 1
                else "The radius did not fall at every stage."
            ),
        ),
        figure=Figure(
            "training",
            "Mean squared error and spectral radius over training",
            "Mean squared error, squared spectral radius and the smallest possible error by stage.",
            (
                Curve("mean squared error", stages, errors, "both", emphasis=True),
                Curve("spectral radius, squared", stages, radii**2, "both"),
                Curve("smallest possible error", stages, learned.best_errors[depths - 1]),
            ),
            Axis("stage"),
            Axis("value at its end", log=True),
        ),
    )
