"""Two forms of one loss: on drawn problems, and in the eigenbasis."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_unfolded_module import HeavyBall

from stepfold import LeastSquares, Quadratic, Schedule, SpectralMeasure, chebyshev_steps
from stepfold.polynomial import mean_squared_error
from stepfold.unfolded import (
    GaussianLeastSquares,
    HeldOut,
    SampledLoss,
    SpectralLoss,
    UnfoldedIteration,
    all_at_once,
    loss_for,
    train,
    train_incrementally,
)


def _matrix(num_rows: int, num_unknowns: int, seed: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1 / np.sqrt(num_unknowns), (num_rows, num_unknowns))


def _value_and_gradient(
    value: torch.Tensor, network: UnfoldedIteration
) -> tuple[float, np.ndarray]:
    (gradient,) = torch.autograd.grad(value, list(network.parameters()))
    return value.item(), gradient.numpy()


@pytest.mark.parametrize("num_layers", [1, 2, 5])
@pytest.mark.parametrize("shape", [(40, 20), (20, 20), (12, 20)])
def test_both_forms_agree_on_the_same_draw(shape, num_layers) -> None:
    matrix = _matrix(*shape)
    sampler = GaussianLeastSquares(matrix, batch_size=7, dtype=torch.float64)
    network = UnfoldedIteration(Schedule([0.2, 0.9, 0.3, 0.5, 0.25]))
    sampled = SampledLoss(sampler)(network, num_layers, np.random.default_rng(11))
    # The same draw, seen in the eigenbasis.
    _, solutions = sampler(np.random.default_rng(11))
    eigenvalues, vectors = np.linalg.eigh(matrix.T @ matrix)
    squares = ((solutions.numpy() @ vectors) ** 2).mean(axis=0)
    measure = SpectralMeasure.from_eigenvalues(np.maximum(eigenvalues, 0.0))
    spectral = SpectralLoss(measure).given(network, num_layers, measure.weights * squares)
    value, gradient = _value_and_gradient(sampled, network)
    spectral_value, spectral_gradient = _value_and_gradient(spectral, network)
    assert spectral_value == pytest.approx(value, rel=1e-10)
    np.testing.assert_allclose(spectral_gradient, gradient, rtol=1e-10, atol=1e-10 * value)


def test_without_chance_the_spectral_loss_is_the_mean_squared_error() -> None:
    measure = SpectralMeasure.from_eigenvalues([0.5, 1.0, 4.0], [1.0, 2.0, 5.0])
    network = UnfoldedIteration(Schedule([0.3, 0.7]))
    value = SpectralLoss(measure).given(network, 2, measure.weights).item()
    assert value == pytest.approx(mean_squared_error(network.schedule(), measure), rel=1e-14)


def test_the_spectral_loss_has_the_mean_and_spread_of_the_sampled_one() -> None:
    # 4000 draws each: the standard error of a mean is 0.8 % of it, that of a standard deviation
    # 1.8 % of it (kurtosis 6); of their differences, √2 times as large, four are allowed.
    matrix = _matrix(8, 4)
    sampler = GaussianLeastSquares(matrix, batch_size=3, dtype=torch.float64)
    network = UnfoldedIteration(Schedule([0.4]))
    rng = np.random.default_rng(1)
    with torch.no_grad():
        forms = [SampledLoss(sampler), SpectralLoss(sampler.measure, batch_size=3)]
        draws = [np.array([loss(network, 1, rng).item() for _ in range(4000)]) for loss in forms]
    means, spreads = [d.mean() for d in draws], [d.std() for d in draws]
    assert means[1] == pytest.approx(means[0], rel=4 * np.sqrt(2) * 0.008)
    assert spreads[1] == pytest.approx(spreads[0], rel=4 * np.sqrt(2) * 0.018)


def test_trainings_with_both_forms_end_at_the_same_steps() -> None:
    # The matrix form at n = 60, m = 120. Twelve trainings with the spectral form and other seeds
    # have standard deviations of 0.09, 0.53 and 0.43 % in the steps and 0.02 % in the errors; of
    # the difference of two, √2 times as large, four are allowed for steps, seven for errors.
    matrix = _matrix(120, 60)
    sampler = GaussianLeastSquares(matrix, batch_size=100, dtype=torch.float64)
    forms = [SampledLoss(sampler, sampler.measure), SpectralLoss(sampler.measure, batch_size=100)]
    runs = [
        train_incrementally(
            UnfoldedIteration(Schedule(np.full(3, 0.3))), loss, num_iterations=500, seed=seed
        )
        for seed, loss in enumerate(forms)
    ]
    np.testing.assert_allclose(runs[0].schedule.steps, runs[1].schedule.steps, rtol=0.03)
    errors = [run.history.mean_squared_errors for run in runs]
    np.testing.assert_allclose(errors[0], errors[1], rtol=0.002)


def test_the_sampler_draws_solved_problems() -> None:
    sampler = GaussianLeastSquares(_matrix(9, 5), batch_size=4, dtype=torch.float64)
    problem, target = sampler(np.random.default_rng(0))
    assert target.shape == (4, 5)
    assert problem.gradient(target).abs().max() < 1e-13


def test_the_same_generator_draws_the_same_batch() -> None:
    sampler = GaussianLeastSquares(_matrix(9, 5), batch_size=4)
    first, second = (sampler(np.random.default_rng(2))[1] for _ in range(2))
    assert torch.equal(first, second)
    assert first.dtype == torch.float32


def test_the_sampler_knows_the_spectrum_of_its_matrix() -> None:
    matrix = _matrix(9, 5)
    measure = GaussianLeastSquares(matrix).measure
    np.testing.assert_allclose(measure.nodes, np.linalg.eigvalsh(matrix.T @ matrix), rtol=1e-12)
    np.testing.assert_allclose(measure.weights, 0.2, rtol=1e-14)


@pytest.mark.parametrize("shape", [(6,), (4, 6), (3, 5), (1, 5), (4, 1)])
def test_a_sampler_of_the_wrong_shape_is_refused(shape) -> None:
    matrix = torch.tensor(_matrix(9, 5))

    def sampler(rng):
        problem = LeastSquares(matrix, torch.tensor(rng.standard_normal((4, 9))))
        return problem, torch.zeros(shape, dtype=torch.float64)

    with pytest.raises(ValueError, match=r"solutions of the shape that its problem has, \(4, 5\)"):
        SampledLoss(sampler)(UnfoldedIteration(Schedule([0.1])), 1, np.random.default_rng(0))


def _loss_of(target, start=None) -> SampledLoss:
    problem = LeastSquares(torch.tensor(_matrix(9, 5)), torch.ones(4, 9, dtype=torch.float64))
    return SampledLoss(lambda _rng: (problem, target, start))


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (_loss_of(torch.ones(4, 5).double(), torch.ones(3, 5).double()), ValueError, "starts of"),
        (_loss_of(torch.ones(4, 5)), ValueError, r"dtype that .* torch.float64, got torch.float32"),
        (_loss_of(np.ones((4, 5))), TypeError, "must yield torch tensors, got NumPy arrays"),
    ],
)
def test_what_a_sampler_must_not_yield_is_named(loss, error, message) -> None:
    with pytest.raises(error, match=message):
        loss(UnfoldedIteration(Schedule([0.1])), 1, np.random.default_rng(0))


def test_the_spectral_loss_refuses_another_iteration() -> None:
    network = UnfoldedIteration(Schedule([0.1]), iteration=HeavyBall(0.1))
    loss = SpectralLoss(SpectralMeasure.from_eigenvalues([1.0]))
    with pytest.raises(TypeError, match=r"gradient descent only, got HeavyBall; use `SampledLoss`"):
        loss(network, 1, np.random.default_rng(0))


@pytest.mark.parametrize("squares", [np.ones(3), np.ones((2, 2)), 1.0])
def test_mean_squares_of_the_wrong_shape_are_refused(squares) -> None:
    loss = SpectralLoss(SpectralMeasure.from_eigenvalues([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"`squares` must have shape \(2,\)"):
        loss.given(UnfoldedIteration(Schedule([0.1])), 1, squares)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_an_empty_batch_is_refused(batch_size) -> None:
    with pytest.raises(ValueError, match=r"`batch_size` must be an integer of at least 1"):
        GaussianLeastSquares(np.eye(2), batch_size=batch_size)
    with pytest.raises(ValueError, match=r"`batch_size` must be an integer of at least 1"):
        SpectralLoss(SpectralMeasure.from_eigenvalues([1.0]), batch_size=batch_size)


def test_a_sparse_matrix_is_refused_by_the_dense_sampler() -> None:
    import scipy.sparse

    with pytest.raises(TypeError, match=r"`operator` must be a NumPy array, got csr_array"):
        GaussianLeastSquares(scipy.sparse.csr_array(np.eye(2)))


def test_a_loss_that_is_already_best_has_no_gradient_on_average() -> None:
    measure = SpectralMeasure.from_eigenvalues([1.0, 3.0])
    best = UnfoldedIteration(Schedule([0.4]))
    _, gradient = _value_and_gradient(SpectralLoss(measure).given(best, 1, measure.weights), best)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-15)
    # Two eigenvalues, two steps: their reciprocals leave no error at all.
    exact = UnfoldedIteration(chebyshev_steps(measure.bounds, 2))
    exact.load_state_dict({"step_values.raw": torch.tensor([1.0, 1 / 3])})
    assert SpectralLoss(measure).given(exact, 2, measure.weights).item() < 1e-14


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_loss_in_the_eigenbasis_is_chosen_where_it_is_the_same(noise: float) -> None:
    matrix = np.random.default_rng(1).standard_normal((12, 6)) / np.sqrt(12)
    sampler = GaussianLeastSquares(matrix, batch_size=50, noise=noise, dtype=torch.float64)
    network = UnfoldedIteration(Schedule([0.5, 0.9, 0.3]))
    chosen, sampled = loss_for(network, sampler), SampledLoss(sampler)
    assert isinstance(chosen, SpectralLoss)
    rng = np.random.default_rng(0)
    losses = np.array(
        [[loss(network, 3, rng).item() for _ in range(400)] for loss in (chosen, sampled)]
    )
    standard_error = np.sqrt((losses.var(axis=1) / 400).sum())
    assert abs(losses[0].mean() - losses[1].mean()) < 4 * standard_error
    assert losses[0].std() == pytest.approx(losses[1].std(), rel=0.2)


def test_a_sampler_in_place_of_a_loss_is_trained_on_in_the_eigenbasis() -> None:
    sampler = GaussianLeastSquares(_matrix(12, 6), batch_size=5)
    runs = [
        train(
            UnfoldedIteration(Schedule([0.5, 0.9])),
            loss,
            all_at_once(2, 30),
            held_out=HeldOut(held_out, every=10),
        )
        for loss, held_out in (
            (sampler, sampler),
            (
                SpectralLoss(sampler.measure, batch_size=5),
                SpectralLoss(sampler.measure, batch_size=5),
            ),
        )
    ]
    assert runs[0].schedule == runs[1].schedule
    assert runs[0].history.mean_squared_errors is not None


def test_a_sampler_of_ones_own_is_trained_on_as_it_draws() -> None:
    def sampler(rng: np.random.Generator, size: int = 3) -> tuple[Quadratic, torch.Tensor]:
        solutions = torch.from_numpy(rng.standard_normal((size, 2)))
        hessian = torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64))
        return Quadratic(hessian, solutions @ hessian), solutions

    first, second = (
        train_incrementally(UnfoldedIteration(Schedule([0.3])), loss, num_iterations=40)
        for loss in (sampler, SampledLoss(sampler))
    )
    assert first.schedule == second.schedule != Schedule([0.3])


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_nothing_is_computed_beside_the_device_of_the_network(noise) -> None:
    # Tensors on "meta" have no values; to mix them with others is an error, as on a GPU.
    network = UnfoldedIteration(Schedule([0.5, 0.9])).to("meta")
    measure = SpectralMeasure.from_eigenvalues([1.0, 3.0])
    loss = SpectralLoss(measure, noise=noise)(network, 2, np.random.default_rng(0))
    assert loss.device.type == "meta"


def test_momentum_is_trained_on_drawn_problems() -> None:
    sampler = GaussianLeastSquares(np.eye(3))
    network = UnfoldedIteration(Schedule([0.5]), iteration=HeavyBall(0.2))
    assert isinstance(loss_for(network, sampler), SampledLoss)


def test_the_gram_form_draws_the_same_loss() -> None:
    matrix = np.random.default_rng(1).standard_normal((12, 6)) / np.sqrt(12)
    network = UnfoldedIteration(Schedule([0.5, 0.9]))
    values = [
        SampledLoss(GaussianLeastSquares(matrix, gram=gram, noise=0.1, dtype=torch.float64))(
            network, 2, np.random.default_rng(3)
        ).item()
        for gram in (False, True)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-12)
