"""Learned steps at several depths, beside optimal, Chebyshev and constant ones.

The first g stages of an incremental training train a network of g layers, so one run gives
every depth. Takabe and Wadayama, Convergence Acceleration via Chebyshev Step (arXiv:2010.13335),
show the learned steps of several depths beside Chebyshev's.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.experiments._published import NUM_ITERATIONS, Seed, published_measure, train
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Curve, Figure
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.measure import SpectralMeasure
from stepfold.polynomial import mean_squared_error
from stepfold.schedules import Schedule, chebyshev_steps, constant_steps, optimal_steps

DEPTHS = (2, 5, 8, 11, 15)

# Mean squared errors of learned steps in the published setting, measured before this program
# existed.
LEARNED = {2: 0.1426, 5: 1.648e-2, 8: 2.51e-3}

Schedules = dict[str, Schedule]


@experiment("depths", seconds=4, quick={"period": 5, "num_iterations": 200})
def depths(
    *,
    period: Annotated[int, Between(2, 40)] = 15,
    num_iterations: Annotated[int, Between(1, 100_000)] = NUM_ITERATIONS,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Learned steps at other depths follow Chebyshev's, up to T = 11 the optimal ones closer still.

    Args:
        period: The largest depth T.
        num_iterations: Mini-batches per stage; claims about the training are tested at 500.
        seed: Seed of the training data.
        progress: Whether to show a progress bar.
    """
    from stepfold.unfolded import SpectralLoss

    measure = published_measure()
    run = train(
        SpectralLoss(measure),
        period,
        num_iterations=num_iterations,
        seed=seed,
        progress=progress,
    )
    at = {depth: _schedules(measure, run.schedule_after(depth)) for depth in range(1, period + 1)}
    shown = [depth for depth in DEPTHS if depth <= period]
    last = at[shown[-1]]
    return Outcome(
        title="Learned steps at other depths",
        summary=(
            f"Training finds nearly the best steps for few layers: at T = {shown[0]} the mean "
            f"squared error is {_surplus(measure, at[shown[0]]):.3f} times the smallest possible, "
            f"at T = {shown[-1]} {_surplus(measure, last):.2f} times. Sorted, the learned steps "
            f"correlate with Chebyshev's at {_correlation(last, 'Chebyshev'):.3f} and with the "
            f"optimal ones at {_correlation(last, 'optimal'):.3f} (logarithms, T = {shown[-1]})."
        ),
        sections=[
            Section(
                "Mean squared error by depth",
                (
                    "A network of T layers is trained for each T on the published problem, and its "
                    "mean squared error compared with that of computed steps of the same number. "
                    "Optimal steps have the smallest that T steps can reach. Chebyshev steps are "
                    "best in the worst case, not in the mean, so learned ones are ahead of them "
                    "for few layers; for many the training does not get there, and falls behind.",
                ),
                figure=_error_figure(measure, at),
                table=_table(measure, {depth: at[depth] for depth in shown}),
            ),
            Section(
                "The steps themselves",
                (
                    "Learned steps in ascending order, divided by the Chebyshev steps and by the "
                    "optimal steps of the same rank. The optimal steps are what a perfect training "
                    "would find. Up to 11 layers the learned ones are closer to them than to "
                    "Chebyshev's, as claimed; at 15, where the training is not finished, the two "
                    "are equally far.",
                ),
                figure=_ratio_figure({depth: at[depth] for depth in shown[-3:]}),
            ),
        ],
        checks=[
            check
            for depth in shown
            for check in _checks(
                measure, depth, at[depth], trained_in_full=num_iterations >= NUM_ITERATIONS
            )
        ],
        parameters={"unknowns": 300, "rows": 600, "matrix seed": 12},
        records={f"schedules/learned-{depth}": at[depth]["learned"].to_dict() for depth in shown},
    )


def _schedules(measure: SpectralMeasure, learned: Schedule) -> Schedules:
    depth = learned.period
    return {
        "learned": learned,
        "optimal": optimal_steps(measure, depth),
        "Chebyshev": chebyshev_steps(measure.bounds, depth),
        "constant": constant_steps(measure.bounds, depth),
    }


def _surplus(measure: SpectralMeasure, schedules: Schedules) -> float:
    learned, optimal = (
        mean_squared_error(schedules[name], measure) for name in ("learned", "optimal")
    )
    return learned / optimal


def _log_sorted(schedule: Schedule) -> FloatArray:
    logarithms: FloatArray = np.log(np.sort(schedule.steps))
    return logarithms


