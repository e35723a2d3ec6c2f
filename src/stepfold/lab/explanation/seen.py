"""Learned steps beside theory's, for the curvatures that layers have seen; and what to try."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.figure import Axis, Curve, Figure
from stepfold.lab.outcome import Section, Table
from stepfold.measure import SpectralMeasure
from stepfold.schedules import Schedule, chebyshev_steps, optimal_steps
from stepfold.schedules.optimal import longest_optimal_period
from stepfold.spectrum import SpectralBounds

if TYPE_CHECKING:
    from stepfold.unfolded.local import LocalSpectra

# Imaginary and negative parts up to this share of the largest eigenvalue are rounding.
ROUNDING = 1e-6
# A curvature below this share of the largest counts as none: no steps serve it.
FLAT = 1e-9
# A layer that changes no share of an error by more than this does next to nothing.
IDLE = 0.01
# Median deviation of sorted steps above which they are called far from theory's.
FAR = 0.25
# Share of an error at the start below which it counts as forgotten.
FORGOTTEN = 1e-3


def left_of(spectra: LocalSpectra) -> FloatArray:
    """Curvatures that layers leave, shape (T, n): NaN where an error is gone at once, at 1/γ."""
    units = 1 / spectra.steps[:, None]
    gone = np.abs(spectra.eigenvalues - units) <= 1e-6 * np.abs(units)
    left: FloatArray = np.where(gone, np.nan, spectra.eigenvalues)
    return left


@dataclass(frozen=True, eq=False)
class Seen:
    """What layers have seen along one trajectory, and the steps that theory takes for it."""

    spectra: LocalSpectra

    @property
    def steps(self) -> FloatArray:
        """Learned steps."""
        return self.spectra.steps

    @cached_property
    def curvatures(self) -> FloatArray:
        """All that layers leave, as one sorted vector."""
        left = left_of(self.spectra)
        return np.sort(left[np.isfinite(left)])

    @property
    def obstacle(self) -> str:
        """Why theory has no steps for it; empty if it has."""
        if (self.steps <= 0).any():
            return "a step is not positive"
        if self.spectra.has_memory:
            return (
                "layers hand on more than the iterate, so that what they do is no polynomial in "
                "the curvature"
            )
        if not self.curvatures.size:
            return "every layer removes all errors at once"
        if (largest := float(self.curvatures[-1])) <= 0:
            return "no eigenvalue is positive"
        imaginary = float(self.spectra.largest_imaginary.max())
        if imaginary > ROUNDING * largest and imaginary > 0.05 * largest:
            return (
                f"eigenvalues are complex, with imaginary parts up to {imaginary:.3g} beside "
                f"{largest:.3g}"
            )
        if (low := float(self.curvatures[0])) < -0.05 * largest:
            return f"an eigenvalue is negative, {low:.3g}: no positive step makes its error smaller"
        return ""

    @cached_property
    def positive(self) -> FloatArray:
        """Curvatures that steps can serve."""
        kept: FloatArray = self.curvatures[self.curvatures > FLAT * self.curvatures[-1]]
        return kept

    @cached_property
    def schedules(self) -> dict[str, Schedule]:
        """Theory's steps, by what the report calls them."""
        count = self.steps.size
        bounds = SpectralBounds(float(self.positive[0]), float(self.positive[-1]))
        found = {"Chebyshev": chebyshev_steps(bounds, count)}
        if not self.spectra.is_estimate:
            measure = SpectralMeasure.from_eigenvalues(self.positive)
            if longest_optimal_period(measure, count) == count:
                found["optimal"] = optimal_steps(measure, count)
        if count > 1 and np.ptp(self.steps) > 1e-6 * self.steps.max():
            found["nearest Chebyshev"] = chebyshev_steps(nearest_interval(self.steps), count)
        return found

    def deviations(self, label: str) -> FloatArray:
        """Relative differences of the sorted learned steps from sorted others."""
        others = np.sort(self.schedules[label].steps)
        relative: FloatArray = np.sort(self.steps) / others - 1
        return relative

    def median_deviation(self, label: str) -> float:
        """Median of their absolute values."""
        return float(np.median(np.abs(self.deviations(label))))


