"""A training explained: distances from the optimum, and the verdict."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from stepfold import Schedule, SpectralMeasure, chebyshev_steps, optimal_steps
from stepfold.lab.explanation import explain_run
from stepfold.lab.explanation.learned import Learned, Verdict, last_drop
from stepfold.polynomial import mean_squared_error
from stepfold.result import TrainingHistory, TrainingRun
from stepfold.schedules import noise_aware_steps, noisy_mean_squared_error
from stepfold.unfolded import (
    SpectralLoss,
    UnfoldedIteration,
    all_at_once,
    incremental,
    train,
    train_incrementally,
)


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
    assert learned.gap("optimal") == pytest.approx(1, rel=1e-9)
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


def test_steps_that_move_together_are_judged_stuck() -> None:
    # Where two steps are equal, their slopes are: the best of these is a saddle.
    measure = SpectralMeasure.from_eigenvalues([1.0, 2.0, 5.0, 9.0])

    def error(values: np.ndarray) -> float:
        return mean_squared_error([values[0], values[0], values[1]], measure)

    twice, once = minimize(error, [0.5, 0.15], method="Nelder-Mead", options={"xatol": 1e-9}).x
    learned = Learned(run_with(Schedule([twice, twice, once])), measure, "")
    assert learned.verdict is Verdict.STUCK


def test_the_best_shared_step_is_that_of_a_search_on_a_line() -> None:
    measure = SpectralMeasure.from_eigenvalues(np.linspace(1, 10, 20))
    learned = Learned(run_with(Schedule([0.1] * 6)), measure, "")
    found = minimize_scalar(
        lambda gamma: mean_squared_error([gamma] * 6, measure),
        bounds=(0.1, 0.2),
        method="bounded",
        options={"xatol": 1e-9},
    )
    best = learned.schedules["best of period 1"]
    np.testing.assert_allclose(best.steps, found.x, rtol=1e-5)
    assert learned.errors["best of period 1"] == pytest.approx(found.fun, rel=1e-9)
    assert learned.verdict is Verdict.UNFINISHED


def test_a_shared_step_at_its_best_is_not_called_unfinished() -> None:
    measure = SpectralMeasure.from_eigenvalues(np.linspace(1, 10, 20))
    best = Learned(run_with(Schedule([0.1] * 6)), measure, "").schedules["best of period 1"]
    learned = Learned(run_with(best), measure, "")
    assert learned.verdict is Verdict.SHARED
    assert np.abs(learned.slopes).max() < 1e-4
    assert learned.gap("optimal") > 10
    outcome = explain_run(run_with(best), measure)
    assert "found the best schedule with this period" in outcome.summary
    assert "outside-in" not in str(outcome.sections)


def test_slopes_over_shared_steps_are_those_of_the_logarithm_of_the_error() -> None:
    measure, h = SpectralMeasure.from_eigenvalues(np.linspace(1, 10, 20)), 1e-6
    values = np.array([0.12, 0.31])
    learned = Learned(run_with(Schedule(np.resize(values, 5))), measure, "")
    finite = [
        np.log(
            mean_squared_error(np.resize(values * (1 + h * unit), 5), measure)
            / mean_squared_error(np.resize(values * (1 - h * unit), 5), measure)
        )
        / (2 * h)
        for unit in np.eye(2)
    ]
    np.testing.assert_allclose(learned.slopes, finite, rtol=1e-5)


def test_a_run_with_other_learned_parameters_is_not_compared_with_gradient_steps(
    measure: SpectralMeasure,
) -> None:
    run = dataclasses.replace(
        run_with(Schedule([0.2, 0.4])), parameters={"momentum": np.array([0.1, 0.2])}
    )
    outcome = explain_run(run, measure)
    assert "Training has learned momentum beside the steps" in outcome.summary
    assert "distances" not in outcome.records


def test_a_stopped_training_is_said_to_be_stopped_first(measure: SpectralMeasure) -> None:
    network = UnfoldedIteration(Schedule([0.3] * 4))
    run = train(
        network,
        SpectralLoss(measure),
        incremental(4, 5),
        callback=lambda progress: progress.done == 7,
    )
    outcome = explain_run(run, measure)
    assert outcome.summary.startswith("The training was stopped before its end")
    assert "the first 2 of 4 layers" in outcome.summary
    assert "converged" not in outcome.summary
    assert outcome.records["distances"]["verdict"] == "STOPPED"


def test_a_training_without_any_finite_loss_is_explained(measure: SpectralMeasure) -> None:
    run = run_with(Schedule([0.3, 0.5]))
    history = dataclasses.replace(run.history, losses=np.full((1, 40), np.nan))
    outcome = explain_run(dataclasses.replace(run, history=history), measure)
    assert "No finite loss was recorded" in str(outcome.sections[-1])


def test_an_optimum_of_zero_is_no_divisor() -> None:
    measure = SpectralMeasure.from_eigenvalues([1.0, 2.0, 3.0, 5.0])
    best = explain_run(run_with(optimal_steps(measure, 4)), measure)
    assert "nothing but rounding" in best.summary
    assert best.records["distances"]["gap"] == 1
    other = explain_run(run_with(Schedule([0.2, 0.3, 0.5, 0.9])), measure)
    assert "where the best leave none" in other.summary
    assert other.records["distances"]["gap"] is None
    assert json.dumps(other.records, allow_nan=False)


def test_more_steps_than_eigenvalues_are_explained_without_an_optimum() -> None:
    measure = SpectralMeasure.from_eigenvalues([1.0, 2.0])
    outcome = explain_run(run_with(Schedule([0.5, 0.7, 0.9])), measure)
    assert outcome.summary.startswith("The spectrum has 2 distinct eigenvalues above 0")
    assert "distances" not in outcome.records


def test_optimal_steps_that_floats_cannot_tell_are_no_reference() -> None:
    measure = SpectralMeasure.from_eigenvalues(np.geomspace(1e-8, 1, 60))
    outcome = explain_run(run_with(optimal_steps(measure, 30)), measure)
    assert "more than the 16 digits" in outcome.summary


def test_steps_that_diverge_are_explained(measure: SpectralMeasure) -> None:
    outcome = explain_run(run_with(Schedule([1e160, 1e161, 1e162])), measure)
    assert "taking no step at all would be better" in outcome.summary
    assert json.dumps(outcome.records, allow_nan=False)


def test_a_training_all_at_once_says_why_it_has_one_radius(measure: SpectralMeasure) -> None:
    network = UnfoldedIteration(Schedule([0.3, 0.5, 0.7]))
    run = train(network, SpectralLoss(measure), all_at_once(3, 20))
    said = " ".join(map(str, explain_run(run, measure).sections[-1].paragraphs))
    assert f"one spectral radius is known, {run.history.spectral_radii[-1]:.4g}" in said
    assert '"incremental"' in said


def test_outside_in_pairs_are_counted_from_the_first_layer(measure: SpectralMeasure) -> None:
    steps = np.array([5.0, 0.2, 0.3, 4.0, 1.0, 2.0, 3.0, 0.5])
    assert Learned(run_with(Schedule(steps)), measure, "").outside_in_pairs == 4


def test_a_falling_loss_is_told_from_noise() -> None:
    rng = np.random.default_rng(0)
    noise = 0.01 * rng.standard_normal(500)
    assert last_drop(1 + noise)[1]
    assert not last_drop(np.linspace(2, 1, 500) + noise)[1]


@pytest.mark.parametrize(
    ("losses", "share"),
    [
        (np.linspace(-1.0, -2.0, 100), 0.055),
        (np.linspace(-2.0, -1.0, 100), -0.086),
        (np.linspace(0.5, -0.5, 100), 0.29),
        (np.repeat([0.0, 1.0], [90, 10]), -1.0),
    ],
)
def test_losses_of_either_sign_fall_or_rise_as_they_do(losses: np.ndarray, share: float) -> None:
    found, is_noise = last_drop(losses)
    assert found == pytest.approx(share, rel=0.03)
    assert not is_noise


def test_losses_that_are_zero_rest() -> None:
    assert last_drop(np.zeros(100)) == (0.0, True)


def test_a_stage_too_short_to_tell_is_said_to_be(measure: SpectralMeasure) -> None:
    run = run_with(Schedule([0.3, 0.5]))
    history = dataclasses.replace(run.history, losses=np.ones((1, 5)))
    outcome = explain_run(dataclasses.replace(run, history=history), measure)
    assert "too short to tell whether the loss still fell" in str(outcome.sections[0])


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
    assert learned.gap("noise-aware") == pytest.approx(1, rel=1e-9)
    assert np.abs(learned.slopes).max() < 1e-5
    assert Learned(run, measure, "").gap("optimal") > 2


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
