"""Rates per step: how Chebyshev steps fall from gradient descent's rate to the lower bound.

``sech(T arccosh((κ+1)/(κ−1)))^{1/T}`` is (κ−1)/(κ+1) at T = 1 and (√κ−1)/(√κ+1) in the limit, which
no first-order method can beat. Takabe and Wadayama, Convergence Acceleration via Chebyshev Step
(arXiv:2010.13335), on convergence rates.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from stepfold._typing import FloatArray
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Curve, Figure, Level
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.polynomial import (
    chebyshev_period_rate,
    constant_rate,
    first_order_lower_bound,
    worst_case_period_rate,
)
from stepfold.schedules import chebyshev_steps
from stepfold.spectrum import SpectralBounds

# For κ = 9, computed by hand before this program existed; the limit is exactly one half.
AT_NINE = {1: 0.8, 2: 0.68599, 4: 0.59402, 8: 0.54525, 16: 0.52214}


@experiment("rates", seconds=1, quick={})
def rates(
    *,
    condition_number: Annotated[float, Between(1.001, 1e8)] = 9.0,
    max_steps: Annotated[int, Between(2, 256)] = 32,
) -> Outcome:
    """Chebyshev's rate per step meets its bound, and tends to the first-order lower bound.

    Args:
        condition_number: κ; the numbers are for 9.
        max_steps: The largest period T.
    """
    bounds = SpectralBounds(1.0, condition_number)
    periods = np.arange(1, max_steps + 1)
    bound = np.array([chebyshev_period_rate(bounds, int(t)) for t in periods])
    per_step = bound ** (1 / periods)
    measured = np.array(
        [worst_case_period_rate(chebyshev_steps(bounds, int(t)), bounds) for t in periods]
    )
    constant, limit = constant_rate(bounds), first_order_lower_bound(bounds)
    return Outcome(
        title="From gradient descent's rate to the lower bound",
        summary=(
            f"For κ = {condition_number:g} the rate per step of Chebyshev steps falls from "
            f"{per_step[0]:.5f} with one step, gradient descent's, to {per_step[-1]:.5f} with "
            f"{max_steps}; no first-order method gets below {limit:.5f}."
        ),
        sections=[
            Section(
                "Rate per step",
                (
                    "The factor by which T Chebyshev steps shrink the worst error is "
                    "sech(T arccosh((κ+1)/(κ−1))); its T-th root is the rate per step. The points "
                    "are measured: the largest value of the steps' residual polynomial, found "
                    "between its roots. With longer periods the rate tends to the lower bound "
                    "(√κ−1)/(√κ+1), which momentum reaches as well; Chebyshev steps reach it "
                    "without momentum.",
                ),
                figure=_rate_figure(periods, per_step, measured, constant, limit),
                table=_table(periods, bound, constant, limit),
            ),
            Section(
                "Other condition numbers",
                (
                    "The number of steps that shrink the error by e = 2.718…, as the condition "
                    "number grows: proportional to κ for gradient descent, to √κ for the lower "
                    "bound. A period of T follows the lower bound up to κ of about T² and then "
                    "gains a factor of T over gradient descent.",
                ),
                figure=_condition_figure(),
            ),
        ],
        checks=_checks(bounds, periods, bound, per_step, measured),
    )


def _checks(
    bounds: SpectralBounds,
    periods: NDArray[np.integer],
    bound: FloatArray,
    per_step: FloatArray,
    measured: FloatArray,
) -> list[Check]:
    limit = first_order_lower_bound(bounds)
    normal = bound > 1e-14  # below, the rounding of a product of T factors shows
    gap = float(np.abs(measured / bound - 1)[normal].max())
    # sech(Tθ)^{1/T} ≤ 2^{1/T} exp(−θ), and exp(−θ) is the limit.
    ceiling = float((per_step / (limit * 2 ** (1 / periods))).max())
    published = [
        Check.close(f"rate per step at T = {t}, κ = 9", rate, float(per_step[t - 1]), rtol=1e-5)
        for t, rate in AT_NINE.items()
        if bounds.condition_number == 9 and t <= periods.size
    ]
    return [
        *published,
        Check("largest deviation of the measured from the bound", "0", gap, 0, 1e-6),
        Check.close(
            "rate at T = 1 over gradient descent's",
            1,
            per_step[0] / constant_rate(bounds),
            rtol=1e-9,
        ),
        Check(
            "largest change of the rate from T to T + 1",
            "below 0: it falls",
            float(np.diff(per_step).max()),
            upper=0,
        ),
        Check(
            "smallest rate over the lower bound", "above 1", float(per_step[-1] / limit), lower=1
        ),
        Check(
            "largest rate over 2^(1/T) times the lower bound", "at most 1", ceiling, 0, 1 + 1e-12
        ),
    ]


def _rate_figure(
    periods: NDArray[np.integer],
    per_step: FloatArray,
    measured: FloatArray,
    constant: float,
    limit: float,
) -> Figure:
    return Figure(
        "rate_by_period",
        "Rate per step against the period",
        "Rate per step against T. Chebyshev's falls steeply at first and then slowly towards the "
        "lower bound; gradient descent's is constant and far above.",
        (
            Curve("sech(T arccosh((κ+1)/(κ−1)))^(1/T)", periods, per_step, emphasis=True),
            Curve("measured", periods, measured ** (1 / periods), style="points"),
        ),
        Axis("period T"),
        Axis("rate per step"),
        levels=(
            Level("gradient descent, (κ−1)/(κ+1)", constant),
            Level("lower bound, (√κ−1)/(√κ+1)", limit),
        ),
    )


def _condition_figure() -> Figure:
    kappas = np.geomspace(2, 1e6, 61)
    spectra = [SpectralBounds(1.0, float(kappa)) for kappa in kappas]
    curves = [
        Curve(
            "gradient descent (T = 1)",
            kappas,
            np.array([-1 / np.log(constant_rate(bounds)) for bounds in spectra]),
        )
    ]
    curves += [
        Curve(
            f"Chebyshev, T = {period}",
            kappas,
            np.array(
                [-period / np.log(chebyshev_period_rate(bounds, period)) for bounds in spectra]
            ),
            emphasis=True,
        )
        for period in (4, 16, 64)
    ]
    curves.append(
        Curve(
            "lower bound",
            kappas,
            np.array([-1 / np.log(first_order_lower_bound(bounds)) for bounds in spectra]),
        )
    )
    return Figure(
        "steps_by_condition",
        "Steps to shrink the error by e",
        "Steps against condition number. Gradient descent's grow with slope one, the lower bound's "
        "with slope one half; Chebyshev's leave the lower bound one after the other.",
        tuple(curves),
        Axis("condition number κ", log=True),
        Axis("steps for a factor of e", log=True),
    )


def _table(periods: NDArray[np.integer], bound: FloatArray, constant: float, limit: float) -> Table:
    rows = [
        (str(t), f"{bound[t - 1]:.5g}", f"{bound[t - 1] ** (1 / t):.5f}")
        for t in (2**k for k in range(9))
        if t <= periods.size
    ]
    return Table(
        ("T", "factor of a period", "rate per step"),
        (
            *rows,
            ("∞ (lower bound)", "–", f"{limit:.5f}"),
            ("gradient descent", "–", f"{constant:.5f}"),
        ),
    )
