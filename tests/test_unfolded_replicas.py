"""Many trainings at once: each is the training that backpropagation does alone."""

from __future__ import annotations

import numpy as np
import pytest

from stepfold import Schedule, SpectralMeasure, optimal_steps
from stepfold.polynomial import mean_squared_error, spectral_radius
from stepfold.unfolded import SpectralLoss, UnfoldedIteration, train_incrementally
from stepfold.unfolded.replicas import train_replicas

MEASURES = [
    SpectralMeasure.from_eigenvalues(np.linspace(0.2, 5.0, 12)),
    SpectralMeasure.from_eigenvalues(np.geomspace(0.1, 4.0, 12)),
    SpectralMeasure(np.linspace(0.5, 2.0, 12), np.linspace(1.0, 3.0, 12)),
]
SEEDS = [3, 8]


@pytest.fixture(scope="module")
def found():
    return train_replicas(MEASURES, 3, SEEDS, num_iterations=60, batch_size=20)


@pytest.mark.parametrize("index", range(6))
def test_each_is_the_training_by_backpropagation_alone(found, index) -> None:
    # Few mini-batches, for rounding grows: after thousands the two would be two draws.
    network = UnfoldedIteration(Schedule(np.full(3, 0.3)))
    loss = SpectralLoss(MEASURES[index // 2], batch_size=20)
    alone = train_incrementally(network, loss, num_iterations=60, seed=SEEDS[index % 2])
    run = found.run(index)
    np.testing.assert_allclose(run.history.steps, alone.history.steps, rtol=1e-9)
    np.testing.assert_allclose(run.history.losses, alone.history.losses, rtol=1e-9)
    assert (run.seed, run.finished) == (alone.seed, True)
    assert run.schedule.steps.tolist() == run.history.steps[-1].tolist()


def test_error_and_radius_on_the_way_are_those_of_the_steps(found) -> None:
    for index, stage in np.ndindex(6, 3):
        measure, steps = MEASURES[index // 2], found.steps[index, stage, : stage + 1]
        error, radius = mean_squared_error(steps, measure), spectral_radius(steps, measure.nodes)
        assert found.mean_squared_error_path[index, stage, -1] == pytest.approx(error, rel=1e-12)
        assert found.spectral_radii[index, stage, -1] == pytest.approx(radius, rel=1e-12)


def test_a_stage_begins_where_the_one_before_it_ended(found) -> None:
    for index, stage in np.ndindex(6, 2):
        steps = [*found.steps[index, stage, : stage + 1], 0.3]
        error = mean_squared_error(steps, MEASURES[index // 2])
        begin = found.mean_squared_error_path[index, stage + 1, 0]
        assert begin == pytest.approx(error, rel=1e-12)


def test_few_layers_reach_the_optimum_with_every_seed() -> None:
    found = train_replicas(MEASURES[0], 2, range(4), num_iterations=1500)
    best = mean_squared_error(optimal_steps(MEASURES[0], 2), MEASURES[0])
    ratios = found.mean_squared_error_path[:, -1, -1] / best
    assert (ratios >= 1 - 1e-12).all()
    assert (ratios < 1.01).all()


def test_more_mini_batches_than_are_drawn_ahead_give_the_same_draws() -> None:
    short = train_replicas(MEASURES[0], 1, [5], num_iterations=20)
    long = train_replicas(MEASURES[0], 1, [5], num_iterations=130)
    np.testing.assert_allclose(short.losses[0, 0], long.losses[0, 0, :20], rtol=1e-12)


def test_a_training_that_diverges_stops_and_leaves_the_others_alone() -> None:
    # The errors of the second overflow at once; those of the first do not notice.
    huge = SpectralMeasure.from_eigenvalues(np.linspace(1e160, 2e160, 12))
    found = train_replicas([MEASURES[0], huge], 2, [0, 1], num_iterations=40)
    alone = train_replicas(MEASURES[0], 2, [0, 1], num_iterations=40)
    assert found.diverged.tolist() == [False, False, True, True]
    assert found.num_stages.tolist() == [2, 2, 0, 0]
    np.testing.assert_allclose(found.steps[:2], alone.steps, rtol=1e-12)
    assert np.isnan(found.steps[2:]).all()
    assert np.isinf(found.losses[2:, 0, 0]).all()
    assert np.isnan(found.losses[2:, 0, 1:]).all()
    with pytest.raises(ValueError, match="training 2 diverged in its first stage"):
        found.run(2)


def test_a_step_that_hits_an_eigenvalue_exactly_has_a_slope() -> None:
    # 1 − γλ is 0 at the start: p² and its slope are 0 there, and nothing is divided by it.
    measure = SpectralMeasure.from_eigenvalues([1.0, 2.0, 4.0])
    found = train_replicas(measure, 1, [0], num_iterations=400, initial_step=0.5)
    assert found.steps[0, 0, 0] == pytest.approx(optimal_steps(measure, 1).steps[0], rel=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measures": []}, "`measures` and `seeds` must hold at least one each"),
        ({"seeds": []}, "`measures` and `seeds` must hold at least one each"),
        ({"seeds": [-1]}, "`seeds` must be an integer of at least 0"),
        ({"num_layers": 0}, "`num_layers` must be an integer of at least 1"),
        ({"num_iterations": 0}, "`num_iterations` must be an integer of at least 1"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1"),
        ({"initial_step": 0.0}, "`initial_step` must be"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be"),
        (
            {"measures": [MEASURES[0], SpectralMeasure.from_eigenvalues([1.0])]},
            r"equally many eigenvalues, got \[1, 12\]",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(changes, message) -> None:
    arguments = {"measures": MEASURES[0], "num_layers": 1, "seeds": [0], "num_iterations": 2}
    with pytest.raises(ValueError, match=message):
        train_replicas(**{**arguments, **changes})
