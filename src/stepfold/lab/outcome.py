"""What an experiment returns: a story in sections, figures and tables as data, and checks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stepfold.lab.figure import Figure


@dataclass(frozen=True)
class Check:
    """A claim with the number that decides it.

    Args:
        claim: What is claimed, in words.
        expected: The published or derived value, in words or digits.
        measured: The number computed here.
        lower: Smallest number that passes.
        upper: Largest number that passes.
    """

    claim: str
    expected: str
    measured: float
    lower: float = -math.inf
    upper: float = math.inf

    def __post_init__(self) -> None:
        if not self.lower <= self.upper or self.lower == -math.inf == -self.upper:
            raise ValueError(
                "a check must be able to fail: `lower` <= `upper`, not both infinite, "
                f"got {self.lower!r} and {self.upper!r}"
            )

    @classmethod
    def close(cls, claim: str, expected: float, measured: float, *, rtol: float) -> Check:
        """Passes within ``rtol`` of the positive number ``expected``."""
        return cls(
            claim, f"{expected:.10g}", measured, expected * (1 - rtol), expected * (1 + rtol)
        )

    @property
    def passed(self) -> bool:
        """Whether the number lies between the limits; NaN does not."""
        return bool(self.lower <= self.measured <= self.upper)

    @property
    def verdict(self) -> str:
        """ "pass" or "FAIL"."""
        return "pass" if self.passed else "FAIL"

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain Python values; what is not finite becomes None."""
        return {
            "claim": self.claim,
            "expected": self.expected,
            "measured": self.measured if math.isfinite(self.measured) else None,
            "lower": self.lower if math.isfinite(self.lower) else None,
            "upper": self.upper if math.isfinite(self.upper) else None,
            "passed": self.passed,
        }


@dataclass(frozen=True)
class Table:
    """Rows of text under headings."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row must have {len(self.columns)} cells, got {row!r}")


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs of plain text, and what illustrates them."""

    heading: str
    paragraphs: tuple[str, ...]
    figure: Figure | None = None
    table: Table | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """Everything an experiment found.

    Args:
        name: The experiment's name.
        title: Title of the report.
        summary: What was found, in a few sentences.
        sections: The story, in order.
        checks: Claims that were tested.
        parameters: Settings, by name; JSON values.
        records: Data to keep, by path below the run's folder without ".json"; JSON values.

    Raises:
        ValueError: If two figures have one name, or the path of a record leads elsewhere.
    """

    name: str
    title: str
    summary: str
    sections: Sequence[Section]
    checks: Sequence[Check] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    records: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [figure.name for figure in self.figures]
        if len(set(names)) < len(names):
            raise ValueError(f"figures must have different names, got {', '.join(names)}")
        for path in self.records:
            if not re.fullmatch(r"[\w-]+(/[\w-]+)*", path):
                raise ValueError(
                    "a record's path must be names of letters, digits, - and _ with / between "
                    f"them, got {path!r}"
                )

    @property
    def figures(self) -> list[Figure]:
        """Figures of all sections, in order."""
        return [section.figure for section in self.sections if section.figure is not None]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return what was tested and with which settings, ready for JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "summary": self.summary,
            "passed": self.passed,
            "parameters": dict(self.parameters),
            "checks": [check.to_dict() for check in self.checks],
        }
