"""Every experiment in its small version, and all of them in full."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stepfold.lab import Figure, Outcome
from stepfold.lab.experiments import EXPERIMENTS


@pytest.fixture(scope="module", params=sorted(EXPERIMENTS))
def outcome(request) -> Outcome:
    experiment = EXPERIMENTS[request.param]
    return experiment.run(experiment.values(quick=True))


def _failed(outcome: Outcome) -> list[str]:
    return [f"{check.claim}: {check.measured:.4g}" for check in outcome.checks if not check.passed]


def test_the_small_version_passes_its_checks(outcome) -> None:
    assert outcome.checks
    assert _failed(outcome) == []


def test_claims_are_told_apart(outcome) -> None:
    claims = [check.claim for check in outcome.checks]
    assert len(set(claims)) == len(claims)


def test_an_outcome_survives_json(outcome) -> None:
    text = json.dumps(outcome.to_dict(), allow_nan=False)
    assert Outcome.from_dict(json.loads(text)).to_dict() == json.loads(text)


def test_figures_show_something_and_say_what(outcome) -> None:
    assert outcome.figures
    for figure in outcome.figures:
        assert len(figure.alt) > 30
        if isinstance(figure, Figure):
            assert all(np.isfinite(curve.y).any() for curve in figure.curves)
            assert len({curve.label for curve in figure.curves}) == len(figure.curves)
            # A legend of longer names is cut off at its sides.
            assert max(len(curve.label) for curve in figure.curves) <= 48


# Those in which something is known of the solution beside the data: few non-zeros, signs, a box.
WITH_PRIOR = (
    "admm",
    "binary_least_squares",
    "box_least_squares",
    "deblurring",
    "lasso",
    "learned_ista",
    "mimo_detection",
    "mri",
    "tista",
    "tomography",
)


@pytest.mark.parametrize("outcome", WITH_PRIOR, indirect=True)
def test_beside_a_prior_stand_chebyshev_steps_in_figure_and_table(outcome) -> None:
    section = outcome.sections[0]
    assert "chebyshev" in {curve.role for curve in section.figure.curves}
    assert any("Chebyshev steps" in row[0] for row in section.table.rows)


def test_the_story_is_complete(outcome) -> None:
    assert outcome.summary.endswith(".")
    assert "nan" not in outcome.summary.split()
    assert all(section.paragraphs for section in outcome.sections)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_the_full_version_passes_its_checks(name) -> None:
    outcome = EXPERIMENTS[name].run()
    assert outcome.name == name
    assert _failed(outcome) == []
