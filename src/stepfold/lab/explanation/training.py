"""A training explained: what was learned, how far it is from the optimum, and what to do."""

from __future__ import annotations

import math

import numpy as np

from stepfold._checks import check_nonnegative
from stepfold._typing import FloatArray
from stepfold.lab.curves import curves
from stepfold.lab.explanation.advice import smallest, summary
from stepfold.lab.explanation.learned import Learned
from stepfold.lab.explanation.network import drop_sentence, explain_network, loss_section
from stepfold.lab.figure import Axis, Curve, Figure
from stepfold.lab.outcome import Outcome, Section, Table
from stepfold.measure import SpectralMeasure
from stepfold.polynomial import residual_polynomial
from stepfold.result import TrainingRun
from stepfold.schedules import Schedule

# Growth of rounding errors in the learned order from which another order is advised.
UNSAFE = 1e3
# A step below this share of 1/λ_max does nothing.
IDLE = 1e-9
# A curve that multiplies an error by more than this leaves its figure.
CEILING = 100.0
# Relative difference from the error that training recorded that is more than rounding.
SAME = 1e-6


def explain_run(
    run: TrainingRun,
    measure: SpectralMeasure | None = None,
    *,
    name: str = "the run",
    noise: float = 0.0,
) -> Outcome:
    """Learned steps beside Chebyshev's and the best ones, and what training has missed.

    Args:
        run: A training, by `train_incrementally`, `train_exactly` or any other.
        measure: How the first error is spread over the eigenvalues, such as `Loss.measure`, if
            layers descend gradients and it is known. Without it what can be seen of any network is
            shown; ``network.explain(data, x0)`` shows what its layers do, too.
        name: What to call it.
        noise: η of the data, such as `SpectralLoss.noise`: errors are then those of
            `noisy_mean_squared_error`, and the best steps `noise_aware_steps`.

    Returns:
        Sections with figures and tables; the summary ends with advice. Steps that repeat after p
        layers are also compared with the best that do. Where there is no optimum to compare with
        (other parameters were trained, too, or there are more steps than distinct eigenvalues) it
        says so, and shows what can be seen of any network.

    Raises:
        TypeError: If ``run`` is no `TrainingRun`, or ``measure`` no `SpectralMeasure`.
        ValueError: If ``noise`` is negative or not finite.

    >>> from stepfold import Schedule, SpectralMeasure
    >>> from stepfold.unfolded import SpectralLoss, UnfoldedIteration, train_incrementally
    >>> measure = SpectralMeasure.from_eigenvalues([1.0, 2.0, 3.0])
    >>> network = UnfoldedIteration(Schedule([0.3]))
    >>> run = train_incrementally(network, SpectralLoss(measure), num_iterations=300)
    >>> "found the optimum" in explain_run(run, measure).summary
    True
    """
    if not isinstance(run, TrainingRun):
        raise TypeError(
            f"`run` must be a TrainingRun, got {type(run).__name__}; what `train` returns is one, "
            "and a network is explained by `network.explain(data, x0)`"
        )
    if measure is not None and not isinstance(measure, SpectralMeasure):
        raise TypeError(
            f"`measure` must be a SpectralMeasure or None, got {type(measure).__name__}; make one "
            "by `SpectralMeasure.from_eigenvalues(...)`"
        )
    noise = float(check_nonnegative("noise", noise))
    if measure is None:
        return explain_network(run, name=name)
    learned = Learned(run, measure, name, noise)
    if (reason := _without_optimum(learned)) is not None:
        return explain_network(run, name=name, remark=reason)
    return Outcome(
        name="explain-run",
        title=f"What {name} learned",
        summary=summary(learned),
        sections=[
            _distance_section(learned),
            _steps_section(learned),
            _order_section(learned),
            _polynomial_section(learned),
            _training_section(learned),
        ],
        parameters={
            "run": name,
            "num_layers": run.schedule.period,
            "seed": run.seed,
            "noise": noise,
        },
        records={
            "distances": {
                "verdict": learned.verdict.name,
                "period": learned.period,
                "gap": learned.gap(learned.best),
                "gap_within_period": learned.gap(learned.aim),
                "equivalent_steps": learned.equivalent_steps,
                "mean_squared_errors": learned.errors,
                "spectral_radii": learned.radii,
                "slopes": learned.slopes,
            },
            **{
                f"schedules/{label.lower().replace(' ', '-')}": schedule
                for label, schedule in learned.schedules.items()
            },
        },
    )


def _without_optimum(learned: Learned) -> str | None:
    """Why there is nothing to compare a run with; None if there is."""
    run, measure = learned.run, learned.measure
    if run.parameters:
        return (
            f"Training has learned {', '.join(run.parameters)} beside the steps, so that the "
            "optimum of gradient steps alone is not what to compare it with: compare several "
            "seeds, and starts from Chebyshev steps."
        )
    count = run.schedule.period
    distinct = measure.gauss_nodes_of_weighted(count).size
    if distinct < count:
        return (
            f"The spectrum has {distinct} distinct eigenvalue{'s' if distinct > 1 else ''} above "
            f"0, and as many steps reach the smallest error already: {count} have no optimum to "
            f"compare them with. Take {distinct}, which `optimal_steps` computes."
        )
    if learned.is_lost:
        return (
            f"The best {count} steps for this spectrum need more than the 16 digits that numbers "
            "have, so that there is nothing to compare them with. Take a shorter period."
        )
    return None


