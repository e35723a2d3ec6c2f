"""What explains the learned steps best, and how sure that is: rivals and null models.

Takabe and Wadayama, Convergence Acceleration via Chebyshev Step (arXiv:2010.13335), show sorted
learned steps beside Chebyshev's. Here their distance is put beside that of other schedules and of
numbers that know nothing of step sizes, on many matrices, for many numbers of layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.curves import curves, median_curve
from stepfold.lab.experiments._computed import BUILDERS, Builder
from stepfold.lab.experiments._ensembles import spectra
from stepfold.lab.experiments._published import NUM_ITERATIONS, Seed
from stepfold.lab.experiments._trainings import EARLIER, THEORY, spread
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure
from stepfold.lab.formula import Formula
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import CHEBYSHEV_STEP, Source
from stepfold.measure import SpectralMeasure
from stepfold.polynomial import mean_squared_error
from stepfold.schedules import Schedule, optimal_steps

if TYPE_CHECKING:
    from stepfold.unfolded import Replicas

SHOWN = (2, 5, 8, 11, 15, 20, 25)
DEPTH_OF_LONGER = 11
NUM_DRAWS = 200

# Mean squared errors on the published matrix, measured before this program existed.
EXPECTED = {
    2: {"learned": 0.1426, "optimal": 0.1426, "Chebyshev": 0.2710, "constant": 0.1853},
    5: {"learned": 1.648e-2, "optimal": 1.617e-2, "Chebyshev": 4.955e-2, "constant": 6.02e-2},
    8: {"learned": 2.51e-3, "optimal": 1.90e-3, "Chebyshev": 5.87e-3, "constant": 2.69e-2},
}

RIVALS: dict[str, Builder] = {
    **BUILDERS,
    "quantiles of the spectrum": lambda measure, period: Schedule(
        1 / np.quantile(measure.nodes, (np.arange(period) + 0.5) / period)
    ),
}
RANDOM = "random eigenvalues"
NULLS = ("constant", "quantiles of the spectrum", RANDOM)


@dataclass(frozen=True, eq=False)
class Found:
    """Trainings on many matrices, and longer ones of fewer layers on the first three."""

    measures: list[SpectralMeasure]
    replicas: Replicas
    longer: Replicas
    shorter: Replicas

    @cached_property
    def depths(self) -> range:
        """Numbers of layers."""
        return range(2, self.replicas.steps.shape[2] + 1)

    @cached_property
    def deviations(self) -> dict[str, FloatArray]:
        """Mean |log ratio| of sorted steps, by candidate; shape (M, depths), mean over seeds."""
        seeds = len(self.replicas) // len(self.measures)
        found = {name: np.empty((len(self.measures), len(self.depths))) for name in RIVALS}
        found[RANDOM] = np.empty_like(found["constant"])
        for k, measure in enumerate(self.measures):
            trained = self.replicas.steps[k * seeds : (k + 1) * seeds]
            for column, depth in enumerate(self.depths):
                learned = np.log(np.sort(trained[:, depth - 1, :depth], axis=1))
                for name, build in RIVALS.items():
                    found[name][k, column] = _deviation(learned, build(measure, depth))
                drawn = [_deviation(learned, row) for row in _random(measure, depth)]
                found[RANDOM][k, column] = np.median(drawn)
        return found

    @cached_property
    def correlated(self) -> float:
        """Share of random draws whose log-log correlation with Chebyshev steps exceeds 0.97."""
        depth = self.depths[-1]
        shares = []
        for measure in self.measures:
            wanted = np.log(np.sort(RIVALS["Chebyshev"](measure, depth)))
            rows = np.log(np.sort(_random(measure, depth), axis=1))
            shares += [float(np.corrcoef(row, wanted)[0, 1]) > 0.97 for row in rows]
        return float(np.mean(shares))

    def errors(self, depth: int) -> dict[str, FloatArray]:
        """Mean squared error after so many steps: (R,) of the learned, (M,) of the others."""
        found = {"learned": self.replicas.mean_squared_error_path[:, depth - 1, -1]}
        return found | {
            name: np.array([mean_squared_error(RIVALS[name](m, depth), m) for m in self.measures])
            for name in ("optimal", "Chebyshev", "second kind", "constant")
        }

    def surplus(self, trained: Replicas) -> FloatArray:
        """Error at the end of each stage over the smallest possible, shape (R, G)."""
        ends = trained.mean_squared_error_path[:, :, -1]
        best = [
            [mean_squared_error(optimal_steps(m, t + 1), m) for t in range(ends.shape[1])]
            for m in self.measures[: len(ends)]
        ]
        surplus: FloatArray = ends / np.array(best)
        return surplus


def _deviation(learned: FloatArray, steps: Any) -> float:
    """Mean |log ratio| of sorted steps; ``learned`` holds sorted logarithms, shape (R, T)."""
    return float(np.abs(learned - np.log(np.sort(steps))).mean())


def _random(measure: SpectralMeasure, period: int) -> FloatArray:
    """Reciprocals of T eigenvalues drawn without replacement, shape (draws, T)."""
    rng = np.random.default_rng(period)
    draws = [rng.choice(measure.nodes, period, replace=False) for _ in range(NUM_DRAWS)]
    return 1 / np.array(draws)


@experiment(
    "learned_steps",
    source=Source(CHEBYSHEV_STEP, "Chebyshev steps reproduce the learned ones"),
    seconds=25,
    quick={
        "period": 5,
        "num_matrices": 3,
        "num_seeds": 1,
        "num_iterations": 200,
        "longer_iterations": 1000,
    },
)
def learned_steps(
    *,
    period: Annotated[int, Between(3, 40)] = 25,
    num_matrices: Annotated[int, Between(2, 32)] = 12,
    num_seeds: Annotated[int, Between(1, 16)] = 2,
    num_iterations: Annotated[int, Between(1, 5000)] = NUM_ITERATIONS,
    longer_iterations: Annotated[int, Between(1, 20_000)] = 5000,
    matrix_seed: Seed = 12,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Chebyshev, second-kind and optimal steps beside the learned ones, and null models.

    Args:
        period: The largest number of layers T.
        num_matrices: Matrices of 600 rows and 300 columns.
        num_seeds: Trainings on each.
        num_iterations: Mini-batches per stage; claims about the training are tested at 500.
        longer_iterations: Those of the longer training of at most 11 layers.
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
    longer, shorter = (
        train_replicas(
            measures[:3],
            min(period, DEPTH_OF_LONGER),
            [seed],
            num_iterations=count,
            progress=progress,
        )
        for count in (longer_iterations, num_iterations)
    )
    found = Found(measures, replicas, longer, shorter)
    last = {name: rows[:, -1] for name, rows in found.deviations.items()}
    nearest = min((name for name in last if name not in NULLS), key=lambda n: np.median(last[n]))
    return Outcome(
        title="Which steps explain the learned ones",
        summary=(
            f"With {period} layers sorted learned steps deviate from Chebyshev steps by "
            f"{_percent(last['Chebyshev'])}, from second-kind ones by "
            f"{_percent(last['second kind'])}, from optimal ones by {_percent(last['optimal'])} "
            f"(median and range over {num_matrices} matrices); from the quantiles of the spectrum "
            f"by {_percent(last['quantiles of the spectrum'])}, from random eigenvalues by "
            f"{_percent(last[RANDOM])}. Nearest in the median are the {nearest} steps. A longer "
            f"training of {longer.steps.shape[2]} layers ends "
            f"{spread(found.surplus(longer)[:, -1], 4)} times above the smallest error."
        ),
        sections=[
            _statement(),
            _evidence(found),
            _certainty(found),
            _by_rank(found),
            _longer(found, num_iterations, longer_iterations),
            _errors(found),
        ],
        checks=_checks(
            found,
            published_matrix=matrix_seed == 12,
            trained_in_full=num_iterations >= NUM_ITERATIONS and longer_iterations >= 5000,
        ),
        records={
            "deviations": {name: rows.tolist() for name, rows in found.deviations.items()},
            "schedules/learned": replicas.run(0).schedule.to_dict(),
            "schedules/learned-longer": longer.run(0).schedule.to_dict(),
        },
    )


def _percent(values: Any) -> str:
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
                _deviation(row[None], RIVALS[name](measure, depth))
                for row, measure in zip(learned, found.measures, strict=False)
            ]
            for name in ("Chebyshev", "second kind", "optimal")
        }
        surplus = found.surplus(trained)[:, -1]
        rows.append((str(label), spread(surplus, 4), *map(_percent, distances.values())))
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


def _checks(found: Found, *, published_matrix: bool, trained_in_full: bool) -> list[Check]:
    seeds = len(found.replicas) // len(found.measures)
    by_depth = {d: found.errors(d) for d in SHOWN if d in found.depths}
    surplus = [each["learned"] / np.repeat(each["optimal"], seeds) for each in by_depth.values()]
    checks = [
        Check.at_least(
            "smallest learned MSE over the optimum, all T", 1, np.min(surplus), THEORY, "it is best"
        )
    ]
    for depth, row in EXPECTED.items() if published_matrix else ():
        for name, value in row.items():
            learned = name == "learned"
            if depth in by_depth and (trained_in_full or not learned):
                found_here = np.median(by_depth[depth][name][: seeds if learned else 1])
                claim, rtol = (
                    f"MSE {name}, T = {depth}, published matrix",
                    0.02 if learned else 4e-3,
                )
                checks.append(
                    Check.close(claim, value, float(found_here), rtol=rtol, source=EARLIER)
                )
    if not trained_in_full:
        return checks
    total = len(found.measures)
    gap = found.deviations["optimal"] - found.deviations["Chebyshev"]
    few = [found.depths.index(d) for d in (2, 5, 8, 11) if d in found.depths]
    longest = found.surplus(found.longer)[:, -1].max()
    checks += [
        Check.count(
            f"T = 2, 5, 8, 11: least of {total} matrices where optimal steps are nearer",
            total,
            (gap[:, few] < 0).sum(0).min(),
            EARLIER,
        ),
        Check.at_most("longer training: largest MSE over the optimum", 1.02, longest, THEORY),
    ]
    if found.depths[-1] < 25:
        return checks
    near = {name: rows[:, found.depths.index(25)] for name, rows in found.deviations.items()}
    null = np.min([near[name] for name in NULLS], axis=0)
    rivals = [near[name].mean() / near["Chebyshev"].mean() for name in ("second kind", "optimal")]
    return [
        *checks,
        Check.at_most(
            "T = 25: largest distance from Chebyshev over that from the nearest null model",
            0.5,
            (near["Chebyshev"] / null).max(),
            EARLIER,
        ),
        Check(
            "T = 25: smallest mean distance of a rival over Chebyshev's",
            "0.9 to 1.2: no difference of substance",
            float(min(rivals)),
            0.9,
            1.2,
            EARLIER,
        ),
        Check.at_least(
            "T = 20: share of matrices where Chebyshev steps are nearer than optimal ones",
            0.5,
            (gap[:, found.depths.index(20)] > 0).mean(),
            EARLIER,
        ),
        Check(
            "share of random draws with a log-log correlation above 0.97, T = 25",
            "0.42, within 0.15: a correlation proves nothing",
            found.correlated,
            0.27,
            0.57,
            EARLIER,
        ),
    ]
