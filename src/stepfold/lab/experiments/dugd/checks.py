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
    size = found.measures[0].nodes.size
    total = len(found.replicas)
    return [
        Check(
            f"of {total} trainings, those that diverged",
            "0",
            int(found.diverged.sum()),
            0,
            0,
            THEORY,
        ),
        Check(
            "smallest learned MSE over the optimum",
            "at least 1: nothing beats the optimum",
            float(found.surplus.min()),
            lower=1 - 1e-9,
            source=THEORY,
        ),
        Check(
            "largest MSE/ρ², every mini-batch",
            "at most 1",
            float(np.nanmax(path / radii**2)),
            0,
            1 + 1e-9,
            THEORY,
        ),
        Check(
            "largest ρ²/(n·MSE), every mini-batch",
            "at most 1",
            float(np.nanmax(radii**2 / (size * path))),
            0,
            1 + 1e-9,
            THEORY,
        ),
    ]


def _training_checks(found: Findings) -> list[Check]:
    ends = found.replicas.mean_squared_error_path[:, :5, -1]
    law = [marchenko_pastur_mean_squared_error(0.5, t + 1) for t in range(ends.shape[1])]
    deviation = np.median(np.abs(ends / law - 1).max(axis=1))
    learned, owner = found.errors[LEARNED], found.owner
    return [
        Check(
            "deviation of the MSE from (1−c)cᵗ/(1−cᵗ⁺¹), c = ½, t ≤ 5, median of trainings",
            "within 0.1 (the law is of infinitely large matrices)",
            float(deviation),
            0,
            0.1,
            THEORY,
        ),
        Check(
            "largest learned MSE over that of constant steps",
            "below 1",
            float((learned / found.errors["constant (GD)"][owner]).max()),
            0,
            1,
            PAPER,
        ),
    ]


def _order_checks(found: Findings) -> list[Check]:
    depths = range(2, min(11, found.period) + 1)
    steps = found.replicas.steps
    held = [pairs_are_outside_in(steps[:, depth - 1, :depth]).mean() for depth in depths]
    last = [start for start in found.starts if start.scaled < 1]
    published = min(found.starts, key=lambda start: abs(start.scaled - 1.7))
    layers = min(8, found.period)
    return [
        Check(
            f"share of trainings with pairs outside-in, smallest over T = 2 … {depths[-1]}",
            "at least 0.9",
            float(min(held)),
            0.9,
            1,
            EARLIER,
        ),
        Check(
            f"share of inner layers where the steps turn, median, T = {found.period}",
            f"above {RANDOM_TURNS:.2f}, that of a random order",
            float(np.median(share_of_turns(steps[:, -1]))),
            RANDOM_TURNS + 1e-9,
            1,
            PAPER,
        ),
        Check(
            f"from 1.7/b: share of layers in the predicted place, mean, T = {layers}",
            f"at least 0.5; {1 / layers:.2f} in random order",
            float(published.foreseen.mean()),
            0.5,
            1,
            THEORY,
        ),
        Check(
            f"from below 1/b: trainings with pairs outside-in, T = {layers}",
            "0: no zig-zag",
            int(sum(start.paired.sum() for start in last)),
            0,
            0 if layers == 8 else len(found.replicas) * len(last),
            EARLIER,
        ),
        *(
            Check(
                f"{name} spectra: smallest share of turns over trainings, T = {layers_of_others}",
                "at least 0.5",
                float(other.turns.min()),
                0.5,
                1,
                EARLIER,
            )
            for layers_of_others in [min(11, found.period)]
            for name, other in found.others.items()
            if layers_of_others == 11
        ),
    ]


def _published_depth_checks(found: Findings) -> list[Check]:
    published = found.owner == 0
    learned, radii = found.errors[LEARNED][published], found.radii[LEARNED][published]
    order = ("optimal", "Chebyshev", LEARNED, "constant (GD)")
    rows = [
        found.errors[name] if name == LEARNED else found.errors[name][found.owner] for name in order
    ]
    ascending = np.all([low < high for low, high in itertools.pairwise(rows)], axis=0)
    total = len(found.replicas)
    return [
        Check(
            "learned MSE, median over seeds, first matrix",
            "3.9e-7 (2.5e-7 to 8e-7)",
            float(np.median(learned)),
            2.5e-7,
            8e-7,
            EARLIER,
        ),
        Check(
            "learned MSE over the optimum, smallest of all",
            "at least 20",
            float(found.surplus.min()),
            20,
            200,
            EARLIER,
        ),
        Check(
            "learned MSE over the optimum, largest of all",
            "at most 120",
            float(found.surplus.max()),
            20,
            120,
            EARLIER,
        ),
        Check(
            "learned spectral radius, median over seeds, first matrix",
            "7.1e-3 to 7.8e-3",
            float(np.median(radii)),
            6.5e-3,
            8.5e-3,
            EARLIER,
        ),
        Check(
            f"of {total} trainings, MSE optimal < Chebyshev < learned < constant",
            f"{total}: all",
            int(ascending.sum()),
            total,
            total,
            PAPER,
        ),
        Check(
            "largest MSE on the way, smallest of all trainings",
            "above 1e4",
            float(found.paths[LEARNED].max(axis=1).min()),
            1e4,
            source=PAPER,
        ),
    ]
