"""Experiments with trained networks: small versions always, published settings as slow tests."""

from __future__ import annotations

import pytest

from stepfold.lab.experiments import EXPERIMENTS

NAMES = (
    "binary_least_squares",
    "box_least_squares",
    "consensus",
    "deblurring",
    "learned_ista",
    "learned_sor",
    "mimo_detection",
    "noisy_dugd",
    "tista",
)


def failed(outcome) -> list[str]:
    return [f"{c.claim}: {c.measured:.4g}" for c in outcome.checks if not c.passed]


@pytest.mark.parametrize("name", NAMES)
def test_the_small_version_passes_its_checks(name) -> None:
    entry = EXPERIMENTS[name]
    outcome = entry.run(entry.values(quick=True))
    assert failed(outcome) == []
    assert outcome.name == name
    assert len(outcome.checks) >= 2
    assert outcome.figures


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_the_published_settings_pass_their_checks(name) -> None:
    assert failed(EXPERIMENTS[name].run()) == []
