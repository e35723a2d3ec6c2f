"""What an experiment returns: a story in sections, figures and tables as data, and checks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from stepfold._checks import check_instance, check_items, check_real
from stepfold._codec import JsonRecord, to_json
from stepfold.lab.figure import Figure
from stepfold.lab.formula import Formula
from stepfold.lab.picture import Pictures
from stepfold.lab.sources import Source


@dataclass(frozen=True)
class Check(JsonRecord):
    """A claim with the number that decides it.

    Args:
        claim: What is claimed, in words.
        expected: The published or derived value, in words or digits.
        measured: The number computed here.
        lower: Smallest number that passes.
        upper: Largest number that passes.
        source: Where the expected value is from: the paper, theory, an earlier run.

    Raises:
        ValueError: If every number, or none, would pass.

    >>> Check("the rate is below 1", "below 1", 0.5, upper=1.0).passed
    True
    """

    derived: ClassVar = ("passed",)

    claim: str
    expected: str
    measured: float
    lower: float = -math.inf
    upper: float = math.inf
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("measured", "lower", "upper"):
            check_real(name, getattr(self, name))
        if not self.lower <= self.upper or self.lower == -math.inf == -self.upper:
            raise ValueError(
                "a check must be able to fail: `lower` <= `upper`, not both infinite, "
                f"got {self.lower!r} and {self.upper!r}"
            )

    @classmethod
    def close(
        cls, claim: str, expected: float, measured: float, *, rtol: float, source: str = ""
    ) -> Check:
        """Passes within ``rtol`` of the positive number ``expected``."""
        low, high = expected * (1 - rtol), expected * (1 + rtol)
        return cls(claim, f"{expected:.10g}", measured, low, high, source)

    @classmethod
    def at_most(
        cls, claim: str, limit: float, measured: Any, source: str = "", why: str = ""
    ) -> Check:
        """Passes up to ``limit``, rounding of 1e-9 aside; ``why`` is said after it.

        >>> Check.at_most("share", 1, 0.5, "theory", "a share").expected
        'at most 1: a share'
        """
        upper = limit + 1e-9 * abs(limit)
        return cls(claim, _worded("at most", limit, why), float(measured), -math.inf, upper, source)

    @classmethod
    def at_least(
        cls, claim: str, limit: float, measured: Any, source: str = "", why: str = ""
    ) -> Check:
        """Passes from ``limit`` on, rounding of 1e-9 aside; ``why`` is said after it."""
        lower = limit - 1e-9 * abs(limit)
        return cls(claim, _worded("at least", limit, why), float(measured), lower, math.inf, source)

    @classmethod
    def below(
        cls, claim: str, limit: float, measured: Any, source: str = "", why: str = ""
    ) -> Check:
        """Passes up to ``limit``; ``why`` is said after it."""
        words = _worded("below", limit, why)
        return cls(claim, words, float(measured), upper=limit, source=source)

    @classmethod
    def above(
        cls, claim: str, limit: float, measured: Any, source: str = "", why: str = ""
    ) -> Check:
        """Passes from ``limit`` on; ``why`` is said after it."""
        words = _worded("above", limit, why)
        return cls(claim, words, float(measured), lower=limit, source=source)

    @classmethod
    def count(cls, claim: str, expected: int, measured: Any, source: str = "") -> Check:
        """Passes if the number is the expected one exactly."""
        return cls(claim, str(expected), float(measured), expected, expected, source)

    @property
    def passed(self) -> bool:
        """Whether the number lies between the limits; NaN does not."""
        return bool(self.lower <= self.measured <= self.upper)

    @property
    def verdict(self) -> str:
        """ "pass" or "FAIL"."""
        return "pass" if self.passed else "FAIL"


@dataclass(frozen=True)
class Table(JsonRecord):
    """Rows of text under headings.

    Raises:
        ValueError: If a row has not as many cells as there are columns.

    >>> Table(("T", "rate"), (("2", "0.22"),)).columns
    ('T', 'rate')
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        columns = tuple(check_items("columns", self.columns, "headings"))
        rows = [
            tuple(check_items("rows", row, "cells"))
            for row in check_items("rows", self.rows, "rows")
        ]
        for row in rows:
            if len(row) != len(columns):
                raise ValueError(
                    f"a row must have {len(columns)} cells, as many as `columns`, got {row!r}"
                )
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "rows", tuple(rows))


@dataclass(frozen=True)
class Section(JsonRecord):
    """A heading, paragraphs, and what illustrates them.

    Args:
        heading: A few words.
        paragraphs: Plain text, nothing in it is taken for markup; a `Formula` between two
            paragraphs stands on a line of its own.
        figure: Curves or pictures.
        table: Comes before the figure.
        caption: What the figure shows, in plain text; said where the figure is, and nowhere else.

    >>> Section("What was found", ("The steps zig-zag.",)).heading
    'What was found'
    """

    heading: str
    paragraphs: tuple[str | Formula, ...]
    figure: Figure | Pictures | None = None
    table: Table | None = None
    caption: str = ""


@dataclass(frozen=True, eq=False)
class Outcome(JsonRecord):
    """Everything an experiment found.

    Args:
        title: Title of the report.
        summary: What was found, in a few sentences.
        sections: The story, in order.
        checks: Claims that were tested.
        parameters: Settings and facts to show, by name; JSON values. `Experiment.run` puts those of
            the experiment before them.
        records: Data to keep, by path below the run's folder without ".json": JSON values, arrays,
            and records such as a `Schedule`, which become JSON values.
        name: What was run; `Experiment.run` fills in the experiment's name.
        source: Which part of which paper is reproduced; `Experiment.run` fills in the experiment's.

    Raises:
        ValueError: If two figures have one name, or the path of a record leads elsewhere.

    >>> check = Check("the rate is below 1", "below 1", 0.5, upper=1.0)
    >>> Outcome("A title", "A summary.", (), (check,)).passed
    True
    """

    derived: ClassVar = ("passed",)

    title: str
    summary: str
    sections: Sequence[Section]
    checks: Sequence[Check] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    records: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    source: Source | None = None

    def __post_init__(self) -> None:
        for section in check_items("sections", self.sections, "Section"):
            check_instance("sections", section, Section, "as `Section(heading, paragraphs)`")
        names = [figure.name for figure in self.figures]
        if len(set(names)) < len(names):
            raise ValueError(f"figures must have different names, got {', '.join(names)}")
        check_instance("records", self.records, Mapping, "as `{path: record}`")
        object.__setattr__(self, "records", to_json(self.records))
        for path in self.records:
            if not re.fullmatch(r"[\w-]+(/[\w-]+)*", path):
                raise ValueError(
                    "a record's path must be names of letters, digits, - and _ with / between "
                    f"them, got {path!r}"
                )
            if path == "outcome" or path.startswith("figures/"):
                raise ValueError(f"a record's path must not be one of the run's own, got {path!r}")

    @property
    def figures(self) -> list[Figure | Pictures]:
        """Figures of all sections, in order."""
        return [section.figure for section in self.sections if section.figure is not None]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def digest(self) -> dict[str, Any]:
        """Return what was tested, with which settings, and what came out, ready for JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "summary": self.summary,
            "source": to_json(self.source),
            "passed": self.passed,
            "parameters": dict(self.parameters),
            "checks": to_json(self.checks),
        }


def _worded(words: str, limit: float, why: str) -> str:
    return f"{words} {limit:g}" + (f": {why}" if why else "")
