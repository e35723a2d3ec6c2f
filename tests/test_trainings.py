"""What is said of many trainings: medians, ranges, orders."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from stepfold import SpectralMeasure, optimal_steps
from stepfold.lab.curves import median_curve
from stepfold.lab.experiments import EXPERIMENTS
from stepfold.lab.experiments._trainings import (
    pairs_are_outside_in,
    predicted_ranks,
    ranks,
    share_of_turns,
    spread,
)
from stepfold.schedules.ordering import outside_in_order

UNIFORM = SpectralMeasure.from_eigenvalues(np.linspace(0.2, 5.8, 200))


def test_a_training_that_diverged_counts_as_infinite() -> None:
    assert spread([1.0, np.nan, np.inf]) == "inf (1 to inf)"
    curve = median_curve("c", [1.0, 2.0], np.array([[1.0, 2.0], [3.0, np.nan], [2.0, 4.0]]))
    assert curve.y.tolist() == [2.0, 4.0]
    assert curve.band[0].tolist() == [1.0, 2.0]
    np.testing.assert_array_equal(curve.band[1], [3.0, np.nan])


def test_in_a_random_order_two_of_three_inner_layers_turn() -> None:
    orders = np.array(list(itertools.permutations(range(6))), dtype=float)
    assert share_of_turns(orders).mean() == pytest.approx(2 / 3, rel=1e-12)


@pytest.mark.parametrize("size", [2, 5, 8])
def test_pairs_are_outside_in_whichever_comes_first(size) -> None:
    steps = np.arange(1.0, size + 1)[outside_in_order(np.arange(size))]
    swapped = steps.copy()
    swapped[:2] = swapped[1::-1]
    assert pairs_are_outside_in(np.array([steps, swapped])).all()
    if size > 2:
        steps[[1, 2]] = steps[[2, 1]]
        assert not pairs_are_outside_in(steps[None])[0]


def test_ranks_are_places_in_ascending_order() -> None:
    assert ranks(np.array([[0.3, 0.1, 0.2]])).tolist() == [[2, 0, 1]]


@pytest.mark.parametrize("period", range(1, 12))
def test_optimal_steps_interlace_from_one_number_of_layers_to_the_next(period) -> None:
    inner, outer = (np.sort(optimal_steps(UNIFORM, t).steps) for t in (period, period + 1))
    assert (outer[:-1] < inner).all()
    assert (inner < outer[1:]).all()


def test_from_a_step_below_all_others_the_first_layer_stays_the_longest() -> None:
    assert predicted_ranks([UNIFORM], 5, 0.1).tolist() == [[4, 3, 2, 1, 0]]
    assert predicted_ranks([UNIFORM], 5, 10.0).tolist() == [[0, 1, 2, 3, 4]]


def test_from_a_step_in_the_middle_pairs_are_outside_in() -> None:
    # 1/3 is the reciprocal of the spectrum's mean, to the left of the middle step of every stage.
    order = predicted_ranks([UNIFORM], 8, 1 / 3)
    assert pairs_are_outside_in(order.astype(float)).all()


@pytest.mark.parametrize("seed", range(4))
def test_steps_do_not_overtake_each_other_in_a_gradient_flow(seed) -> None:
    steps = np.random.default_rng(seed).uniform(0.1, 1.0, 5)
    order, first = np.argsort(steps), _error(steps)
    for _ in range(20_000):
        factors = 1 - steps[:, None] * UNIFORM.nodes
        slopes = -2 * (factors.prod(0) ** 2 * UNIFORM.nodes / factors).mean(1)
        steps = steps - 1e-3 * slopes / max(1.0, np.abs(slopes).max())
    assert _error(steps) < first
    assert np.argsort(steps).tolist() == order.tolist()


def _error(steps: np.ndarray) -> float:
    return float((np.prod(1 - steps[:, None] * UNIFORM.nodes, axis=0) ** 2).mean())


def test_the_radius_experiment_shows_its_counterexamples_in_small() -> None:
    experiment = EXPERIMENTS["spectral_radius"]
    outcome = experiment.run(experiment.values({"period": 8}, quick=True))
    measured = {check.claim: check.measured for check in outcome.checks}
    assert outcome.passed
    assert measured["errors ∝ (HᵀH)²: smallest n·MSE/ρ² over T"] < 0.5
    assert measured["its ρ at the end over that at the start"] > 2
