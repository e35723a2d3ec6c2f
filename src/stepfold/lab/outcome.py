"""What an experiment returns: a story in sections, figures and tables as data, and checks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stepfold.lab._fields import (
    plain,
    read,
    read_list,
    read_number,
    read_object,
    read_text,
    read_texts,
)
from stepfold.lab.figure import Figure
from stepfold.lab.formula import Formula
from stepfold.lab.picture import Pictures, figure_from_dict


@dataclass(frozen=True)
class Check:
    """A claim with the number that decides it.

    Args:
        claim: What is claimed, in words.
        expected: The published or derived value, in words or digits.
        measured: The number computed here.
        lower: Smallest number that passes.
        upper: Largest number that passes.
        source: Where the expected value is from: the paper, theory, an earlier run.
    """

    claim: str
    expected: str
    measured: float
    lower: float = -math.inf
    upper: float = math.inf
    source: str = ""

    def __post_init__(self) -> None:
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
            "measured": plain(self.measured),
            "lower": plain(self.lower),
            "upper": plain(self.upper),
            "source": self.source,
            "passed": self.passed,
        }

    @classmethod
    def from_dict(cls, record: Any) -> Check:
        """Make a check from what `to_dict` returned; whether it passed is decided anew.

        Raises:
            ValueError: If ``record`` is not such a record.
        """
        return cls(
            read_text(record, "claim"),
            read_text(record, "expected"),
            read_number(record, "measured"),
            read_number(record, "lower", -math.inf),
            read_number(record, "upper", math.inf),
            read_text(record, "source"),
        )


@dataclass(frozen=True)
class Table:
    """Rows of text under headings."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row must have {len(self.columns)} cells, got {row!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain Python values."""
        return {"columns": list(self.columns), "rows": [list(row) for row in self.rows]}

    @classmethod
    def from_dict(cls, record: Any) -> Table:
        """Make a table from what `to_dict` returned; ValueError if ``record`` is none."""
        rows = read_list(record, "rows")
        return cls(
            read_texts(record, "columns"), tuple(read_texts({"row": r}, "row") for r in rows)
        )


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, and what illustrates them.

    Args:
        heading: A few words.
        paragraphs: Plain text, nothing in it is taken for markup; a `Formula` between two
            paragraphs stands on a line of its own.
        figure: Curves or pictures.
        table: Comes before the figure.
    """

    heading: str
    paragraphs: tuple[str | Formula, ...]
    figure: Figure | Pictures | None = None
    table: Table | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain Python values."""
        return {
            "heading": self.heading,
            "paragraphs": [
                {"latex": entry.latex} if isinstance(entry, Formula) else entry
                for entry in self.paragraphs
            ],
            "figure": None if self.figure is None else self.figure.to_dict(),
            "table": None if self.table is None else self.table.to_dict(),
        }

    @classmethod
    def from_dict(cls, record: Any) -> Section:
        """Make a section from what `to_dict` returned; ValueError if ``record`` is none."""
        figure, table = read(record, "figure"), read(record, "table")
        return cls(
            read_text(record, "heading"),
            tuple(
                Formula(read_text(entry, "latex"))
                if isinstance(entry, dict)
                else read_text({"paragraphs": entry}, "paragraphs")
                for entry in read_list(record, "paragraphs")
            ),
            None if figure is None else figure_from_dict(figure),
            None if table is None else Table.from_dict(table),
        )


@dataclass(frozen=True, eq=False)
class Outcome:
    """Everything an experiment found.

    Args:
        title: Title of the report.
        summary: What was found, in a few sentences.
        sections: The story, in order.
        checks: Claims that were tested.
        parameters: Settings and facts to show, by name; JSON values. `Experiment.run` puts those of
            the experiment before them.
        records: Data to keep, by path below the run's folder without ".json"; JSON values.
        name: What was run; `Experiment.run` fills in the experiment's name.

    Raises:
        ValueError: If two figures have one name, or the path of a record leads elsewhere.
    """

    title: str
    summary: str
    sections: Sequence[Section]
    checks: Sequence[Check] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    records: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

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
            "passed": self.passed,
            "parameters": dict(self.parameters),
            "checks": [check.to_dict() for check in self.checks],
        }

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON: `digest`, the story with its figures, the records."""
        return {
            **self.digest(),
            "sections": [section.to_dict() for section in self.sections],
            "records": dict(self.records),
        }

    @classmethod
    def from_dict(cls, record: Any) -> Outcome:
        """Make an outcome from what `to_dict` returned.

        Raises:
            ValueError: If ``record`` is not such a record.
        """
        return cls(
            read_text(record, "title"),
            read_text(record, "summary"),
            tuple(map(Section.from_dict, read_list(record, "sections"))),
            tuple(map(Check.from_dict, read_list(record, "checks"))),
            read_object(record, "parameters"),
            read_object(record, "records"),
            read_text(record, "name"),
        )
