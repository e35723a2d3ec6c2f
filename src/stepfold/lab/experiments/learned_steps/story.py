"""The report's sections: statement, evidence, certainty and limits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepfold.lab.curves import curves, median_curve
from stepfold.lab.experiments._trainings import spread
from stepfold.lab.experiments.learned_steps.findings import RIVALS, SHOWN, Found, deviation
from stepfold.lab.figure import Axis, Figure
from stepfold.lab.formula import Formula
from stepfold.lab.outcome import Section, Table


def story(found: Found, num_iterations: int, longer_iterations: int) -> list[Section]:
    """Sections of the report, in order."""
    return [
        _statement(),
        _evidence(found),
        _certainty(found),
        _by_rank(found),
        _longer(found, num_iterations, longer_iterations),
        _errors(found),
    ]


def percent(values: Any) -> str:
    """Median and range of shares."""
    return f"{spread(100 * np.asarray(values))} %"


def _statement() -> Section:
    return Section(
        "Statement, hypotheses and why to expect it",
        (
            "Statement. Sorted, the learned steps are near the Chebyshev steps of the interval "
            "of the eigenvalues. How near, and compared with what? The distance of two schedules "
            "is here the mean deviation of sorted steps, in logarithms:",
            Formula(r"d=\frac1T\sum_{t}\left|\log\gamma_{(t)}-\log\gamma'_{(t)}\right|"),
            "Hypotheses. Gaussian matrices of 600 rows and 300 columns, errors alike in every "
            "direction, training as published: each new layer starts at 0.3, 500 mini-batches a "
            "stage.",
            "Why to expect it. Training lowers the mean squared error, whose smallest value the "
            "optimal steps have; they are reciprocals of zeros of orthogonal polynomials. "
            "Chebyshev steps minimise the largest factor instead. As T grows the zeros of both "
            "are distributed alike over the interval, by the arcsine law (Stahl and Totik, "
            "General Orthogonal Polynomials, 1992). So any of them explains many learned steps; "
            "for few, they differ.",
            "Null models show what a distance means: equal steps; the reciprocals of the "
            "spectrum's quantiles; the reciprocals of T eigenvalues drawn at random. A "
            "correlation of sorted logarithms means nothing: any two increasing rows have a high "
            "one.",
        ),
    )


def _evidence(found: Found) -> Section:
    depths = np.array(found.depths)
    shown = [d for d in SHOWN if d in found.depths]
    rows = tuple(
        (name, *(spread(100 * values[:, found.depths.index(d)]) for d in shown))
        for name, values in found.deviations.items()
    )
    return Section(
        "Evidence: distances",
        (
            "Median and range over matrices, of the mean over the seeds of each. The three "
            "schedules that know of step sizes are near; the null models are several times as "
            f"far. {found.correlated:.0%} of the random draws have a log-log correlation above "
            f"0.97 with {depths[-1]} Chebyshev steps.",
        ),
        table=Table(("distance in % from", *(f"T = {d}" for d in shown)), rows),
        figure=Figure(
            "distances",
            "Distance of the learned steps from other schedules",
            "Distance against the number of layers. Optimal and second-kind steps are nearest for "
            "few layers; from fifteen on Chebyshev steps are as near; null models stay far away.",
            curves(found.deviations, depths, style="both", emphasis=("Chebyshev",)),
            Axis("number of layers T"),
            Axis("mean |log ratio| of sorted steps", log=True),
        ),
    )


def _certainty(found: Found) -> Section:
    rows = []
    for depth in (d for d in SHOWN if d in found.depths):
        column = found.depths.index(depth)
        for rival in ("second kind", "optimal"):
            gap = (found.deviations[rival] - found.deviations["Chebyshev"])[:, column]
            error = gap.std(ddof=1) / math.sqrt(gap.size)
            nearer = int((gap > 0).sum())
            rows.append(
                (
                    str(depth),
                    rival,
                    f"{100 * gap.mean():+.2f} ± {100 * error:.2f} %",
                    f"{nearer} of {gap.size}",
                    f"{sign_test(nearer, gap.size):.2g}",
                )
            )
    return Section(
        "Which explains best, and how sure that is",
        (
            "Difference of distances, rival less Chebyshev, matrix by matrix: mean and standard "
            "error. A positive one says that Chebyshev steps are nearer. The last column is the "
            "chance that so one-sided a count, or a more one-sided one, comes from fair coins.",
            "Up to about 11 layers optimal and second-kind steps explain the learned ones better, "
            "on every matrix: they are where a finished training ends. At 15 the three are within "
            "half a per cent of each other. Beyond, where the training is far from finished, "
            "Chebyshev steps are nearer on most matrices, but by a few per cent of the distance "
            "only.",
        ),
        table=Table(
            ("T", "rival", "rival less Chebyshev", "Chebyshev nearer", "chance"), tuple(rows)
        ),
    )


def sign_test(successes: int, count: int) -> float:
    """Chance that fair coins give a count at least as far from half as this one.

    >>> sign_test(10, 10) == 2 / 2**10
    True
    """
    far = max(successes, count - successes)
    tail = sum(math.comb(count, k) for k in range(far, count + 1))
    return min(1.0, 2 * tail / float(2**count))


def _by_rank(found: Found) -> Section:
    seeds = len(found.replicas) // len(found.measures)
    shown = [d for d in (11, 25) if d in found.depths] or [found.depths[-1]]
    ratios = []
    for depth in shown:
        places = (np.arange(depth) + 0.5) / depth
        learned = np.sort(found.replicas.steps[:, depth - 1, :depth], axis=1)
        for name in ("Chebyshev", "optimal"):
            computed = [np.sort(RIVALS[name](m, depth)) for m in found.measures]
            ratio = learned / np.repeat(computed, seeds, axis=0)
            ratios.append(median_curve(f"over {name}, T = {depth}", places, ratio, style="both"))
    return Section(
        "Where they differ",
        (
            "Learned steps over computed ones of the same rank. The shortest steps agree to a few "
            "per cent. The longest, which serve the few smallest eigenvalues, are much too short "
            "in a network of many layers: the loss has least to say about them, and training has "
            "not reached them.",
        ),
        figure=Figure(
            "ratios",
            "Learned steps over computed ones of the same rank",
            "Ratio of sorted learned steps to Chebyshev and to optimal steps against relative "
            "rank: near one except at the longest steps.",
            tuple(ratios),
            Axis("rank of the step, as a share of T"),
            Axis("ratio"),
        ),
    )


def _longer(found: Found, num_iterations: int, longer_iterations: int) -> Section:
    depth = found.longer.steps.shape[2]
    stages = np.arange(1, depth + 1)
    rows = []
    for label, trained in ((num_iterations, found.shorter), (longer_iterations, found.longer)):
        learned = np.log(np.sort(trained.steps[:, -1], axis=1))
        distances = {
            name: [
                deviation(row[None], RIVALS[name](measure, depth))
                for row, measure in zip(learned, found.measures, strict=False)
            ]
            for name in ("Chebyshev", "second kind", "optimal")
        }
        surplus = found.surplus(trained)[:, -1]
        rows.append((str(label), spread(surplus, 4), *map(percent, distances.values())))
    return Section(
        "What learned steps miss is training",
        (
            f"{depth} layers on {len(found.longer)} matrices, one seed each, with different "
            "numbers of mini-batches a stage. The longer training ends at the smallest mean "
            "squared error, and at the optimal steps: that learned steps look like Chebyshev's "
            "is a feature of the published training, not of its end.",
        ),
        table=Table(
            (
                "mini-batches",
                "MSE over the optimum",
                *(f"distance from {name}" for name in ("Chebyshev", "second kind", "optimal")),
            ),
            tuple(rows),
        ),
        figure=Figure(
            "surplus",
            "Mean squared error over the optimum",
            "Ratio of the trained to the optimal error against the stage; the longer training "
            "stays at one, the shorter one rises.",
            (
                median_curve(
                    f"learned, {num_iterations} mini-batches",
                    stages,
                    found.surplus(found.shorter),
                    style="both",
                ),
                median_curve(
                    f"learned, {longer_iterations} mini-batches",
                    stages,
                    found.surplus(found.longer),
                    style="both",
                    emphasis=True,
                ),
            ),
            Axis("stage (number of trained layers)"),
            Axis("MSE / smallest possible MSE"),
        ),
    )


def _errors(found: Found) -> Section:
    shown = [d for d in SHOWN if d in found.depths]
    by_depth = {d: found.errors(d) for d in found.depths}
    names = tuple(by_depth[shown[0]])
    rows = tuple((str(d), *(spread(by_depth[d][name]) for name in names)) for d in shown)
    return Section(
        "Mean squared error by depth",
        (
            "The end of stage T is a training of T layers, so one training gives every depth. "
            "Learned steps are ahead of Chebyshev's for few layers; for many they fall behind.",
        ),
        table=Table(("T", *names), rows),
        figure=Figure(
            "error_by_depth",
            "Mean squared error after T steps",
            "Mean squared error against the number of layers. Learned steps lie on the optimum for "
            "few layers and rise above it slowly; constant steps are far above.",
            curves(
                {name: np.array([by_depth[d][name] for d in found.depths]).T for name in names},
                np.array(found.depths),
                style="both",
                emphasis=("learned",),
            ),
            Axis("number of steps T"),
            Axis("mean squared error, relative to the start", log=True),
        ),
    )