def _correlation(schedules: Schedules, name: str) -> float:
    pair = _log_sorted(schedules["learned"]), _log_sorted(schedules[name])
    return float(np.corrcoef(*pair)[0, 1])


def _deviation(schedules: Schedules, name: str) -> float:
    difference = _log_sorted(schedules["learned"]) - _log_sorted(schedules[name])
    return float(np.abs(difference).mean())


def _checks(
    measure: SpectralMeasure, depth: int, schedules: Schedules, *, trained_in_full: bool
) -> list[Check]:
    surplus = _surplus(measure, schedules)
    always = [
        Check(
            f"MSE learned over optimal, T = {depth}",
            "at least 1: nothing beats the optimum",
            surplus,
            lower=1 - 1e-9,
        )
    ]
    if not trained_in_full:
        return always
    learned = mean_squared_error(schedules["learned"], measure)
    chebyshev = mean_squared_error(schedules["Chebyshev"], measure)
    checks = list(always)
    if depth <= 11:
        checks += [
            Check(f"MSE learned over Chebyshev, T = {depth}", "below 1", learned / chebyshev, 0, 1),
            Check(
                f"mean |log ratio| to optimal over that to Chebyshev steps, T = {depth}",
                "below 1: the optimum is closer",
                _deviation(schedules, "optimal") / _deviation(schedules, "Chebyshev"),
                0,
                1,
            ),
        ]
    else:
        claim = f"MSE learned over Chebyshev, T = {depth}"
        checks.append(Check(claim, "above 1: not trained enough", learned / chebyshev, lower=1))
    if depth > 2:  # two points always correlate
        correlation = _correlation(schedules, "Chebyshev")
        claim = f"log-log correlation of learned and Chebyshev steps, T = {depth}"
        checks.append(Check(claim, "above 0.97", correlation, 0.97))
    if depth in LEARNED:
        checks.append(Check.close(f"MSE learned, T = {depth}", LEARNED[depth], learned, rtol=0.02))
    return checks


def _error_figure(measure: SpectralMeasure, at: dict[int, Schedules]) -> Figure:
    reached = np.array(list(at))
    curves = [
        Curve(
            name,
            reached,
            np.array([mean_squared_error(row[name], measure) for row in at.values()]),
            style="both",
            emphasis=name == "learned",
        )
        for name in ("learned", "optimal", "Chebyshev", "constant")
    ]
    return Figure(
        "error_by_depth",
        "Mean squared error after T steps",
        "Mean squared error against the number of layers. Learned steps lie on the optimum for few "
        "layers and rise above it slowly; Chebyshev and constant steps are above them.",
        tuple(curves),
        Axis("number of steps T"),
        Axis("mean squared error, relative to the start", log=True),
    )


def _ratio_figure(at: dict[int, Schedules]) -> Figure:
    curves = []
    for depth, row in at.items():
        ranks = (np.arange(depth) + 0.5) / depth
        for name in ("Chebyshev", "optimal"):
            ratio = np.exp(_log_sorted(row["learned"]) - _log_sorted(row[name]))
            label = f"T = {depth}, over {name}"
            curves.append(Curve(label, ranks, ratio, style="both", emphasis=name == "optimal"))
    return Figure(
        "ratios",
        "Learned steps over computed ones of the same rank",
        "Ratio of sorted learned steps to Chebyshev and to optimal steps against relative rank. "
        "The ratios to optimal steps stay near one except at the largest steps.",
        tuple(curves),
        Axis("rank of the step, as a share of T"),
        Axis("ratio"),
    )


def _table(measure: SpectralMeasure, at: dict[int, Schedules]) -> Table:
    names = ("learned", "optimal", "Chebyshev", "constant")
    rows = [
        (
            str(depth),
            *(f"{mean_squared_error(row[name], measure):.4g}" for name in names),
            "–" if depth == 2 else f"{_correlation(row, 'Chebyshev'):.4f}",
            "–" if depth == 2 else f"{_correlation(row, 'optimal'):.4f}",
            f"{_deviation(row, 'Chebyshev'):.1%}",
            f"{_deviation(row, 'optimal'):.1%}",
        )
        for depth, row in at.items()
    ]
    columns = (
        "T",
        *(f"MSE {name}" for name in names),
        "correlation with Chebyshev",
        "with optimal",
        "mean deviation from Chebyshev",
        "from optimal",
    )
    return Table(columns, tuple(rows))
