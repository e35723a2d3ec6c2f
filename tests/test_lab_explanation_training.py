"""A training explained: distances from the optimum, and the verdict."""

import numpy as np
import pytest

from stepfold import Schedule, SpectralMeasure, chebyshev_steps, mean_squared_error, optimal_steps
from stepfold.lab.explanation import explain_run
from stepfold.lab.explanation.learned import Learned, Verdict, last_drop
from stepfold.result import TrainingHistory, TrainingRun
from stepfold.schedules import noise_aware_steps, noisy_mean_squared_error
from stepfold.unfolded import SpectralLoss, UnfoldedIteration, train_incrementally


@pytest.fixture(scope="module")
def measure(published_eigenvalues: np.ndarray) -> SpectralMeasure:
    return SpectralMeasure.from_eigenvalues(published_eigenvalues)


def run_with(schedule: Schedule) -> TrainingRun:
    history = TrainingHistory(
        steps=schedule.steps[None], losses=np.ones((1, 40)), seconds=np.ones(1)
    )
    return TrainingRun(schedule, history, num_iterations=40, seed=0)


def test_optimal_steps_are_judged_optimal(measure: SpectralMeasure) -> None:
    learned = Learned(run_with(optimal_steps(measure, 8)), measure, "")
    assert learned.gap == pytest.approx(1, rel=1e-9)
    assert learned.equivalent_steps == 8
    assert np.abs(learned.slopes).max() < 1e-6
    assert learned.verdict is Verdict.OPTIMAL


def test_slopes_are_those_of_the_logarithm_of_the_error(measure: SpectralMeasure) -> None:
    steps = chebyshev_steps(measure.bounds, 6).steps
    learned = Learned(run_with(Schedule(steps)), measure, "")
    h = 1e-6
    finite = [
        (
            np.log(mean_squared_error(steps * (1 + h * unit), measure))
            - np.log(mean_squared_error(steps * (1 - h * unit), measure))
        )
        / (2 * h)
        for unit in np.eye(6)
    ]
    np.testing.assert_allclose(learned.slopes, finite, rtol=1e-5, atol=1e-7)


def test_a_short_training_is_judged_unfinished_and_worth_fewer_steps(
    measure: SpectralMeasure,
) -> None:
    network = UnfoldedIteration(Schedule(np.full(12, 0.3)))
    run = train_incrementally(network, SpectralLoss(measure), num_iterations=40)
    learned = Learned(run, measure, "")
    assert learned.verdict is Verdict.UNFINISHED
    equivalent = learned.equivalent_steps
    assert equivalent < 12
    assert (
        mean_squared_error(optimal_steps(measure, equivalent), measure) <= learned.errors["learned"]
    )


def test_steps_beyond_the_reach_of_the_loss_are_judged_stuck() -> None:
    # On one eigenvalue beside a far one, the best equal steps are a saddle.
    measure = SpectralMeasure([1.0, 3.0], [0.5, 0.5])
    grid = np.linspace(0.3, 0.7, 40_001)
    errors = np.array([mean_squared_error([g, g], measure) for g in grid])
    gamma = grid[errors.argmin()]
    assert Learned(run_with(Schedule([gamma, gamma])), measure, "").verdict is Verdict.STUCK


def test_outside_in_pairs_are_counted_from_the_first_layer(measure: SpectralMeasure) -> None:
    steps = np.array([5.0, 0.2, 0.3, 4.0, 1.0, 2.0, 3.0, 0.5])
    assert Learned(run_with(Schedule(steps)), measure, "").outside_in_pairs == 4


def test_a_falling_loss_is_told_from_noise() -> None:
    rng = np.random.default_rng(0)
    noise = 0.01 * rng.standard_normal(500)
    assert last_drop(1 + noise)[1]
    assert not last_drop(np.linspace(2, 1, 500) + noise)[1]


def test_losses_that_are_no_numbers_are_left_out() -> None:
    losses = np.linspace(2.0, 1.0, 100)
    holes = np.insert(losses, 50, np.nan)
    assert last_drop(holes) == last_drop(losses)


