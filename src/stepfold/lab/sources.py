"""Which paper, and which figure or part of it, an experiment reproduces.

A figure's number is given where it was looked up; otherwise the part is named by its subject.
"""

from __future__ import annotations

from dataclasses import dataclass

from stepfold._codec import JsonRecord


@dataclass(frozen=True)
class Paper(JsonRecord):
    """A publication.

    Args:
        citation: Authors and year.
        title: Its title.
        link: Where it is to be found; empty for none.
    """

    citation: str
    title: str
    link: str

    def __str__(self) -> str:
        return f"{self.citation}: {self.title}" if self.citation else self.title


@dataclass(frozen=True)
class Source(JsonRecord):
    """A part of a paper, in a few words."""

    paper: Paper
    part: str

    def __str__(self) -> str:
        return f"{self.paper.citation}, {self.part}" if self.paper.citation else self.part


LEARNED_STEP_SIZE = Paper(
    "Takabe and Wadayama (January 2020)",
    "Theoretical Interpretation of Learned Step Size in Deep-Unfolded Gradient Descent",
    "https://arxiv.org/abs/2001.05142",
)
CHEBYSHEV_STEP = Paper(
    "Takabe and Wadayama (October 2020)",
    "Convergence Acceleration via Chebyshev Step: Plausible Interpretation of Deep-Unfolded "
    "Gradient Descent",
    "https://arxiv.org/abs/2010.13335",
)
INERTIAL_ITERATION = Paper(
    "Wadayama and Takabe (2020)",
    "Chebyshev Inertial Iteration for Accelerating Fixed-Point Iterations",
    "https://arxiv.org/abs/2001.03280",
)
TRAINABLE_ISTA = Paper(
    "Ito, Takabe and Wadayama (2018)",
    "Trainable ISTA for Sparse Signal Recovery",
    "https://arxiv.org/abs/1801.01978",
)
SPARSE_CODING = Paper(
    "Gregor and LeCun (2010)", "Learning Fast Approximations of Sparse Coding (ICML)", ""
)
OVERLOADED_MIMO = Paper(
    "Takabe, Imanishi, Wadayama and Hayashi (2018)",
    "Deep Learning-Aided Projected Gradient Detector for Massive Overloaded MIMO Channels",
    "https://arxiv.org/abs/1806.10827",
)
STEPSIZE_HEDGING = Paper(
    "Altschuler and Parrilo (2023)",
    "Acceleration by Stepsize Hedging I and II",
    "https://arxiv.org/abs/2309.07879",
)
OWN = Paper("", "Derived and measured here", "")
# In the order in which they are listed.
PAPERS = (
    LEARNED_STEP_SIZE,
    CHEBYSHEV_STEP,
    INERTIAL_ITERATION,
    TRAINABLE_ISTA,
    SPARSE_CODING,
    OVERLOADED_MIMO,
    STEPSIZE_HEDGING,
    OWN,
)


def place(source: Source | None) -> tuple[int, str]:
    """Return what sources are sorted by: the papers of `PAPERS`, then others, then none."""
    if source is None:
        return len(PAPERS) + 1, ""
    known = source.paper in PAPERS
    return PAPERS.index(source.paper) if known else len(PAPERS), str(source.paper)
