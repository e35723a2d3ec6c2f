"""Relaxation, consensus, ridge and box networks against closed forms and other libraries."""

from __future__ import annotations

import dataclasses
import functools
import math

import networkx
import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear

from stepfold.measure import SpectralMeasure
from stepfold.polynomial import mean_squared_error
from stepfold.schedules import noise_aware_ridge, noisy_mean_squared_error, optimal_steps
from stepfold.unfolded.networks.box import (
    BinarySignals,
    BoxLeastSquares,
    binary,
    box,
    box_least_squares,
    sloped_layer,
)
from stepfold.unfolded.networks.relaxation import (
    JacobiSystems,
    consensus,
    karate_club_laplacian,
    learned_sor,
)
from stepfold.unfolded.networks.ridge import NoisyCoordinates, du_ridge, ridge_error

MEASURE = SpectralMeasure.from_eigenvalues([0.2, 0.9, 1.7, 4.0])


def test_consensus_training_knows_the_spectrum_above_zero() -> None:
    expected = np.linalg.eigvalsh(karate_club_laplacian())[1:]
    np.testing.assert_allclose(consensus().loss.measure.nodes, expected, rtol=1e-9)


def test_the_karate_club_is_that_of_networkx() -> None:
    expected = networkx.laplacian_matrix(networkx.karate_club_graph(), weight=None).toarray()
    np.testing.assert_array_equal(karate_club_laplacian(), expected)


def test_rounds_of_talking_are_layers_on_the_error() -> None:
    network = consensus(num_layers=3).network
    laplacian = karate_club_laplacian()
    start = np.random.default_rng(0).standard_normal(34)
    x = start
    for step in network.schedule().steps:
        x = x - step * (laplacian @ x)
    eigenvalues, vectors = np.linalg.eigh(laplacian)
    factors = np.prod(1 - np.outer(network.schedule().steps, eigenvalues), axis=0)
    assert x.mean() == pytest.approx(start.mean())
    np.testing.assert_allclose(x, vectors @ (factors * (vectors.T @ start)), atol=1e-12)


def test_the_spectrum_of_jacobi_is_that_of_the_iteration_matrix() -> None:
    systems = JacobiSystems(10)
    scaled = systems.matrix / np.diag(systems.matrix)[:, None]
    np.testing.assert_allclose(systems.eigenvalues, np.sort(np.linalg.eigvals(scaled).real))


def test_the_network_with_factor_1_is_jacobi() -> None:
    task = learned_sor(num_factors=1, num_layers=2, num_unknowns=6, batch_size=2)
    problem, target, _ = task.loss.sampler(np.random.default_rng(0))
    diagonal = np.diag(JacobiSystems(6).matrix)
    rhs = target.numpy() @ JacobiSystems(6).matrix
    x = np.zeros_like(rhs)
    for _ in range(2):
        x = x + (rhs - x @ JacobiSystems(6).matrix) / diagonal
    output = task.network(problem, torch.zeros_like(target)).detach().numpy()
    np.testing.assert_allclose(output, x)


def test_the_exact_error_of_relaxed_jacobi_is_that_of_many_systems() -> None:
    systems = JacobiSystems(8, batch_size=50_000)
    problem, target, _ = systems(np.random.default_rng(0))
    factors = np.array([0.7, 1.2, 0.9])
    x = torch.zeros_like(target)
    for factor in factors:
        x = problem.relaxation_step(x, factor)
    sampled = ((x - target) ** 2).mean().item() / (target**2).mean().item()
    assert systems.mean_squared_error(factors) == pytest.approx(sampled, rel=0.03)
    assert systems.mean_squared_error(np.array([])) == 1.0


def test_trained_from_theory_relaxation_ends_below_chebyshev_and_at_the_best() -> None:
    task = learned_sor(num_factors=2, num_layers=12, from_theory=True)
    systems = JacobiSystems()
    before = systems.mean_squared_error(np.resize(task.network.schedule(2).steps, 12))
    training = dataclasses.replace(task.training, num_iterations=300)
    dataclasses.replace(task, training=training).train()

    def exact(factors) -> float:
        return systems.mean_squared_error(np.resize(factors, 12))

    after = exact(task.network.schedule(2).steps)
    grid = np.linspace(0.5, 1.5, 201)
    best = min(exact((first, second)) for first in grid for second in grid[grid >= first])
    assert after < 0.97 * before
    assert after < 1.01 * best


@pytest.mark.parametrize("num_layers", [4, 8])
def test_consensus_trained_from_theory_ends_at_the_optimum(num_layers) -> None:
    task = consensus(num_layers=num_layers, from_theory=True)
    run = task.train()
    measure = task.loss.measure
    best = mean_squared_error(optimal_steps(measure, num_layers), measure)
    assert run.history.mean_squared_errors[-1] < 1.01 * best


def test_without_ridge_the_error_is_that_of_noisy_least_squares() -> None:
    steps = optimal_steps(MEASURE, 3).steps
    expected = noisy_mean_squared_error(steps, MEASURE, noise=0.3)
    assert ridge_error(steps, 0.0, MEASURE, 0.3) == pytest.approx(expected, rel=1e-12)


