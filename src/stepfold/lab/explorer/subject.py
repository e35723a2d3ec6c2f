"""What a page is about: a measured spectrum, the steps of a run, or neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stepfold.measure import SpectralMeasure
from stepfold.schedules import Schedule
from stepfold.spectrum import SpectralBounds

LONGEST = 64
"""Longest period that a page offers."""
MOST_NODES = 1000
"""Most eigenvalues with which a page still reacts at once."""


@dataclass(frozen=True, eq=False)
class MeasuredSpectrum:
    """A spectrum that came from the user's data.

    Args:
        measure: Eigenvalues above 0 and their weights, at most `MOST_NODES`.
        bounds: Interval to make Chebyshev steps for.
        note: How it was found, for people to read.
        lines: Python lines that define ``measure`` and ``bounds`` anew.

    Raises:
        ValueError: If ``measure`` has too many nodes, or one at 0.

    >>> measure, bounds = SpectralMeasure([1.0, 2.0], [0.5, 0.5]), SpectralBounds(1.0, 2.0)
    >>> MeasuredSpectrum(measure, bounds, "given", ()).note
    'given'
    """

    measure: SpectralMeasure
    bounds: SpectralBounds
    note: str
    lines: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.measure.nodes.size > MOST_NODES or self.measure.nodes[0] == 0:
            raise ValueError(
                f"`measure` must have at most {MOST_NODES} nodes, all above 0, got "
                f"{self.measure.nodes.size} from {self.measure.nodes[0]!r} on"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the record as the page reads it."""
        return {
            "nodes": self.measure.nodes.tolist(),
            "weights": self.measure.weights.tolist(),
            "lower": self.bounds.lower,
            "upper": self.bounds.upper,
            "lines": list(self.lines),
        }


@dataclass(frozen=True, eq=False)
class LearnedSteps:
    """Steps of a run.

    Args:
        name: What to call the run.
        schedule: Its steps after training.
        by_length: Steps that the training had found when it was T layers deep, by T.

    >>> from stepfold import Schedule
    >>> LearnedSteps("mine", Schedule([0.5, 1.0])).schedule.period
    2
    """

    name: str
    schedule: Schedule
    by_length: Mapping[int, Sequence[float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as the page reads it."""
        return {
            "name": self.name,
            "steps": list(self.schedule),
            "by_length": {str(length): list(steps) for length, steps in self.by_length.items()},
        }


@dataclass(frozen=True, eq=False)
class Subject:
    """What a page is about.

    Args:
        title: One line for the page's head.
        measured: A spectrum to offer beside those of theory, and to start with.
        run: Learned steps to show beside the others.

    >>> Subject(title="My matrix").title
    'My matrix'
    """

    title: str = "Gradient descent with T steps that repeat, on a spectrum of your choice"
    measured: MeasuredSpectrum | None = None
    run: LearnedSteps | None = None
