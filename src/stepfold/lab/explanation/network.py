"""A trained network explained where no spectrum is known beforehand: what can be seen of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from stepfold.lab.explanation.learned import TAIL, last_drop
from stepfold.lab.figure import Axis, Curve, Figure
from stepfold.lab.outcome import Outcome, Section, Table
from stepfold.result import TrainingRun

if TYPE_CHECKING:
    from stepfold.unfolded.local import LocalSpectra

# Loss falling by less than this over the last tenth of a stage is called settled.
SETTLED = 0.01


def explain_network(
    run: TrainingRun,
    *,
    name: str = "the run",
    figures_of_merit: Mapping[str, float] | None = None,
    spectra: LocalSpectra | None = None,
) -> Outcome:
    """Learned steps and parameters, the loss over training, and local spectra if there are any.

    Args:
        run: A training of any iteration.
        name: What to call it.
        figures_of_merit: Measured on the finished network, by name.
        spectra: What each layer does near its iterate, from ``stepfold.unfolded.local_spectra``.
    """
    drop, is_noise = last_drop(run.history.losses[-1])
    skipped = int(np.sum(np.asarray(run.history.num_skipped)))
    return Outcome(
        name="explain-run",
        title=f"What {name} learned",
        summary=_advice(run, drop, is_noise),
        sections=[
            _values_section(run),
            *([_local_section(spectra)] if spectra is not None else []),
            _loss_section(run, drop, is_noise, skipped),
            *([_merit_section(figures_of_merit)] if figures_of_merit else []),
        ],
        parameters={"run": name, "num_steps": run.schedule.num_steps, "seed": run.seed},
        records={"schedules/learned": run.schedule.to_dict()},
    )


def _advice(run: TrainingRun, drop: float, is_noise: bool) -> str:
    if not run.finished:
        return "The training was stopped before its end; go on with --resume."
    if drop > SETTLED and not is_noise:
        return (
            f"Training has not converged: over the last {TAIL:.0%} of its last stage the loss "
            f"still fell by {drop:.1%}. Train longer, or with a larger learning rate that decays."
        )
    if drop < -SETTLED and not is_noise:
        return (
            f"Training went astray: over the last {TAIL:.0%} of its last stage the loss rose by "
            f"{-drop:.1%}. Lower the learning rate, or clip gradients."
        )
    return (
        "The loss had settled when training ended. For a network that is not linear nobody knows "
        "the optimum: compare several seeds, and starts from Chebyshev steps."
    )


def _values_section(run: TrainingRun) -> Section:
    layers = np.arange(1, run.schedule.num_steps + 1)
    curves = [Curve("step size", layers, run.schedule.steps, "both", emphasis=True)]
    for name, values in run.parameters.items():
        column = np.asarray(values, dtype=np.float64)
        if column.ndim == 1:  # matrices have no curve
            spread = column[np.arange(layers.size) % column.size]
            curves.append(Curve(name, layers, spread, "both"))
    smallest = min(float(np.nanmin(curve.y)) for curve in curves)
    return Section(
        "What was learned",
        (
            f"{', '.join(['Steps', *run.parameters])} by layer. A "
            "zig-zag of long and short steps is what Chebyshev steps do, in another order: long "
            "ones serve directions of little curvature, and short ones repair what they do to the "
            "rest.",
        ),
        figure=Figure(
            "learned_values",
            "Learned values by layer",
            "Step sizes and other learned numbers against the layer.",
            tuple(curves),
            Axis("layer"),
            Axis("value", log=smallest > 0),
        ),
    )


def _local_section(spectra: LocalSpectra) -> Section:
    layers = np.arange(1, spectra.steps.size + 1)
    values = spectra.eigenvalues
    held = np.abs(values - 1 / spectra.steps[:, None]) <= 1e-6 / spectra.steps[:, None]
    curvatures = np.where(held, np.nan, values)
    moving = ~np.isnan(curvatures).all(axis=1)
    lower, upper = np.full(layers.size, np.nan), np.full(layers.size, np.nan)
    lower[moving] = np.nanmin(curvatures[moving], axis=1)
    upper[moving] = np.nanmax(curvatures[moving], axis=1)
    rows = tuple(
        (
            str(layer),
            f"{spectra.steps[t]:.4g}",
            f"{lower[t]:.4g}",
            f"{upper[t]:.4g}",
            f"{held[t].mean():.0%}",
            f"{spectra.radii[t]:.4g}",
            f"{spectra.gains[t]:.4g}",
        )
        for t, layer in enumerate(layers.tolist())
    )
    return Section(
        "What each layer does near its iterate",
        (
            "Eigenvalues of (I − J)/γ, J the layer's Jacobian along one trajectory: the curvatures "
            "that the step meets. Where a penalty holds a coordinate still, its error is "
            "removed at once, and it has no curvature. A step is long if it exceeds 2 over the "
            "largest curvature: alone it would diverge; the layers around it make up for it.",
            f"All layers together multiply a small error at the start by at most "
            f"{float(spectra.gains[-1]):.3g}; the largest imaginary part of a curvature is "
            f"{float(spectra.largest_imaginary.max()):.2g}.",
        ),
        figure=Figure(
            "local_curvatures",
            "Curvatures along the trajectory, and the reciprocals of the steps",
            "Largest and smallest curvature by layer, beside 1 over the step size.",
            (
                Curve("1/γ", layers, 1 / spectra.steps, "both", emphasis=True),
                Curve("largest curvature", layers, upper, "both"),
                Curve("smallest curvature", layers, lower, "both"),
            ),
            Axis("layer"),
            Axis("curvature", log=bool(np.nanmin(lower) > 0) if moving.any() else True),
        ),
        table=Table(
            ("layer", "γ", "smallest", "largest", "held still", "radius of J", "gain so far"), rows
        ),
    )


def _loss_section(run: TrainingRun, drop: float, is_noise: bool, skipped: int) -> Section:
    losses = run.history.losses[np.isfinite(run.history.losses)]
    change = f"Over the last {TAIL:.0%} of the last stage the loss changed by {-drop:+.2%}" + (
        ", which its noise explains." if is_noise else ", more than its noise explains."
    )
    if skipped:
        change += f" {skipped} iterations were skipped, their gradients not being finite."
    return Section(
        "Over training",
        (change,),
        figure=Figure(
            "training",
            "Loss over training",
            "Loss of each mini-batch.",
            (Curve("loss", np.arange(1, losses.size + 1), losses, "line", emphasis=True),),
            Axis("mini-batch"),
            Axis("loss", log=bool(losses.size and losses.min() > 0)),
        ),
    )


def _merit_section(figures: Mapping[str, float]) -> Section:
    rows = tuple((label, f"{value:.6g}") for label, value in figures.items())
    return Section(
        "How good it is",
        ("Measured on the finished network, on data that training has not seen.",),
        table=Table(("figure of merit", "value"), rows),
    )
