"""Periods: what one does, and what it does to every eigenvalue of ``B = I − J``."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold._typing import FloatArray
from stepfold.polynomial import chebyshev_period_rate
from stepfold.schedules import Schedule, chebyshev_steps
from stepfold.spectrum import SpectralBounds
from stepfold.spectrum.ellipse import Ellipse

NUM_SAMPLES = 128


@dataclass(frozen=True, eq=False)
class Period:
    """T steps ``x ← x + ωₜ r + βₜ (x − x_previous)``, r = f(x) − x.

    Args:
        schedule: The relaxations ωₜ.
        momenta: βₜ, all 0 but on an ellipse; shape (T,).
        growth: Largest |p| on the region after each step, shape (T,): how far the residual may
            rise on the way.
        factor: Largest |p| at the end of the period on the region it was made for.
        is_plain: Whether it is T steps of the map itself, which needs no guard.
    """

    schedule: Schedule
    momenta: FloatArray
    growth: FloatArray
    factor: float = 1.0
    is_plain: bool = False

    def polynomial(self, eigenvalues: Any) -> Any:
        """Residual polynomial of the whole period at each eigenvalue of B."""
        return _polynomials(self.schedule.steps, self.momenta, eigenvalues)[-1]

    def polynomials(self, eigenvalues: Any) -> Any:
        """Residual polynomial after each step."""
        return _polynomials(self.schedule.steps, self.momenta, eigenvalues)

    @property
    def advance(self) -> float:
        """Plain steps that this does for an eigenvalue of B near 0: minus p'(0)."""
        return float(self.moves.sum())

    @functools.cached_property
    def moves(self) -> FloatArray:
        """``xⱼ₊₁ − xⱼ`` as combinations of the residuals, shape (T, T)."""
        moves = np.diag(self.schedule.steps)
        for j in range(1, self.schedule.period):
            moves[j] += self.momenta[j] * moves[j - 1]
        return moves


def plain_period(period: int) -> Period:
    """``period`` steps of the map itself, ω = 1."""
    zeros = np.zeros(period)
    schedule = Schedule(np.ones(period), "plain", bounds=None)
    return Period(schedule, zeros, np.full(period, math.inf), is_plain=True)


def chebyshev_period(bounds: SpectralBounds, period: int) -> Period:
    """One period of Chebyshev relaxation."""
    schedule = chebyshev_steps(bounds, period)
    return Period(
        schedule,
        np.zeros(period),
        _growth(schedule, bounds),
        factor=chebyshev_period_rate(bounds, period),
    )


def scheduled_period(schedule: Schedule, room: int) -> Period:
    """One period of a schedule that is given, cut short where there is no room for it."""
    bounds = schedule.bounds
    if room < schedule.period:
        schedule = Schedule(schedule.steps[:room], schedule.name)
    period = schedule.period
    growth = np.full(period, math.inf) if bounds is None else _growth(schedule, bounds)
    return Period(schedule, np.zeros(period), growth)


def _growth(schedule: Schedule, bounds: SpectralBounds) -> FloatArray:
    samples = np.linspace(0, bounds.upper, NUM_SAMPLES + 1)[1:]
    polynomials = _polynomials(schedule.steps, np.zeros(schedule.period), samples)
    growth: FloatArray = np.abs(polynomials).max(axis=1)
    return growth


def elliptic_period(ellipse: Ellipse, period: int) -> Period:
    """``period`` steps of Chebyshev's iteration on an ellipse."""
    # With d the centre and ω₁ = 1, ω₂, … of the semi-iteration, whose σ² is c²/d²:
    # x_next = previous + ωₖ (x + r/d − previous) = x + (ωₖ/d) r + (ωₖ − 1)(x − previous).
    square = ellipse.focal_square / ellipse.center**2
    omegas = np.ones(period)
    for k in range(1, period):
        omegas[k] = 1 / (1 - square * omegas[k - 1] / (2 if k == 1 else 4))
    steps = omegas / ellipse.center
    angles = np.linspace(0, np.pi, NUM_SAMPLES)
    boundary = (
        ellipse.center
        + ellipse.real_axis * np.cos(angles)
        + 1j * ellipse.imaginary_axis * np.sin(angles)
    )
    growth = np.abs(_polynomials(steps, omegas - 1, boundary)).max(axis=1)
    return Period(Schedule(steps, "elliptic"), omegas - 1, growth, float(growth[-1]))


def _polynomials(steps: FloatArray, momenta: FloatArray, eigenvalues: Any) -> Any:
    """Residual polynomial after each step, shape (T, …)."""
    eigenvalues = np.asarray(eigenvalues)
    current = previous = np.ones(eigenvalues.shape, dtype=eigenvalues.dtype)
    rows = []
    for step, momentum in zip(steps, momenta, strict=True):
        current, previous = (
            current - step * eigenvalues * current + momentum * (current - previous),
            current,
        )
        rows.append(current)
    return np.stack(rows)
