"""The report's sections: statement, hypotheses, proof, evidence and limits of the first claim."""

from __future__ import annotations

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.curves import curves, median_curve
from stepfold.lab.experiments._trainings import (
    RANDOM_TURNS,
    pairs_are_outside_in,
    share_of_turns,
    spread,
)
from stepfold.lab.experiments.dugd.findings import LEARNED, Findings
from stepfold.lab.figure import Axis, Curve, Figure, Level
from stepfold.lab.formula import Formula
from stepfold.lab.outcome import Section, Table
from stepfold.polynomial import optimal_mean_squared_error, residual_polynomial, spectral_radius
from stepfold.schedules.ordering import outside_in_order

DEPTHS = (2, 5, 8, 11, 15, 20, 25)


def story(found: Findings) -> list[Section]:
    """Sections of the report, in order."""
    return [
        _problem(found),
        _faster(found),
        *([_zig_zag(found), _why(found)] if found.period > 2 else []),
        *([_others(found)] if found.others else []),
        _sorted(found),
        _training(found),
        _polynomial(found),
    ]


def _problem(found: Findings) -> Section:
    size = found.measures[0].nodes.size
    lower, upper, kappa = (
        spread([getattr(m.bounds, name) for m in found.measures], 4)
        for name in ("lower", "upper", "condition_number")
    )
    rows = [
        (name, spread(found.errors[name]), spread(found.radii[name]))
        for name in (LEARNED, *found.computed)
    ]
    return Section(
        "Statement and hypotheses",
        (
            "Least squares: find x from y = Hx. Step t of gradient descent, x ← x − γₜ Hᵀ(Hx − y), "
            "multiplies the error along the eigenvector of eigenvalue λ by 1 − γₜλ. Deep unfolding "
            f"gives each of {found.period} iterations its own step and trains all of them by "
            "backpropagation through the iterations, one more iteration at a time, on random "
            "problems with known solutions. The claim: the learned steps make the mean squared "
            "error (MSE) far smaller than the best constant step does, and they zig-zag.",
            f"Hypotheses. Errors are alike in every direction. HᵀH has {size} eigenvalues; over "
            f"the {len(found.measures)} spectra of this run the smallest is {lower}, the largest "
            f"{upper}, the condition number {kappa}. Numbers are medians, with the range over "
            f"{len(found.replicas)} trainings or {len(found.measures)} spectra in brackets.",
            Formula(
                r"\mathrm{MSE}=\frac1n\sum_i p(\lambda_i)^2,\quad "
                r"p(\lambda)=\prod_t(1-\gamma_t\lambda)"
            ),
        ),
        table=Table(("steps", f"MSE after {found.period}", "spectral radius max |p|"), tuple(rows)),
    )


def _faster(found: Findings) -> Section:
    peaks = found.paths[LEARNED].max(axis=1)
    return Section(
        "Learned steps are faster",
        (
            "The learned steps first make the error grow, up to "
            f"{spread(peaks)}, and then bring it down far below that of gradient descent with the "
            "best constant step. Only the product of all factors counts, not what happens on the "
            "way. Chebyshev and optimal steps need no training; they are taken here in an order "
            "that is safe in floating point. Bands are the range over trainings or spectra.",
        ),
        figure=Figure(
            "error_by_iteration",
            "Mean squared error after each iteration",
            "Mean squared error against iteration. Learned steps rise far above the start, then "
            "fall below constant steps; optimal steps end lowest, constant steps highest.",
            curves(found.paths, style="both", emphasis=(LEARNED,)),
            Axis("iteration"),
            Axis("mean squared error, relative to the start", log=True),
        ),
    )