def nearest_interval(steps: FloatArray) -> SpectralBounds:
    """Interval whose Chebyshev steps are nearest to these in the logarithm.

    >>> found = nearest_interval(chebyshev_steps(SpectralBounds(0.2, 3.0), 5).steps)
    >>> round(found.lower, 5), round(found.upper, 5)
    (0.2, 3.0)
    """
    from scipy.optimize import minimize

    logarithms = np.sort(np.log(steps))
    ends = np.log([1 / steps.max(), 1 / steps.min()])

    def bounds_of(values: FloatArray) -> SpectralBounds:
        lower = math.exp(values[0])
        return SpectralBounds(lower, lower * (1 + math.exp(min(values[1], 300.0))))

    def distance(values: FloatArray) -> float:
        if not abs(values[0] - ends[0]) < 100:
            return math.inf
        theirs = np.sort(np.log(chebyshev_steps(bounds_of(values), steps.size).steps))
        return float(np.square(theirs - logarithms).sum())

    start = np.array([ends[0] - 0.1, math.log(math.expm1(ends[1] - ends[0] + 0.2))])
    options: Any = {"xatol": 1e-10, "fatol": 1e-16, "maxiter": 4000, "maxfev": 4000}
    found = minimize(distance, start, method="Nelder-Mead", options=options)
    return bounds_of(found.x)


def trajectory_sentence(seen: Seen) -> str:
    """Curvatures and the last gain, in short."""
    text = (
        f"All layers together leave at most {float(seen.spectra.gains[-1]):.4g} of a small error "
        "at the start."
    )
    if seen.obstacle:
        return text
    low, high = float(seen.positive[0]), float(seen.positive[-1])
    return f"Layers see curvatures from {low:.4g} to {high:.4g}. {text}"


def theory_section(seen: Seen) -> Section:
    """Learned steps beside theory's for the spectrum that layers have seen."""
    heading = "The steps beside theory's for this spectrum"
    if seen.obstacle:
        return Section(heading, (f"There are none to compare with: {seen.obstacle}.",))
    ranks = np.arange(1, seen.steps.size + 1)
    curves = [Curve("learned", ranks, np.sort(seen.steps), "both", emphasis=True)]
    rows = []
    for label, schedule in seen.schedules.items():
        role = "optimal" if label == "optimal" else "chebyshev"
        if label != "nearest Chebyshev":
            curves.append(Curve(label, ranks, np.sort(schedule.steps), "both", role=role))
        deviations, bounds = seen.deviations(label), schedule.bounds
        rows.append(
            (
                label,
                "all curvatures seen" if bounds is None else _interval(bounds),
                f"{seen.median_deviation(label):.1%}",
                f"{deviations[0]:+.1%}",
                f"{deviations[-1]:+.1%}",
            )
        )
    low, high = float(seen.positive[0]), float(seen.positive[-1])
    kind = "between which Ritz values lie" if seen.spectra.is_estimate else "that layers see"
    sentences = [
        f"The curvatures {kind} reach from {low:.4g} to {high:.4g}, a ratio of {high / low:.4g}; "
        "those that a penalty removes at once are left out. Chebyshev steps are the best in the "
        "worst case over that interval, optimal ones the best on average if errors are spread "
        "over all curvatures alike. The interval whose Chebyshev steps come nearest to the learned "
        "ones says which errors training has met."
    ]
    flat = 1 - seen.positive.size / seen.curvatures.size
    if flat > 0:
        sentences.append(
            f"A share of {flat:.0%} of the eigenvalues is 0 or less: steps do nothing about errors "
            "there."
        )
    if "nearest Chebyshev" in seen.schedules:
        nearest: Any = seen.schedules["nearest Chebyshev"].bounds
        below = float(np.mean(seen.positive < nearest.lower))
        above = float(np.mean(seen.positive > nearest.upper))
        sentences.append(
            f"That is {_interval(nearest)}; {below:.0%} of the curvatures lie below it, "
            f"{above:.0%} above."
        )
    columns = ("steps", "for", "median deviation", "shortest", "longest")
    return Section(
        heading,
        tuple(sentences),
        figure=Figure(
            "steps_beside_theory",
            "Learned steps beside theory's, sorted",
            "Sorted learned steps beside Chebyshev and optimal ones for the curvatures seen.",
            tuple(curves),
            Axis("rank"),
            Axis("step size γ", log=True),
        ),
        table=Table(columns, tuple(rows)),
    )