def test_the_outcome_has_advice_figures_and_distances(measure: SpectralMeasure) -> None:
    network = UnfoldedIteration(Schedule(np.full(4, 0.3)))
    run = train_incrementally(network, SpectralLoss(measure), num_iterations=30)
    outcome = explain_run(run, measure, name="<my> run")
    assert outcome.title == "What <my> run learned"
    assert Learned(run, measure, "").verdict is Verdict.UNFINISHED
    assert "has not converged" in outcome.summary
    assert "`optimal_steps` computes" in outcome.summary
    names = {figure.name for figure in outcome.figures}
    assert {"sorted_steps", "learned_steps", "residual_polynomials", "training"} <= names
    assert outcome.records["distances"]["gap"] > 1


def test_a_spectrum_that_reaches_zero_is_explained_without_chebyshev_steps() -> None:
    measure = SpectralMeasure.from_eigenvalues(np.linspace(0, 2, 50))
    outcome = explain_run(run_with(Schedule([0.6, 1.2])), measure)
    assert "Chebyshev" not in outcome.records["distances"]["mean_squared_errors"]


def test_steps_trained_with_noise_are_judged_by_the_noise_aware_ones(
    measure: SpectralMeasure,
) -> None:
    run = run_with(noise_aware_steps(measure, 5, noise=0.5))
    learned = Learned(run, measure, "", noise=0.5)
    assert learned.verdict is Verdict.OPTIMAL
    assert learned.gap == pytest.approx(1, rel=1e-9)
    assert np.abs(learned.slopes).max() < 1e-5
    assert Learned(run, measure, "").gap > 2


def test_errors_with_noise_are_those_of_the_formula(measure: SpectralMeasure) -> None:
    learned = Learned(run_with(Schedule([0.3, 0.8])), measure, "", noise=0.2)
    steps, nodes = learned.run.schedule.steps, measure.nodes
    p = np.prod(1 - steps[:, None] * nodes, axis=0)
    expected = measure.weights @ (p**2 + 0.2 * (1 - p) ** 2 / nodes)
    assert learned.errors["learned"] == pytest.approx(expected, rel=1e-12)
    assert (learned.fit.residuals(steps) ** 2).sum() == pytest.approx(expected, rel=1e-12)


def test_slopes_with_noise_are_those_of_the_logarithm_of_the_error(
    measure: SpectralMeasure,
) -> None:
    steps, h = np.array([0.2, 0.4, 1.1]), 1e-6
    learned = Learned(run_with(Schedule(steps)), measure, "", noise=0.3)

    def error(steps: np.ndarray) -> float:
        return noisy_mean_squared_error(steps, measure, noise=0.3)

    finite = [
        np.log(error(steps * (1 + h * unit)) / error(steps * (1 - h * unit))) / (2 * h)
        for unit in np.eye(3)
    ]
    np.testing.assert_allclose(learned.slopes, finite, rtol=1e-5, atol=1e-7)


def test_no_schedule_comes_below_the_least_errors(measure: SpectralMeasure) -> None:
    learned = Learned(run_with(Schedule([0.3] * 4)), measure, "", noise=0.1)
    best = [learned.error(learned.best_schedule(t)) for t in range(1, 5)]
    assert (learned.least_errors <= np.array(best) * (1 + 1e-9)).all()
    assert (np.diff(learned.least_errors) < 0).all()


def test_the_summary_of_a_training_with_noise_names_its_limit(measure: SpectralMeasure) -> None:
    run = run_with(noise_aware_steps(measure, 5, noise=0.5))
    outcome = explain_run(run, measure, noise=0.5)
    limit = measure.mean(0.5 / (measure.nodes + 0.5))
    assert f"no error below {limit:.4g} is possible" in outcome.summary
    assert {"schedules/noise-aware", "schedules/optimal-without-noise"} <= outcome.records.keys()
    assert outcome.parameters["noise"] == 0.5


@pytest.mark.parametrize("noise", [-1.0, np.nan, np.inf])
def test_noise_out_of_range_is_refused(measure: SpectralMeasure, noise: float) -> None:
    with pytest.raises(ValueError, match="`noise` must be at least 0 and finite"):
        explain_run(run_with(Schedule([0.3])), measure, noise=noise)


def test_a_run_judged_by_other_noise_than_it_met_is_told(measure: SpectralMeasure) -> None:
    loss = SpectralLoss(measure, noise=0.5)
    run = train_incrementally(UnfoldedIteration(Schedule([0.3] * 3)), loss, num_iterations=5)
    said = [
        " ".join(map(str, explain_run(run, measure, noise=noise).sections[0].paragraphs))
        for noise in (0.0, 0.5)
    ]
    assert "other noise (`noise=`)" in said[0]
    assert "other noise" not in said[1]