def _zig_zag(found: Findings) -> Section:
    total = len(found.replicas)
    rows = []
    for depth in (d for d in DEPTHS if 2 < d <= found.period):
        steps = found.replicas.steps[:, depth - 1, :depth]
        ascending = np.sort(steps, axis=1)
        exact = (steps == ascending[:, outside_in_order(ascending[0])]).all(axis=1)
        rows.append(
            (
                str(depth),
                spread(share_of_turns(steps)),
                f"{pairs_are_outside_in(steps).sum()} of {total}",
                f"{exact.sum()} of {total}",
            )
        )
    layers = np.arange(1, found.period + 1)
    constant = found.computed["constant (GD)"][0].steps
    return Section(
        "They zig-zag",
        (
            "Learned steps in the order of the layers. Turns are the share of inner layers whose "
            "step is longer, or shorter, than both neighbours'; in a random order it is "
            f"{RANDOM_TURNS:.2f} on average. Stronger is what pairs of layers do: layers 1 and 2 "
            "hold the longest and the shortest step, layers 3 and 4 the next two, and so on "
            "inwards (outside-in). Which of a pair comes first differs between trainings. Late "
            "layers have had too little training to keep to it.",
        ),
        table=Table(
            ("T", "turns", "pairs outside-in", "exactly outside-in, longest first"), tuple(rows)
        ),
        figure=Figure(
            "learned_steps",
            "Learned steps in the order of the layers",
            "Step size against layer. Long and short steps alternate and close in on the middle.",
            (
                median_curve(
                    "learned, median and range",
                    layers,
                    found.replicas.steps[:, -1],
                    style="both",
                    emphasis=True,
                ),
                Curve("learned, first training", layers, _first(found), style="both"),
                Curve("constant, 2/(a + b)", layers, constant),
            ),
            Axis("layer"),
            Axis("step size γ", log=True),
        ),
    )


def _first(found: Findings) -> FloatArray:
    steps: FloatArray = found.replicas.steps[0, -1]
    return steps


def _why(found: Findings) -> Section:
    scaled = np.array([start.scaled for start in found.starts])
    depth = min(8, found.period)
    shares = {
        "layers in the predicted place": [start.foreseen.mean() for start in found.starts],
        "trainings with pairs outside-in": [start.paired.mean() for start in found.starts],
        "turns": [start.turns.mean() for start in found.starts],
    }
    return Section(
        "Why they zig-zag, and when they do not",
        (
            "One step γ makes the error vanish along the eigenvalue 1/γ. A long step does so for a "
            "small eigenvalue and multiplies the error along large ones by up to b γ − 1; short "
            "steps in other layers repair that. So a good set holds steps for the whole interval, "
            "and the order of a set does not matter for the end. The training decides the order:",
            "1. The eigenvalues that the best T + 1 steps serve interlace with those of the best T "
            "steps: they are zeros of successive orthogonal polynomials. From one stage to the "
            "next each step moves outwards by less than one place, and one place opens.",
            "2. Steps that are equal have equal slopes, for the loss does not change if two steps "
            "are exchanged. So a gradient flow never lets one step overtake another.",
            "3. A new layer starts at the initial step. If that lies in the middle of the steps "
            "learned so far, it takes the middle place, and the pair before it moves one place "
            "out. Layers 1 and 2 end outermost, 3 and 4 next: the zig-zag is outside-in.",
            "The prediction follows without training: insert each new layer among the optimal "
            "steps of the stage before. It is tried here from several initial steps γ₀, given as "
            f"γ₀ b, b the largest eigenvalue of the first matrix, with {depth} layers. Where γ₀ is "
            "in the middle (the published 0.3 is 1.7/b) the prediction holds for most layers, and "
            "pairs are outside-in. If γ₀ is longer, up to about 5/b, most layers are still in the "
            "predicted place, but pairs are not outside-in. If γ₀ is below every optimal step "
            "(γ₀ b < 1), neither holds, and the steps turn about as often as in a random order.",
            "Limits. Statement 2 is about gradient flow. Adam divides by what it remembers of past "
            "slopes, which is little for a new layer, so a new layer moves first and can overtake "
            "others; that is what happens from short steps, and in late layers.",
        ),
        figure=Figure(
            "order_by_start",
            f"Order of {depth} learned steps against the initial step",
            "Shares against the initial step times the largest eigenvalue. Pairs are outside-in "
            "only near 1.7; layers are in the predicted place from there upwards.",
            curves(
                shares,
                scaled,
                style="both",
                emphasis=("layers in the predicted place",),
                roles=dict.fromkeys(shares, "series"),
            ),
            Axis("initial step × largest eigenvalue", log=True),
            Axis("share"),
            levels=(
                Level("turns in a random order", RANDOM_TURNS),
                Level("predicted places in a random order", 1 / depth),
            ),
        ),
    )


