"""The first-order lower bound in the limit: Chebyshev's rates per step, and where rounding ends.

``sech(T arccosh((κ+1)/(κ−1)))^{1/T}`` is (κ−1)/(κ+1) at T = 1 and (√κ−1)/(√κ+1) in the limit, which
no first-order method can beat. Takabe and Wadayama, Convergence Acceleration via Chebyshev Step
(arXiv:2010.13335), on convergence rates.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from stepfold._typing import FloatArray
from stepfold.iterations import SemiIteration
from stepfold.lab.curves import curves
from stepfold.lab.experiments._trainings import EARLIER, PAPER, THEORY
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Curve, Figure, Level
from stepfold.lab.formula import Formula
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import CHEBYSHEV_STEP, Source
from stepfold.polynomial import (
    chebyshev_period_rate,
    chebyshev_rate,
    constant_rate,
    first_order_lower_bound,
    worst_case_period_rate,
)
from stepfold.problems import Quadratic
from stepfold.schedules import chebyshev_steps, constant_steps
from stepfold.spectrum import SpectralBounds

# For κ = 9, computed by hand before this program existed; the limit is exactly one half.
AT_NINE = {1: 0.8, 2: 0.68599, 4: 0.59402, 8: 0.54525, 16: 0.52214}


@experiment(
    "rates",
    source=Source(CHEBYSHEV_STEP, "convergence rate and the first-order lower bound"),
    seconds=1,
    quick={},
)
def rates(
    *,
    condition_number: Annotated[float, Between(1.001, 1e8)] = 9.0,
    max_steps: Annotated[int, Between(2, 256)] = 64,
) -> Outcome:
    """Chebyshev's rate per step meets its bound, and tends to the first-order lower bound.

    Args:
        condition_number: κ; the numbers are for 9.
        max_steps: The largest period T.
    """
    bounds = SpectralBounds(1.0, condition_number)
    periods = np.arange(1, max_steps + 1)
    bound = np.array([chebyshev_period_rate(bounds, int(t)) for t in periods])
    per_step = np.array([chebyshev_rate(bounds, int(t)) for t in periods])
    measured = np.array(
        [worst_case_period_rate(chebyshev_steps(bounds, int(t)), bounds) for t in periods]
    )
    constant, limit = constant_rate(bounds), first_order_lower_bound(bounds)
    rounding = {
        name: np.array([_attained(bounds, int(t), dtype) for t in periods])
        for name, dtype in (("float32", np.float32), ("float64", np.float64))
    }
    return Outcome(
        title="Chebyshev steps reach the first-order lower bound in the limit",
        summary=(
            f"For κ = {condition_number:g} the rate per step of Chebyshev steps falls from "
            f"{per_step[0]:.5f} with one step, gradient descent's, to {per_step[-1]:.5f} with "
            f"{max_steps}; no first-order method gets below {limit:.5f} for long. In floating "
            f"point the error of one period gets down to {rounding['float32'].min():.0e} in "
            f"float32 and to {rounding['float64'].min():.0e} in float64."
        ),
        sections=[
            Section(
                "Statement, hypotheses and derivation",
                (
                    "Hypotheses. The eigenvalues lie in [a, b], a > 0, κ = b/a; nothing else is "
                    "known of them. A first-order method adds combinations of gradients.",
                    "Statement. T Chebyshev steps shrink the worst error by sech(Tθ), "
                    "θ = arccosh((κ+1)/(κ−1)). The rate per step, its T-th root, tends to "
                    "(√κ−1)/(√κ+1) as T grows. No first-order method has a smaller rate in the "
                    "limit.",
                    Formula(
                        r"e^{-\theta}=\frac{\sqrt\kappa-1}{\sqrt\kappa+1},\quad "
                        r"e^{-T\theta}\le\mathrm{sech}(T\theta)\le 2e^{-T\theta},\quad "
                        r"e^{-\theta}\le\mathrm{sech}(T\theta)^{1/T}\le 2^{1/T}e^{-\theta}"
                    ),
                    "Derivation. cosh θ = (κ+1)/(κ−1) gives e^θ = cosh θ + sinh θ = "
                    "(√κ+1)/(√κ−1). The hyperbolic secant 2/(e^x + e^−x) lies between e^−x and "
                    "2e^−x for x ≥ 0. Take T-th roots: 2^(1/T) tends to 1.",
                    "After T products the error of any first-order method is q(A)e₀, q of degree "
                    "T with q(0) = 1. No such q is smaller over [a, b] than Chebyshev's (see "
                    "`stepfold run extrema`). So a period is exactly minimax at its own T, and "
                    "the bound on all methods is the limit of the periods' rates.",
                ),
            ),
            Section(
                "Evidence: rate per step",
                (
                    "The points are measured: the largest value of the steps' residual "
                    "polynomial, found between its roots.",
                ),
                figure=_rate_figure(periods, per_step, measured, constant, limit),
                table=_table(periods, bound, constant, limit),
            ),
            Section(
                "Minimax at the end of the period only",
                (
                    "The worst factor after each step of one period, in a safe order, beside the "
                    "smallest that so many products can have, which the Chebyshev semi-iteration "
                    "reaches after every step with one more vector. They meet at the end of the "
                    "period.",
                ),
                figure=_within_figure(bounds, min(max_steps, 16)),
            ),
            Section(
                "Limits: where floating point ends it",
                (
                    "One period of T steps run in float32 and in float64, on a diagonal matrix "
                    "with the extrema of the Chebyshev polynomial as eigenvalues. The error "
                    "follows the bound until rounding is as large: longer periods gain nothing "
                    "more. The steps are taken in an order that is safe; ascending or descending "
                    "they would lose all digits (`stepfold run order`).",
                ),
                figure=_rounding_figure(periods, bound, rounding),
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
        checks=_checks(bounds, periods, bound, per_step, measured, rounding),
    )


def _checks(
    bounds: SpectralBounds,
    periods: NDArray[np.integer],
    bound: FloatArray,
    per_step: FloatArray,
    measured: FloatArray,
    rounding: dict[str, FloatArray],
) -> list[Check]:
    limit = first_order_lower_bound(bounds)
    normal = bound > 1e-14  # below, the rounding of a product of T factors shows
    gap = float(np.abs(measured[normal] / bound[normal] - 1).max())
    few = periods[(bound > 1e-8) & (periods <= 16)]
    # sech(Tθ)^{1/T} ≤ 2^{1/T} exp(−θ), and exp(−θ) is the limit.
    ceiling = float((per_step / (limit * 2 ** (1 / periods))).max())
    published = [
        Check.close(
            f"rate per step at T = {t}, κ = 9",
            rate,
            float(per_step[t - 1]),
            rtol=1e-5,
            source=EARLIER,
        )
        for t, rate in AT_NINE.items()
        if bounds.condition_number == 9 and t <= periods.size
    ]
    apart = max(abs(_semi_iteration(bounds, int(t))[-1] / bound[t - 1] - 1) for t in few)
    claim = "rate at T = 1 over gradient descent's"
    first = per_step[0] / constant_rate(bounds)
    change = np.diff(per_step).max()
    return [
        *published,
        Check.at_most("largest deviation of the measured from the bound", 1e-6, gap, THEORY),
        Check.close(claim, 1, first, rtol=1e-9, source=THEORY),
        Check.at_most("largest change of the rate from T to T + 1", 0, change, THEORY, "it falls"),
        Check.at_least("smallest rate over the lower bound", 1, per_step[-1] / limit, PAPER),
        Check.at_most("largest rate over 2^(1/T) times the lower bound", 1, ceiling, THEORY),
        Check.at_most(
            "semi-iteration after T steps over a period of T, deviation from 1",
            1e-6,
            apart,
            THEORY,
            "both are minimax",
        ),
        *(
            Check.at_most(
                f"{name}: largest error beyond the bound, in units of κ × rounding",
                10,
                (errors - bound).max() / (np.finfo(name).eps * bounds.condition_number),
                THEORY,
            )
            for name, errors in rounding.items()
        ),
    ]


def _attained(bounds: SpectralBounds, period: int, dtype: type[np.floating[Any]]) -> float:
    """Largest error, relative to the largest at the start, after a period run in ``dtype``."""
    eigenvalues = _extrema(bounds, period).astype(dtype)
    # Of no special form: from some solutions rounding would find the way back exactly.
    solution = np.random.default_rng(period).uniform(0.5, 1, eigenvalues.size).astype(dtype)
    x, target = np.zeros_like(solution), eigenvalues * solution
    for step in chebyshev_steps(bounds, period).steps.astype(dtype):
        x -= step * (eigenvalues * x - target)
    return float(np.abs(x.astype(np.float64) - solution).max() / solution.max())


def _extrema(bounds: SpectralBounds, period: int) -> FloatArray:
    """Where the Chebyshev polynomial of degree T over the interval is ±1, shape (T + 1,)."""
    middle, radius = (bounds.upper + bounds.lower) / 2, (bounds.upper - bounds.lower) / 2
    places: FloatArray = middle + radius * np.cos(np.arange(period + 1) * np.pi / period)
    return places.clip(bounds.lower, bounds.upper)


def _semi_iteration(bounds: SpectralBounds, num_steps: int) -> FloatArray:
    """Worst factor after each step of the semi-iteration, on many eigenvalues, shape (steps,)."""
    eigenvalues = _extrema(bounds, 48 * num_steps)
    iteration: SemiIteration[FloatArray] = SemiIteration(
        (bounds.upper - bounds.lower) / (bounds.upper + bounds.lower)
    )
    problem = Quadratic(np.diag(eigenvalues), np.zeros_like(eigenvalues))
    state, gamma = iteration.init(problem, np.ones_like(eigenvalues)), constant_steps(bounds, 1)[0]
    worst = np.empty(num_steps)
    for t in range(num_steps):
        state = iteration.step(problem, state, gamma)
        worst[t] = np.abs(iteration.iterate(state)).max()
    return worst


def _within_figure(bounds: SpectralBounds, period: int) -> Figure:
    steps = np.arange(1, period + 1)
    order = chebyshev_steps(bounds, period).steps
    return Figure(
        "within_a_period",
        f"Worst factor within a period of {period} Chebyshev steps",
        "Worst factor against the step: that of the period goes up and down above the smallest "
        "possible one and meets it at the last step.",
        (
            Curve(
                "Chebyshev steps",
                steps,
                np.array([worst_case_period_rate(order[:t], bounds) for t in steps]),
                style="both",
                emphasis=True,
            ),
            Curve("semi-iteration", steps, _semi_iteration(bounds, period), style="both"),
            Curve(
                "smallest possible bound",
                steps,
                np.array([chebyshev_period_rate(bounds, int(t)) for t in steps]),
                role="theory",
            ),
        ),
        Axis("products"),
        Axis("worst factor", log=True),
    )


def _rounding_figure(
    periods: NDArray[np.integer], bound: FloatArray, rounding: dict[str, FloatArray]
) -> Figure:
    chebyshev = {f"Chebyshev, {name}": values for name, values in rounding.items()}
    return Figure(
        "rounding",
        "Error of one period in floating point",
        "Error against the period: it follows the bound down to the rounding of each precision "
        "and stays there, float32 first.",
        (
            *curves(chebyshev, periods, style="both", emphasis=chebyshev),
            Curve("bound, sech(T θ)", periods, bound),
        ),
        Axis("period T"),
        Axis("largest error, relative to the start", log=True),
    )


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
    rows = {"gradient descent (T = 1)": [-1 / np.log(constant_rate(b)) for b in spectra]}
    chebyshev = {
        f"Chebyshev, T = {period}": [
            -period / np.log(chebyshev_period_rate(bounds, period)) for bounds in spectra
        ]
        for period in (4, 16, 64)
    }
    rows |= chebyshev
    rows["lower bound"] = [-1 / np.log(first_order_lower_bound(bounds)) for bounds in spectra]
    return Figure(
        "steps_by_condition",
        "Steps to shrink the error by e",
        "Steps against condition number. Gradient descent's grow with slope one, the lower bound's "
        "with slope one half; Chebyshev's leave the lower bound one after the other.",
        curves(rows, kappas, emphasis=chebyshev),
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