def _interval(bounds: SpectralBounds) -> str:
    return f"[{bounds.lower:.4g}, {bounds.upper:.4g}]"


def remedies(
    spectra: LocalSpectra | str | None, steps: FloatArray, parameters: Mapping[str, Any]
) -> list[str]:
    """What to try, each with the number that suggests it; empty if nothing stands out."""
    found = []
    if steps.size > 1 and np.ptp(steps) <= 1e-6 * np.abs(steps).max():
        found.append(
            f"All {steps.size} steps are equal, {steps[0]:.4g}. Equal steps trained together stay "
            "equal in gradient descent: start from `chebyshev_steps`, or from `theory_start`."
        )
    for name, values in parameters.items():
        column = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
        dead = np.flatnonzero(~column.any(axis=1))
        if dead.size:
            found.append(
                f"`{name}` is 0 in {_layers(dead)} and does nothing there: start it from a larger "
                "value, or leave it out."
            )
    if spectra is None or isinstance(spectra, str):
        return found
    change = np.nanmax(np.abs(spectra.steps[:, None] * spectra.eigenvalues), axis=1)
    if (idle := np.flatnonzero(change < IDLE)).size:
        found.append(
            f"What {_layers(idle)} changes is less than {IDLE:.0%} of any error: train with fewer "
            "layers, and compare."
        )
    last = float(spectra.gains[-1])
    if last > 1 + FORGOTTEN:
        found.append(
            f"All layers together enlarge a small error up to {last:.4g}-fold: small changes of "
            "the start, and rounding, are amplified. Bound the steps, by `constraint=Bounded(0, "
            "2 / b)` with b the largest curvature, or train on more various data."
        )
    forgotten = np.flatnonzero(spectra.gains < FORGOTTEN)
    # Where the first layer cuts everything off that is at the start, no layer's progress is seen.
    if last < FORGOTTEN and 0 < forgotten[0] < spectra.gains.size - 1:
        found.append(
            f"After layer {forgotten[0] + 1} less than {FORGOTTEN:g} of an error at the start is "
            f"left: if all layers have one fixed point, fewer than {spectra.gains.size} may do as "
            "well; train so many, and compare."
        )
    seen = Seen(spectra)
    if not seen.obstacle:
        # The nearest Chebyshev steps are those of no spectrum that layers have seen.
        labels = [label for label in seen.schedules if label != "nearest Chebyshev"]
        far = min(seen.median_deviation(label) for label in labels)
        if far > FAR:
            found.append(
                f"The steps are {far:.0%} (in the median) from the nearest of theory's: "
                "`theory_start(network, sample)` sets those without training, and training may go "
                "on from there; keep what has the smaller error on held-out data."
            )
    return found


def _layers(indices: Sequence[int] | Any) -> str:
    numbers = [str(int(index) + 1) for index in indices]
    if len(numbers) == 1:
        return f"layer {numbers[0]}"
    return f"layers {', '.join(numbers[:-1])} and {numbers[-1]}"


def remedies_section(found: Sequence[str]) -> Section:
    """What to try next."""
    return Section(
        "What to try",
        tuple(found)
        or (
            "Nothing stands out: no step is idle, no parameter is 0, and errors at the start do "
            "not grow.",
        ),
    )