def test_the_error_with_the_best_ridge_is_the_error_of_its_polynomial() -> None:
    best = noise_aware_ridge(MEASURE, 2, noise=0.3)
    p = best.residual_polynomial(MEASURE.nodes)
    expected = MEASURE.mean(p**2 + 0.3 * (1 - p) ** 2 / MEASURE.nodes)
    assert ridge_error(best.schedule.steps, 0.3, MEASURE, 0.3) == pytest.approx(expected)


@pytest.mark.parametrize("ridge", [0.0, 0.1, 0.3, 0.6])
def test_no_steps_with_another_ridge_beat_the_best(ridge) -> None:
    best = noise_aware_ridge(MEASURE, 2, noise=0.3)
    floor = ridge_error(best.schedule.steps, best.ridge, MEASURE, 0.3)
    rng = np.random.default_rng(0)
    tried = [ridge_error(rng.uniform(0, 2, 2), ridge, MEASURE, 0.3) for _ in range(200)]
    assert min(tried) >= floor


def test_the_loss_of_du_ridge_is_its_exact_error_on_average() -> None:
    task = du_ridge(num_layers=2, matrix=np.diag([0.5, 1.0, 2.0]), batch_size=100_000, noise=0.2)
    loss = task.loss(task.network, 2, np.random.default_rng(0)).item()
    exact = task.evaluate(task.network)["mean squared error"]
    assert loss == pytest.approx(exact, rel=0.02)


def test_noise_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="`noise` must be positive and finite, got 0"):
        NoisyCoordinates(MEASURE, noise=0.0)


def test_a_ridge_term_of_zero_has_a_gradient() -> None:
    task = du_ridge(num_layers=4, initial_ridge=0.0, matrix=np.eye(4))
    task.loss(task.network, 4, np.random.default_rng(0)).backward()
    assert (task.network.stacked_parameters()[1].grad != 0).all()


def test_a_negative_ridge_term_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`initial_ridge` must be at least 0 and finite, got -1"):
        du_ridge(initial_ridge=-1.0)


def test_solutions_over_the_box_are_those_of_scipy() -> None:
    rng = np.random.default_rng(3)
    matrix, rhs = rng.standard_normal((12, 6)), 4 * rng.standard_normal((5, 12))
    expected = [lsq_linear(matrix, y, (-1, 1), tol=1e-14).x for y in rhs]
    np.testing.assert_allclose(box_least_squares(matrix, rhs), expected, atol=1e-6)


def test_a_longer_pool_begins_with_the_shorter_one() -> None:
    short, long = (BoxLeastSquares(num_problems=k, batch_size=2) for k in (3, 6))
    first, second = (pool.problems(range(3)) for pool in (short, long))
    torch.testing.assert_close(first.target, second.target)
    torch.testing.assert_close(first.data.rhs, second.data.rhs)


def test_published_data_hardly_touch_the_box() -> None:
    assert BoxLeastSquares(spread=1.0).share_at_bounds < 0.02
    assert BoxLeastSquares(spread=3.0).share_at_bounds > 0.2


def test_the_box_network_is_projected_gradients() -> None:
    task = box(num_layers=2, num_problems=4, batch_size=2)
    problem, target, _ = task.loss.sampler(np.random.default_rng(0))
    matrix, seen = problem.operator.numpy(), problem.rhs.numpy()
    x = np.zeros(target.shape)
    for step in task.network.schedule().steps:
        x = np.clip(x - step * (x @ matrix.T - seen) @ matrix, -1, 1)
    output = task.network(problem, torch.zeros_like(target)).detach().numpy()
    np.testing.assert_allclose(output, x)


def test_a_sloped_layer_clips_a_multiple_of_a_gradient_step() -> None:
    task = binary(num_layers=1, num_unknowns=3, num_rows=3, batch_size=2)
    problem, target, _ = task.loss.sampler(np.random.default_rng(0))
    layer = functools.partial(sloped_layer, 0.5)
    params = type("Params", (), {"step": 0.2, "slope": 3.0})
    expected = (3.0 * problem.gradient_step(target, 0.1)).clip(-1, 1)
    torch.testing.assert_close(layer(target, params, problem), expected)


def test_binary_signals_are_signs_seen_with_noise() -> None:
    signals = BinarySignals(6, 4, noise=0.5, batch_size=20_000)
    problem, target, _ = signals(np.random.default_rng(0))
    assert set(target.unique().tolist()) == {-1.0, 1.0}
    noise = problem.rhs - target @ signals.matrix.T
    assert noise.std().item() == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_rows": 5}, "`num_rows` must be at least `num_unknowns`, 10, got 5"),
        ({"spread": 0.0}, "`spread` must be positive and finite, got 0.0"),
        ({"batch_size": 9, "num_problems": 8}, "`batch_size` must be at most `num_problems`, 8"),
    ],
)
def test_impossible_pools_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        BoxLeastSquares(**options)


@pytest.mark.parametrize("noise", [-1.0, math.inf])
def test_a_noise_that_is_no_deviation_is_refused(noise) -> None:
    with pytest.raises(ValueError, match="`noise` must be at least 0 and finite"):
        BinarySignals(noise=noise)


def test_a_nearly_singular_box_problem_is_given_up() -> None:
    matrix = np.array([[1.0, 1.0], [1.0, 1.0 + 1e-9]])
    with pytest.raises(ArithmeticError, match="after 3 sweeps; the matrix is nearly singular"):
        box_least_squares(matrix, np.array([[0.3, -0.4]]), max_iterations=3)
