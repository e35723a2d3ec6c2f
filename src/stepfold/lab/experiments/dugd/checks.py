"""The claims that the experiment tests: what holds for all trainings, or for a stated share."""

from __future__ import annotations

import itertools

import numpy as np

from stepfold.lab.experiments._trainings import (
    EARLIER,
    PAPER,
    RANDOM_TURNS,
    THEORY,
    pairs_are_outside_in,
    share_of_turns,
)
from stepfold.lab.experiments.dugd.findings import LEARNED, Findings
from stepfold.lab.outcome import Check
from stepfold.polynomial import marchenko_pastur_mean_squared_error


def checks(found: Findings, *, matrix: bool, trained_in_full: bool) -> list[Check]:
    """Claims of the published experiment and of the derivations, each with its number.

    Args:
        found: What was found.
        matrix: Whether the first matrix is the published one.
        trained_in_full: Whether the ensemble is the published one and the training at least as
            long; the claims about training are tested only then.
    """
    return [
        *(_matrix_checks(found) if matrix else []),
        *_theorems(found),
        *(_training_checks(found) if trained_in_full else []),
        *(_order_checks(found) if trained_in_full and found.period >= 3 else []),
        *(_published_depth_checks(found) if trained_in_full and found.period == 25 else []),
    ]


def _matrix_checks(found: Findings) -> list[Check]:
    bounds = found.measures[0].bounds
    values = {name: (found.errors[name][0], found.radii[name][0]) for name in found.computed}
    expected = {
        "MSE of GD with step 2/(a + b)": (1.0482e-3, values["constant (GD)"][0]),
        "MSE of Chebyshev steps": (2.45e-8, values["Chebyshev"][0]),
        "MSE of optimal steps": (8.61e-9, values["optimal"][0]),
        "spectral radius of GD": (0.197, values["constant (GD)"][1]),
        "spectral radius of Chebyshev steps": (2.22e-4, values["Chebyshev"][1]),
    }
    return [
        Check.close(
            "condition number κ", 30.828752475, bounds.condition_number, rtol=1e-9, source=EARLIER
        ),
        Check.close("largest eigenvalue", 5.678370598, bounds.upper, rtol=1e-9, source=EARLIER),
        Check.close("smallest eigenvalue", 0.184190736, bounds.lower, rtol=1e-8, source=EARLIER),
        *(
            Check.close(f"{claim}, published matrix", wanted, measured, rtol=5e-3, source=EARLIER)
            for claim, (wanted, measured) in expected.items()
            if found.period == 25
        ),
    ]


def _theorems(found: Findings) -> list[Check]:
    path, radii = found.replicas.mean_squared_error_path, found.replicas.spectral_radii
    lower, upper = path / radii**2, radii**2 / (found.measures[0].nodes.size * path)
    total = len(found.replicas)
    return [
        Check.count(f"of {total} trainings, those that diverged", 0, found.diverged.sum(), THEORY),
        Check.at_least(
            "smallest learned MSE over the optimum", 1, found.surplus.min(), THEORY, "it is best"
        ),
        Check.at_most("largest MSE/ρ², every mini-batch", 1, np.nanmax(lower), THEORY),
        Check.at_most("largest ρ²/(n·MSE), every mini-batch", 1, np.nanmax(upper), THEORY),
    ]


def _training_checks(found: Findings) -> list[Check]:
    ends = found.replicas.mean_squared_error_path[:, :5, -1]
    law = [marchenko_pastur_mean_squared_error(0.5, t + 1) for t in range(ends.shape[1])]
    deviation = np.median(np.abs(ends / law - 1).max(axis=1))
    ratio = found.errors[LEARNED] / found.errors["constant (GD)"][found.owner]
    return [
        Check.at_most(
            "deviation of the MSE from (1−c)cᵗ/(1−cᵗ⁺¹), c = ½, t ≤ 5, median of trainings",
            0.1,
            deviation,
            THEORY,
            "the law is of infinitely large matrices",
        ),
        Check.at_most("largest learned MSE over that of constant steps", 1, ratio.max(), PAPER),
    ]


def _order_checks(found: Findings) -> list[Check]:
    depths = range(2, min(11, found.period) + 1)
    steps = found.replicas.steps
    held = [pairs_are_outside_in(steps[:, depth - 1, :depth]).mean() for depth in depths]
    published = min(found.starts, key=lambda start: abs(start.scaled - 1.7))
    layers = min(8, found.period)
    checks = [
        Check.at_least(
            f"share of trainings with pairs outside-in, smallest over T = 2 … {depths[-1]}",
            0.9,
            min(held),
            EARLIER,
        ),
        Check.at_least(
            f"share of inner layers where the steps turn, median, T = {found.period}",
            RANDOM_TURNS,
            np.median(share_of_turns(steps[:, -1])),
            PAPER,
            "that of a random order",
        ),
        Check.at_least(
            f"from 1.7/b: share of layers in the predicted place, mean, T = {layers}",
            0.5,
            published.foreseen.mean(),
            THEORY,
            f"{1 / layers:.2f} in random order",
        ),
    ]
    if layers == 8:
        paired = sum(start.paired.sum() for start in found.starts if start.scaled < 1)
        checks.append(
            Check.count(
                "from below 1/b: trainings with pairs outside-in, T = 8", 0, paired, EARLIER
            )
        )
    if found.period >= 11:
        checks += [
            Check.at_least(f"{name} spectra, T = 11: least turns", 0.5, other.turns.min(), EARLIER)
            for name, other in found.others.items()
        ]
    return checks


def _published_depth_checks(found: Findings) -> list[Check]:
    first = found.owner == 0
    order = ("optimal", "Chebyshev", LEARNED, "constant (GD)")
    rows = [
        found.errors[name] if name == LEARNED else found.errors[name][found.owner] for name in order
    ]
    ascending = np.all([low < high for low, high in itertools.pairwise(rows)], axis=0)
    total = len(found.replicas)
    learned, radius = (np.median(each[LEARNED][first]) for each in (found.errors, found.radii))
    peak = found.paths[LEARNED].max(axis=1).min()
    return [
        Check(
            "learned MSE, median over seeds, first matrix",
            "3.9e-7 (2.5e-7 to 8e-7)",
            float(learned),
            2.5e-7,
            8e-7,
            EARLIER,
        ),
        Check.at_least(
            "learned MSE over the optimum, smallest of all", 20, found.surplus.min(), EARLIER
        ),
        Check.at_most(
            "learned MSE over the optimum, largest of all", 120, found.surplus.max(), EARLIER
        ),
        Check(
            "learned spectral radius, median over seeds, first matrix",
            "7.1e-3 to 7.8e-3",
            float(radius),
            6.5e-3,
            8.5e-3,
            EARLIER,
        ),
        Check.count(
            f"of {total} trainings, MSE optimal < Chebyshev < learned < constant",
            total,
            ascending.sum(),
            PAPER,
        ),
        Check.at_least("largest MSE on the way, smallest of all trainings", 1e4, peak, PAPER),
    ]
