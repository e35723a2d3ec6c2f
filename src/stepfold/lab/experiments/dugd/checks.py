"""The claims that the experiment tests."""

from __future__ import annotations

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.experiments.dugd.findings import Findings
from stepfold.lab.outcome import Check
from stepfold.polynomial import (
    marchenko_pastur_mean_squared_error,
    mean_squared_error_path,
    spectral_radius,
)
from stepfold.schedules.ordering import outside_in_order

# Mean squared errors of learned, optimal, Chebyshev and constant steps at these depths, measured
# before this program existed.
EXPECTED_BY_DEPTH = {
    2: (0.1426, 0.1426, 0.2710, 0.1853),
    5: (1.648e-2, 1.617e-2, 4.955e-2, 6.02e-2),
    8: (2.51e-3, 1.90e-3, 5.87e-3, 2.69e-2),
}


def checks(found: Findings, *, trained_in_full: bool) -> list[Check]:
    """Claims of the published experiment and of the derivations, each with its number.

    Those about 25 layers are left out at other depths, those about the training if it was shorter
    than the published one.
    """
    bounds = found.bounds
    return [
        Check.close("condition number κ", 30.828752475, bounds.condition_number, rtol=1e-9),
        Check.close("largest eigenvalue", 5.678370598, bounds.upper, rtol=1e-9),
        Check.close("smallest eigenvalue", 0.184190736, bounds.lower, rtol=1e-8),
        *(_published_depth_checks(found, trained_in_full) if found.learned.period == 25 else []),
        *(_order_checks(found) if trained_in_full else []),
        *_training_checks(found, trained_in_full),
        *_depth_checks(found, trained_in_full),
    ]


def _published_depth_checks(found: Findings, trained_in_full: bool) -> list[Check]:
    errors = {name: found.final_error(schedule) for name, schedule in found.schedules.items()}
    radii = {
        name: spectral_radius(schedule, found.measure.nodes)
        for name, schedule in found.schedules.items()
    }
    learned = errors["learned (DUGD)"]
    peak = float(mean_squared_error_path(found.learned, found.measure).max())
    computed = [
        Check.close("MSE of GD with step 2/(a + b)", 1.0482e-3, errors["constant (GD)"], rtol=1e-3),
        Check.close("MSE of Chebyshev steps", 2.45e-8, errors["Chebyshev"], rtol=5e-3),
        Check.close("MSE of optimal steps", 8.61e-9, errors["optimal"], rtol=5e-3),
        Check.close("spectral radius of Chebyshev steps", 2.22e-4, radii["Chebyshev"], rtol=5e-3),
        Check.close("spectral radius of GD", 0.197, radii["constant (GD)"], rtol=5e-3),
    ]
    if not trained_in_full:
        return computed
    return [
        *computed,
        Check("MSE of trained DUGD", "3.9e-7 (2.5e-7 to 8e-7)", learned, 2.5e-7, 8e-7),
        Check(
            "MSE of DUGD over that of optimal steps",
            "45 (29 to 93)",
            learned / errors["optimal"],
            29,
            93,
        ),
        Check.close("spectral radius of DUGD", 7.6e-3, radii["learned (DUGD)"], rtol=0.15),
        Check("largest MSE of DUGD on the way", "above 1e4", peak, lower=1e4),
        *_shape_checks(found),
    ]


def _order_checks(found: Findings) -> list[Check]:
    depths = range(1, min(11, found.learned.period) + 1)
    paired = sum(_pairs_are_outside_in(found.run.schedule_after(depth).steps) for depth in depths)
    return [
        Check(
            "depths T ≤ 11 whose pairs of layers hold the largest and smallest step left",
            str(len(depths)),
            paired,
            lower=len(depths),
        )
    ]


def _pairs_are_outside_in(steps: FloatArray) -> bool:
    ascending = np.sort(steps)
    expected = ascending[outside_in_order(ascending)]
    return all(set(steps[k : k + 2]) == set(expected[k : k + 2]) for k in range(0, steps.size, 2))


def _shape_checks(found: Findings) -> list[Check]:
    learned = np.sort(found.learned.steps)
    chebyshev = np.sort(found.chebyshev.steps)
    deviation = learned / chebyshev - 1
    correlation = float(np.corrcoef(np.log(learned), np.log(chebyshev))[0, 1])
    return [
        Check("log-log correlation, sorted learned and Chebyshev", "above 0.97", correlation, 0.97),
        Check(
            "their median relative deviation",
            "about 0.03",
            float(np.median(np.abs(deviation))),
            upper=0.04,
        ),
        Check(
            "largest learned step against Chebyshev's", "−0.47 to −0.35", deviation[-1], -0.5, -0.3
        ),
        Check("second largest", "−0.47 to −0.35", deviation[-2], -0.5, -0.3),
    ]


def _training_checks(found: Findings, trained_in_full: bool) -> list[Check]:
    errors, radii = found.training_errors, found.training_radii
    theory = [marchenko_pastur_mean_squared_error(0.5, t) for t in range(1, 6)]
    lag = float(np.max(np.abs(errors[:5] / theory[: errors.size] - 1)))
    num_unknowns = found.measure.nodes.size
    gap = Check("largest gap to (1−c)cᵗ/(1−cᵗ⁺¹), c = ½, t ≤ 5", "within 0.05", lag, upper=0.05)
    return [
        *([gap] if trained_in_full else []),
        Check(
            "largest ratio of successive spectral radii over training",
            "below 1: it falls with the MSE",
            float(np.max(radii[1:] / radii[:-1])),
            upper=1,
        ),
        Check("largest MSE/ρ² over training", "at most 1", float((errors / radii**2).max()), 0, 1),
        Check(
            "largest ρ²/(n·MSE) over training",
            "at most 1",
            float((radii**2 / (num_unknowns * errors)).max()),
            0,
            1,
        ),
    ]


def _depth_checks(found: Findings, trained_in_full: bool) -> list[Check]:
    names = ("learned", "optimal", "Chebyshev", "constant")
    return [
        Check.close(
            f"MSE of {name} steps at T = {depth}",
            expected,
            found.final_error(schedule),
            # Learned steps depend on the draw of the training data.
            rtol=0.02 if name == "learned" else 4e-3,
        )
        for depth, row in EXPECTED_BY_DEPTH.items()
        if depth <= found.learned.period
        for name, expected, schedule in zip(names, row, found.at_depth(depth), strict=True)
        if name != "learned" or trained_in_full
    ]
