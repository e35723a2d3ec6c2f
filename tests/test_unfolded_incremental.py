"""Incremental training: what it changes, what it leaves, what it records and where it ends."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from test_unfolded_module import HeavyBall

from stepfold import Schedule, SpectralMeasure, solve
from stepfold.lab.experiments.dugd import published_matrix
from stepfold.polynomial import mean_squared_error, optimal_mean_squared_error, spectral_radius
from stepfold.problems import LeastSquares
from stepfold.unfolded import (
    GaussianLeastSquares,
    SampledLoss,
    SpectralLoss,
    UnfoldedIteration,
    train_incrementally,
)

SMALL = SpectralMeasure.from_eigenvalues([0.5, 1.0, 2.0, 4.0])


def _train(period: int = 3, *, measure: SpectralMeasure = SMALL, **settings):
    network = UnfoldedIteration(Schedule(np.full(period, 0.3)))
    return train_incrementally(network, SpectralLoss(measure), **settings)


@pytest.fixture(scope="module")
def published() -> SpectralMeasure:
    values = np.linalg.svd(published_matrix(), compute_uv=False)
    return SpectralMeasure.from_eigenvalues(values**2)


@pytest.fixture(scope="module")
def published_run(published):
    return _train(5, measure=published, num_iterations=500)


@pytest.mark.parametrize("form", ["spectral", "sampled"])
def test_the_same_seed_gives_the_same_bits(form) -> None:
    def run(seed: int):
        sampler = GaussianLeastSquares(np.diag([1.0, 2.0, 3.0]), batch_size=5)
        loss = SampledLoss(sampler) if form == "sampled" else SpectralLoss(SMALL)
        network = UnfoldedIteration(Schedule([0.3, 0.3]))
        return train_incrementally(network, loss, num_iterations=20, seed=seed)

    first, again, other = run(7), run(7), run(8)
    assert first.schedule == again.schedule
    np.testing.assert_array_equal(first.history.losses, again.history.losses)
    assert first.schedule != other.schedule
    assert (first.history.losses != other.history.losses).all()


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_stage_leaves_later_layers_alone(stage) -> None:
    history = _train(4, num_iterations=30).history
    np.testing.assert_array_equal(history.steps[stage - 1, stage:], 0.3)
    assert (history.steps[stage - 1, :stage] != 0.3).all()


def test_the_network_is_trained_in_place_and_the_run_records_its_end() -> None:
    network = UnfoldedIteration(Schedule([0.3, 0.3]))
    run = train_incrementally(network, SpectralLoss(SMALL), num_iterations=20)
    assert run.schedule == network.schedule()
    assert run.schedule_after(2) == run.schedule
    assert run.schedule.name == "learned"
    assert (run.num_iterations, run.seed) == (20, 0)
    assert run.history.losses.shape == (2, 20)
    assert (np.diff(run.history.seconds) > 0).all()


@pytest.mark.parametrize("stage", [1, 2, 3, 4, 5])
def test_what_is_recorded_is_exact_and_within_its_inequality(
    published, published_run, stage
) -> None:
    schedule = published_run.schedule_after(stage)
    error = published_run.history.mean_squared_errors[stage - 1]
    radius = published_run.history.spectral_radii[stage - 1]
    polynomial = np.prod(1 - schedule.steps[:, None] * published.nodes, axis=0)
    assert error == pytest.approx((polynomial**2).mean(), rel=1e-12)
    assert radius == pytest.approx(np.abs(polynomial).max(), rel=1e-12)
    assert error <= radius**2 <= published.nodes.size * error
    assert mean_squared_error(schedule, published) == error
    assert spectral_radius(schedule, published.nodes) == radius


def test_two_layers_reach_the_optimum(published, published_run) -> None:
    error = published_run.history.mean_squared_errors[1]
    assert error == pytest.approx(0.1426, abs=5e-5)
    assert error == pytest.approx(optimal_mean_squared_error(published, 2), rel=1e-3)


def test_five_layers_end_within_a_fortieth_of_the_optimum(published, published_run) -> None:
    best = optimal_mean_squared_error(published, 5)
    assert best == pytest.approx(1.617e-2, rel=1e-3)
    assert best <= published_run.history.mean_squared_errors[4] <= 1.025 * best


@pytest.mark.slow
def test_long_training_of_eleven_layers_reaches_the_optimum(published) -> None:
    run = _train(11, measure=published, num_iterations=5000)
    assert optimal_mean_squared_error(published, 11) == pytest.approx(2.258e-4, rel=1e-3)
    assert run.history.mean_squared_errors[-1] == pytest.approx(2.258e-4, rel=0.01)


def test_training_another_iteration_lowers_its_loss() -> None:
    sampler = GaussianLeastSquares(
        np.diag(np.sqrt([1.0, 2.0, 4.0])), batch_size=50, dtype=torch.float64
    )
    network = UnfoldedIteration(Schedule(np.full(3, 0.1)), iteration=HeavyBall(0.1))
    run = train_incrementally(network, SampledLoss(sampler), num_iterations=60)
    first, last = run.history.losses[-1, :10].mean(), run.history.losses[-1, -10:].mean()
    assert last < 0.8 * first
    assert run.history.mean_squared_errors is None
    assert run.history.spectral_radii is None


def test_a_learned_schedule_goes_into_solve(published_run) -> None:
    matrix = published_matrix()
    x = np.random.default_rng(0).standard_normal(300)
    result = solve(LeastSquares(matrix, matrix @ x), published_run.schedule, rtol=1e-6)
    assert result.converged
    np.testing.assert_allclose(result.x, x, atol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_the_training_and_says_when(bad) -> None:
    class Failing:
        measure = None
        calls = 0

        def __call__(self, network, num_layers, rng):  # noqa: ARG002
            self.calls += 1
            value = network.steps[:num_layers].square().sum()
            return value * bad if self.calls == 5 + 3 + 1 else value

    network = UnfoldedIteration(Schedule([0.3, 0.3]))
    with pytest.raises(ArithmeticError, match=rf"loss is {bad} in stage 2, iteration 3"):
        train_incrementally(network, Failing(), num_iterations=5)
    assert torch.isfinite(network.steps).all()


def test_steps_far_too_long_stop_the_training() -> None:
    network = UnfoldedIteration(Schedule([1e200, 1e200]))
    with pytest.raises(ArithmeticError, match=r"stage 1, iteration 0; look for NaN"):
        train_incrementally(network, SpectralLoss(SMALL), num_iterations=5)
    assert network.steps.tolist() == [1e200, 1e200]


def test_one_optimiser_state_is_kept_throughout() -> None:
    made = []

    def factory(parameters):
        made.append(torch.optim.Adam(parameters, lr=0.002))
        return made[-1]

    run = _train(3, num_iterations=20, optimizer=factory)
    assert len(made) == 1
    (state,) = made[0].state.values()
    assert int(state["step"]) == 60
    assert run.schedule == _train(3, num_iterations=20).schedule


@pytest.mark.parametrize("num_iterations", [0, -1])
def test_no_iterations_are_refused(num_iterations) -> None:
    with pytest.raises(ValueError, match=r"`num_iterations` must be an integer of at least 1"):
        _train(num_iterations=num_iterations)


@pytest.mark.parametrize("stage", [0, 4])
def test_stages_that_were_not_trained_are_refused(stage) -> None:
    with pytest.raises(ValueError, match=r"`stage` must lie between 1 and 3"):
        _train(3, num_iterations=2).schedule_after(stage)


def test_a_run_survives_json() -> None:
    run = _train(2, num_iterations=4)
    record = json.loads(json.dumps(run.to_dict(), allow_nan=False))
    assert Schedule.from_dict(record["schedule"]) == run.schedule
    np.testing.assert_array_equal(record["history"]["losses"], run.history.losses)


def test_a_progress_bar_on_standard_error_tells_loss_best_and_time_left(
    capsys, monkeypatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.setenv("COLUMNS", "120")
    run = _train(2, num_iterations=3, progress=True)
    shown = capsys.readouterr()
    last = run.history.losses[-1]
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.err)
    assert f"loss {last[-1]:.2e}  best {last.min():.2e}  0:00:00" in plain
    assert "layers 2" in plain
    assert shown.out == ""