def _others(found: Findings) -> Section:
    rows = [
        (
            name,
            spread(other.condition_numbers),
            spread(other.turns),
            f"{other.paired.sum()} of {other.paired.size}",
            spread(other.surplus, 3),
        )
        for name, other in found.others.items()
    ]
    return Section(
        "Other spectra",
        (
            "Two trainings on each of three spectra, 11 layers, scaled to the largest eigenvalue "
            "of the published matrix. Uniform and log-uniform spectra lie between the limits of "
            "the Gaussian one; rows of the autoregressive matrix have neighbours correlated at "
            "0.7.",
        ),
        table=Table(
            ("ensemble", "condition number", "turns", "pairs outside-in", "MSE over the optimum"),
            tuple(rows),
        ),
    )


def _sorted(found: Findings) -> Section:
    rows = {LEARNED: np.sort(found.replicas.steps[:, -1], axis=1)} | {
        name: np.array([np.sort(schedule.steps) for schedule in schedules])
        for name, schedules in found.computed.items()
        if not name.startswith("constant")
    }
    return Section(
        "Sorted, they lie near Chebyshev and optimal steps",
        (
            "The order does not matter for the end, so sort the steps. How near the learned ones "
            "are to Chebyshev steps, to the optimum and to rivals, beside what random numbers "
            "would do, is the subject of `stepfold run learned_steps`.",
        ),
        figure=Figure(
            "sorted_steps",
            "Steps in ascending order",
            "Sorted step sizes. Learned, Chebyshev and optimal steps nearly coincide but for the "
            "largest few, where Chebyshev steps are longest.",
            curves(rows, np.arange(1, found.period + 1), style="both", emphasis=(LEARNED,)),
            Axis("rank"),
            Axis("step size γ", log=True),
        ),
    )


def _training(found: Findings) -> Section:
    depths = np.arange(1, found.period + 1)
    best = [[optimal_mean_squared_error(m, int(t)) for t in depths] for m in found.measures]
    return Section(
        "Stage by stage",
        (
            "MSE and squared spectral radius of the trained layers at the end of each stage, and "
            "the smallest MSE that as many steps can have. Training keeps to it for about five "
            "stages and then falls behind. Why the radius falls as well, and when it does not, is "
            "the subject of `stepfold run spectral_radius`.",
        ),
        figure=Figure(
            "training",
            "Mean squared error and spectral radius over training",
            "Mean squared error and squared spectral radius of the learned steps at the end of "
            "each stage; the optimum falls faster from the sixth stage on.",
            (
                median_curve(
                    "learned: mean squared error",
                    depths,
                    found.replicas.mean_squared_error_path[:, :, -1],
                    style="both",
                    emphasis=True,
                ),
                median_curve(
                    "spectral radius, squared",
                    depths,
                    found.replicas.spectral_radii[:, :, -1] ** 2,
                    style="both",
                ),
                median_curve("smallest possible mean squared error", depths, np.array(best)),
            ),
            Axis("stage (number of trained layers)"),
            Axis("value at its end", log=True),
        ),
    )


def _polynomial(found: Findings) -> Section:
    measure = found.measures[0]
    grid = np.geomspace(measure.bounds.lower, measure.bounds.upper, 1500)
    floor = 1e-4 * spectral_radius(found.computed["Chebyshev"][0], measure.nodes)
    steps = {LEARNED: _first(found)} | {
        name: schedules[0].steps for name, schedules in found.computed.items()
    }
    factors = {
        name: np.abs(residual_polynomial(row, grid))
        for name, row in steps.items()
        if np.isfinite(row).all()
    }
    marks = np.full(measure.nodes.size, 1.5 * floor)
    return Section(
        "What each schedule does to each eigenvalue",
        (
            "The absolute value of p at the eigenvalues of the first matrix, first training. "
            "Chebyshev steps make all peaks equally high. Optimal steps give up a little at the "
            "sparse ends for lower peaks where most eigenvalues are. Training leaves the fewest, "
            "smallest eigenvalues the most error: the loss has least to say about them.",
        ),
        figure=Figure(
            "residual_polynomials",
            "Factor by which each schedule multiplies the error",
            "Absolute residual polynomials over the eigenvalues. Chebyshev's peaks are level; "
            "those of optimal steps are lower in the middle; learned ones are highest at the ends.",
            (
                *curves(factors, grid, emphasis=(LEARNED,)),
                Curve("eigenvalues of HᵀH", measure.nodes, marks, "points"),
            ),
            Axis("eigenvalue λ", log=True),
            Axis("|∏ (1 − γₜ λ)|", log=True, floor=floor),
        ),
    )
