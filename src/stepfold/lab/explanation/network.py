"""A trained network explained where no spectrum is known beforehand: what can be seen of it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.explanation.learned import TAIL, last_drop
from stepfold.lab.explanation.seen import (
    Seen,
    left_of,
    remedies,
    remedies_section,
    theory_section,
    trajectory_sentence,
)
from stepfold.lab.figure import Axis, Curve, Figure
from stepfold.lab.outcome import Outcome, Section, Table
from stepfold.result import TrainingRun

if TYPE_CHECKING:
    from stepfold.unfolded.local import LocalSpectra

# Loss falling by less than this over the last tenth of a stage is called settled.
SETTLED = 0.01
UNKNOWN = (
    "The optimum of such a network is not known: compare several seeds, and starts from Chebyshev "
    "steps."
)

ESTIMATED = (
    "There are too many unknowns for dense Jacobians. Smallest and largest eigenvalues are Ritz "
    "values, which approach the ends of the spectrum from inside, and radii and gains are from "
    "below."
)


class LayerKind(enum.Enum):
    """What layers do to an iterate; the value says what ``(I − J)/γ`` then is."""

    GRADIENT = (
        "They are the curvatures that the step meets. Where a penalty holds a coordinate still, "
        "its error is removed at once, and it has no curvature. A step is long if it exceeds 2 "
        "over the largest curvature: alone it would diverge; the layers around it make up for it."
    )
    RELAXATION = (
        "They are 1 less the eigenvalues of the Jacobian of the map whose fixed point is sought, "
        "and γ is the relaxation factor."
    )
    MEMORY = (
        "The layers hand on the iterate and what they remember, as momentum does, and J is the "
        "Jacobian of all that: its eigenvalues are no curvatures of the problem. A small error's "
        "share is multiplied by 1 less γ times the eigenvalue, which may be complex."
    )
    CURVED = (
        "They are real, and none is negative, as curvatures are: a small error's share is "
        "multiplied by 1 less γ times the eigenvalue. It goes at once at 1/γ, as where a penalty "
        "holds a coordinate still, and grows beyond 2/γ, which the layers around make up for."
    )
    ANY = (
        "Such a layer does more than a gradient step, so that they are no curvatures of the "
        "problem. A small error's share is multiplied by 1 less γ times the eigenvalue: it stays "
        "as it is at 0, goes at once at 1/γ, and grows below 0 or beyond 2/γ."
    )


def explain_network(
    run: TrainingRun | None,
    *,
    name: str = "the run",
    steps: FloatArray | None = None,
    parameters: Mapping[str, Any] | None = None,
    figures_of_merit: Mapping[str, float] | None = None,
    spectra: LocalSpectra | str = "",
    kind: LayerKind = LayerKind.ANY,
    sample: str = "one problem",
    remark: str = "",
) -> Outcome:
    """Learned steps and parameters, the loss over training, and local spectra if there are any.

    Args:
        run: A training of any iteration; None if there is only a network.
        name: What to call it.
        steps: Step of each layer; the run's if not given.
        parameters: Other values by name, of shape (copies, …); the run's if not given.
        figures_of_merit: Measured on the finished network, by name.
        spectra: What each layer does near its iterate, from ``stepfold.unfolded.local_spectra``,
            or why that cannot be told; nothing is said of it if empty.
        kind: What layers do.
        sample: What the trajectory is that of.
        remark: Why a known optimum is not what to compare it with, if one is known.
    """
    if run is not None:
        steps = run.schedule.steps if steps is None else steps
        parameters = run.parameters if parameters is None else parameters
    assert steps is not None  # noqa: S101
    parameters = parameters or {}
    found = remedies(spectra or None, steps, parameters)
    if spectra and not isinstance(spectra, str):
        remark = f"{remark} {trajectory_sentence(Seen(spectra))}".lstrip()
    sections = [_values_section(steps, parameters)]
    if spectra:
        sections.append(_local_section(spectra, kind, sample))
        if not isinstance(spectra, str):
            sections.append(theory_section(Seen(spectra)))
    if run is not None:
        sections.append(loss_section(run, drop_sentence(run)))
    if figures_of_merit:
        sections.append(_merit_section(figures_of_merit))
    sections.append(remedies_section(found))
    shown: dict[str, Any] = {"run": name, "num_layers": int(steps.size)}
    records: dict[str, Any] = {}
    if run is not None:
        shown["seed"] = run.seed
        records["schedules/learned"] = run.schedule
    return Outcome(
        name="explain-run",
        title=f"What {name} learned",
        summary=_summary(run, remark, found),
        sections=sections,
        parameters=shown,
        records=records,
    )


def _summary(run: TrainingRun | None, remark: str, found: list[str]) -> str:
    if run is not None and not run.finished:
        return _advice(run)
    advice = "" if run is None else _advice(run)
    sentences = [remark, advice, found[0] if found else "", "" if remark or found else UNKNOWN]
    return " ".join(each for each in sentences if each)


def _advice(run: TrainingRun) -> str:
    if not run.finished:
        return (
            "The training was stopped before its end; go on with it by --resume, or `resume=True` "
            "in Python, before judging it."
        )
    drop, is_noise = last_drop(run.history.losses[-1])
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
    if abs(drop) > SETTLED:
        return (
            "Whether the loss still fell when training ended cannot be told from its noise; larger "
            "batches, or more iterations in the last stage, would tell."
        )
    return "The loss had settled when training ended."


def _values_section(steps: FloatArray, parameters: Mapping[str, Any]) -> Section:
    layers = np.arange(1, steps.size + 1)
    curves = [Curve("step size", layers, steps, "both", emphasis=True, role="learned")]
    without: list[str] = []
    for name, values in parameters.items():
        column = np.asarray(values, dtype=np.float64)
        if column.ndim > 1:
            without.append(name)  # several numbers for each layer have no curve
        else:
            spread = column[np.arange(layers.size) % column.size]
            curves.append(Curve(name, layers, spread, "both", role="learned"))
    smallest = min(float(np.nanmin(curve.y)) for curve in curves)
    return Section(
        "What was learned",
        (
            "A zig-zag of long and short steps is what Chebyshev steps do, in another order: long "
            "ones serve directions of little curvature, and short ones repair what they do to the "
            "rest.",
            *(
                [f"Of {', '.join(without)} each layer has several numbers, not shown here."]
                if without
                else []
            ),
        ),
        figure=Figure(
            "learned_values",
            "Learned values by layer",
            "Step sizes and other learned numbers against the layer.",
            tuple(curves),
            Axis("layer"),
            Axis("value", log=smallest > 0),
        ),
        caption=f"{', '.join(['Steps', *(curve.label for curve in curves[1:])])} by layer.",
    )


def _local_section(spectra: LocalSpectra | str, kind: LayerKind, sample: str) -> Section:
    heading = "What each layer does near its iterate"
    if isinstance(spectra, str):
        return Section(heading, (f"That cannot be shown: {spectra}.",))
    layers = np.arange(1, spectra.steps.size + 1)
    left = left_of(spectra)
    gone = np.isnan(left) & ~np.isnan(spectra.eigenvalues)
    moving = ~np.isnan(left).all(axis=1)
    lower, upper = np.full(layers.size, np.nan), np.full(layers.size, np.nan)
    lower[moving] = np.nanmin(left[moving], axis=1)
    upper[moving] = np.nanmax(left[moving], axis=1)
    is_curved = kind in (LayerKind.GRADIENT, LayerKind.CURVED)
    noun = "curvature" if is_curved else "eigenvalue"
    rows = tuple(
        (
            str(layer),
            f"{spectra.steps[t]:.4g}",
            f"{lower[t]:.4g}",
            f"{upper[t]:.4g}",
            f"{gone[t].mean():.0%}",
            f"{spectra.radii[t]:.4g}",
            f"{spectra.gains[t]:.4g}",
        )
        for t, layer in enumerate(layers.tolist())
    )
    return Section(
        heading,
        (
            f"Eigenvalues of (I − J)/γ, J the layer's Jacobian along the trajectory of {sample}. "
            f"{kind.value}",
            f"All layers together multiply a small error at the start by at most "
            f"{float(spectra.gains[-1]):.4g}; the largest imaginary part of an eigenvalue is "
            f"{float(spectra.largest_imaginary.max()):.2g}.",
            *([ESTIMATED] if spectra.is_estimate else []),
        ),
        figure=Figure(
            "local_curvatures",
            f"{noun.capitalize()}s along the trajectory, and the reciprocals of the steps",
            f"Largest and smallest {noun} by layer, beside 1 over the step size.",
            (
                Curve("1/γ", layers, 1 / spectra.steps, "both", emphasis=True, role="learned"),
                Curve(f"largest {noun}", layers, upper, "both"),
                Curve(f"smallest {noun}", layers, lower, "both"),
            ),
            Axis("layer"),
            Axis(noun, log=bool(np.nanmin(lower) > 0) if moving.any() else True),
        ),
        table=Table(
            ("layer", "γ", "smallest", "largest", "gone at once", "radius of J", "gain so far"),
            rows,
        ),
    )


def drop_sentence(run: TrainingRun) -> str:
    """How much the loss fell at last."""
    if np.isfinite(run.history.losses[-1]).sum() * TAIL < 2:
        return "Its last stage was too short to tell whether the loss still fell."
    drop, is_noise = last_drop(run.history.losses[-1])
    change = f"Over the last {TAIL:.0%} of the last stage the loss changed by {-drop:+.2%}"
    if is_noise:
        return f"{change}, no more than its noise explains."
    return f"{change}, more than its noise explains."


def loss_section(run: TrainingRun, *sentences: str) -> Section:
    """The loss of every mini-batch that was recorded."""
    losses = run.history.losses[np.isfinite(run.history.losses)]
    if not losses.size:
        return Section("Over training", ("No finite loss was recorded.",))
    skipped = int(np.sum(np.asarray(run.history.num_skipped)))
    if skipped:
        sentences += (
            f"{skipped} iterations were skipped, their losses or gradients not being finite.",
        )
    return Section(
        "Over training",
        sentences,
        figure=Figure(
            "training",
            "Loss over training",
            "Loss of each mini-batch.",
            (Curve("loss", np.arange(1, losses.size + 1), losses, "line", emphasis=True),),
            Axis("mini-batch"),
            Axis("loss", log=bool(losses.min() > 0)),
        ),
        caption="The loss of each mini-batch, as it was recorded.",
    )


def _merit_section(figures: Mapping[str, float]) -> Section:
    rows = tuple((label, f"{value:.6g}") for label, value in figures.items())
    return Section(
        "How good it is",
        ("Measured on the finished network, on data that training has not seen.",),
        table=Table(("figure of merit", "value"), rows),
    )