def _distance_section(learned: Learned) -> Section:
    rows = tuple(
        (
            label,
            f"{error:.4g}",
            _multiple(error, learned),
            f"{learned.radii[label]:.4g}",
        )
        for label, error in sorted(learned.errors.items(), key=lambda item: item[1])
    )
    noise = (
        f"The data are noisy, η = {learned.noise:.4g}: what the steps fit of the noise counts, too."
    )
    return Section(
        "How far it is from the optimum",
        (
            "Mean squared error after all steps, relative to the start; how many times "
            f"{smallest(learned)} that is; and the largest factor by which an eigenvector's share "
            "of the error at the start is multiplied.",
            *([noise] if learned.noise else []),
            *_disagreement(learned),
            f"{_slope(learned)}{drop_sentence(learned.run)}",
        ),
        table=Table(("steps", "error", "over the best", "spectral radius"), rows),
    )


def _slope(learned: Learned) -> str:
    slope = float(np.abs(learned.slopes).max())
    if learned.is_negligible(learned.errors["learned"]) or not math.isfinite(slope):
        return ""  # it is that of rounding, or there is none
    what = "step" if learned.aim == learned.best else "of the values that layers share"
    return (
        f"A change of one {what} by 1 % still changes the error by up to {slope:.2g} %; at the "
        "optimum by nothing. "
    )


def _multiple(error: float, learned: Learned) -> str:
    best = learned.errors[learned.best]
    return "—" if learned.is_negligible(best) else f"{error / best:.4g}"


def _disagreement(learned: Learned) -> list[str]:
    """A sentence if the error that training recorded is not that of this spectrum and noise."""
    recorded = learned.run.history.mean_squared_errors
    depths = learned.run.history.num_layers
    if recorded is None or depths is None or depths[-1] < learned.run.schedule.period:
        return []
    last, error = float(recorded[-1]), learned.errors["learned"]
    if abs(last - error) <= SAME * max(last, error):
        return []
    return [
        f"Training recorded an error of {last:.4g} at its end, here the same steps have "
        f"{error:.4g}: it met another spectrum, or other noise (`noise=`), than they are judged by."
    ]


def _awake(learned: Learned, schedule: Schedule) -> FloatArray:
    """Sorted steps; NaN for those so short that they do nothing."""
    steps = np.sort(schedule.steps)
    return np.where(steps * learned.measure.nodes[-1] > IDLE, steps, np.nan)


def _steps_section(learned: Learned) -> Section:
    ranks = np.arange(1, learned.run.schedule.period + 1)
    rows = {
        label: _awake(learned, schedule)
        for label, schedule in learned.schedules.items()
        if label != "constant"
    }
    sentences = []
    for label in ("Chebyshev", learned.best):
        if label in learned.schedules:
            idle = int(np.isnan(_awake(learned, learned.schedules[label])).sum())
            if idle:
                sentences.append(f"Of the {label} steps {idle} do nothing: fewer are enough.")
                continue
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
            curves(rows, ranks, style="both", emphasis=("learned",)),
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
    if learned.aim != learned.best:
        order = "The steps repeat, so that their order is that of the period. "
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
    # A radius of 0, up to rounding, would leave the others no room.
    radii = [
        learned.radii[label]
        for label, error in learned.errors.items()
        if not learned.is_negligible(error)
    ]
    floor = 1e-3 * max(min(radii, default=1.0), 1e-12)
    return Section(
        "What they do to each eigenvalue",
        (
            (
                "With noise the residual polynomial should not vanish: where eigenvalues are "
                "small, what is fitted of the noise weighs more than what is left of the error."
                if learned.noise
                else "Training weighs each eigenvalue by the share of the error that it holds."
            ),
        ),
        figure=Figure(
            "residual_polynomials",
            "Factor by which each schedule multiplies the error",
            "Absolute residual polynomials over the spectrum.",
            curves(
                {
                    label: np.abs(residual_polynomial(schedule, grid))
                    for label, schedule in learned.schedules.items()
                },
                grid,
                emphasis=("learned",),
            ),
            Axis("eigenvalue λ", log=is_positive),
            Axis("|∏ (1 − γₜ λ)|", log=True, floor=floor, ceiling=CEILING),
        ),
        caption="The residual polynomial ∏(1 − γₜλ), in absolute value."
        + (
            ""
            if learned.noise
            else " Where the learned one stands above the optimal one, training has not yet paid "
            "attention."
        ),
    )


def _training_section(learned: Learned) -> Section:
    history = learned.run.history
    errors, radii = history.mean_squared_errors, history.spectral_radii
    if errors is None or radii is None or errors.size < 2:
        if radii is None or not learned.run.finished or learned.run.schedule.period == 1:
            return loss_section(learned.run)
        return loss_section(
            learned.run,
            "All layers were trained together, so that one spectral radius is known, "
            f"{float(radii[-1]):.4g} at the end; `train_incrementally`, or the strategy "
            '"incremental", records one for each depth.',
        )
    stages = np.arange(1, errors.size + 1)
    depths = np.asarray(history.num_layers)
    ratio = float((radii[1:] / radii[:-1]).max())
    return Section(
        "Over training",
        (
            (
                ""
                if learned.noise
                else "Where all eigenvalues count alike, MSE ≤ ρ² ≤ n·MSE: a smaller MSE lowers a "
                "bound on ρ, not always ρ itself. "
            )
            + (
                "The spectral radius ρ fell at every stage."
                if ratio < 1
                else "The spectral radius ρ did not fall at every stage."
            ),
        ),
        figure=Figure(
            "training",
            "Mean squared error and spectral radius over training",
            "Mean squared error, squared spectral radius and the smallest possible error by stage.",
            (
                Curve("mean squared error", stages, errors, "both", emphasis=True, role="learned"),
                Curve("spectral radius, squared", stages, radii**2, "both"),
                Curve("smallest possible error", stages, learned.least_errors[depths - 1]),
            ),
            Axis("stage"),
            Axis("value at its end", log=True),
        ),
        caption="Mean squared error and squared spectral radius at the end of each stage.",
    )
