"""Jacobians of layers along a trajectory."""

import numpy as np
import pytest
import torch

from stepfold import LeastSquares, Quadratic, Schedule
from stepfold.iterations import Fista, HeavyBall, Nesterov, ProximalGradient
from stepfold.problems.penalties import L1
from stepfold.unfolded import (
    LayerParameters,
    SampledLoss,
    Trainable,
    UnfoldedIteration,
    all_at_once,
    local_spectra,
    train,
)


def problem_with(eigenvalues: list[float]) -> Quadratic[torch.Tensor]:
    hessian = torch.diag(torch.tensor(eigenvalues, dtype=torch.float64))
    return Quadratic(hessian, torch.ones(len(eigenvalues), dtype=torch.float64))


def test_gradient_descent_sees_the_hessian_at_every_layer() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((9, 6))
    problem = LeastSquares(torch.tensor(matrix), torch.ones(9, dtype=torch.float64))
    found = local_spectra(UnfoldedIteration(Schedule([0.01, 0.3, 0.05])), problem)
    expected = np.linalg.eigvalsh(matrix.T @ matrix)
    np.testing.assert_allclose(found.eigenvalues, np.tile(expected, (3, 1)), rtol=1e-9, atol=1e-10)


def test_the_gain_of_gradient_descent_is_the_spectral_radius_of_all_steps() -> None:
    steps = np.array([0.9, 0.3, 0.5])
    found = local_spectra(UnfoldedIteration(Schedule(steps)), problem_with([1.0, 2.0, 3.0]))
    factors = np.abs(np.prod(1 - steps[:, None] * np.array([1.0, 2.0, 3.0]), axis=0))
    assert found.gains[-1] == pytest.approx(factors.max(), rel=1e-12)


def test_coordinates_that_a_penalty_holds_at_zero_have_curvature_one_over_gamma() -> None:
    network = UnfoldedIteration(Schedule([0.25]), iteration=ProximalGradient(L1(2.0)))
    hessian = torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64))
    problem = Quadratic(hessian, torch.tensor([9.0, 1.0], dtype=torch.float64))
    found = local_spectra(network, problem)
    np.testing.assert_allclose(found.eigenvalues[0], [1.0, 4.0], rtol=1e-12)


def test_a_rotation_has_imaginary_parts() -> None:
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)

    def step(x: torch.Tensor, params: LayerParameters, data: torch.Tensor) -> torch.Tensor:
        return x + params.step * (x @ data.T - x)

    network = UnfoldedIteration(Schedule([0.5]), iteration=step)
    found = local_spectra(network, turn, torch.ones(2, dtype=torch.float64))
    np.testing.assert_allclose(found.largest_imaginary, [1.0], rtol=1e-12)
    np.testing.assert_allclose(found.eigenvalues, [[1.0, 1.0]], rtol=1e-12)


def test_of_a_batch_the_first_row_is_followed() -> None:
    def step(x: torch.Tensor, params: LayerParameters, data: None) -> torch.Tensor:
        return x + params.step * (torch.cos(x) - x)

    network = UnfoldedIteration(Schedule([0.5, 0.7]), iteration=step)
    x0 = torch.tensor([[0.3, 0.6], [5.0, 7.0]], dtype=torch.float64)
    together = local_spectra(network, None, x0)
    alone = local_spectra(network, None, x0[0])
    np.testing.assert_allclose(together.eigenvalues, alone.eigenvalues, rtol=1e-12)
    expected = np.sort(1 + np.sin([0.3, 0.6]))
    np.testing.assert_allclose(alone.eigenvalues[0], expected, rtol=1e-12)


def test_the_heavy_ball_has_the_roots_of_its_quadratics() -> None:
    # x⁺ = (1 + β − γλ) x − β x⁻ on an eigenvector: z² − (1 + β − γλ) z + β = 0.
    network = UnfoldedIteration(Schedule([0.2, 0.9]), iteration=HeavyBall(0.3))
    found = local_spectra(network, problem_with([1.0, 3.0]))
    roots = [np.roots([1, -(1 + 0.3 - 0.2 * value), 0.3]) for value in (1.0, 3.0)]
    expected = np.sort(((1 - np.concatenate(roots)) / 0.2).real)
    assert found.has_memory
    np.testing.assert_allclose(found.eigenvalues[0], expected, rtol=1e-7)
    assert found.radii[0] == pytest.approx(np.abs(roots).max(), rel=1e-7)


@pytest.mark.parametrize(
    "iteration", [HeavyBall(0.3), Nesterov(0.4), Fista(L1(0.1))], ids=["ball", "Nesterov", "FISTA"]
)
@pytest.mark.parametrize("start", [[0.5, -2.0, 1.0], [[0.5, -2.0, 1.0], [1.0, 1.0, 1.0]]])
def test_gains_are_those_of_the_derivative_of_the_iterate(iteration, start) -> None:
    problem = problem_with([1.0, 2.0, 5.0])
    network = UnfoldedIteration(Schedule([0.2, 0.3, 0.1]), iteration=iteration)
    x0 = torch.tensor(start, dtype=torch.float64)
    first = x0 if x0.ndim == 1 else x0[0]
    found = local_spectra(network, problem, x0)
    for depth in (1, 2, 3):
        jacobian = torch.autograd.functional.jacobian(
            lambda x, depth=depth: network(problem, x, num_layers=depth), first
        )
        expected = np.linalg.norm(jacobian.numpy(), 2)
        assert found.gains[depth - 1] == pytest.approx(expected, rel=1e-9)


def test_layers_that_hand_on_more_than_they_were_given_are_refused() -> None:
    network = UnfoldedIteration(
        Schedule([0.5]), iteration=lambda x, params, _data: (x, params.step * x)
    )
    with pytest.raises(TypeError, match=r"layer 0 must hand on as much .*got 4 entries from 2"):
        local_spectra(network, None, torch.ones(2, dtype=torch.float64))


def test_ritz_values_of_many_unknowns_reach_the_ends_of_the_spectrum() -> None:
    eigenvalues = np.concatenate([[0.1], np.linspace(1.0, 4.0, 700), [10.0]])
    steps = [0.11, 0.3, 0.19]
    found = local_spectra(UnfoldedIteration(Schedule(steps)), problem_with(eigenvalues.tolist()))
    assert found.is_estimate
    for row, gamma, radius in zip(found.eigenvalues, steps, found.radii, strict=True):
        assert 0.1 * (1 - 1e-9) <= np.nanmin(row) < 0.12
        assert 9.8 < np.nanmax(row) <= 10.0 * (1 + 1e-9)
        assert radius == pytest.approx(np.abs(1 - gamma * eigenvalues).max(), rel=0.02)
    factors = np.cumprod(1 - np.outer(steps, eigenvalues), axis=0)
    largest = np.abs(factors).max(axis=1)
    assert (found.gains <= largest * (1 + 1e-6)).all()
    assert (found.gains >= 0.8 * largest).all()


def test_images_of_a_batch_have_the_spectrum_of_one_image() -> None:
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 0.0]]).double()

    def step(x: torch.Tensor, params: LayerParameters, y: torch.Tensor) -> torch.Tensor:
        blurred = torch.nn.functional.conv2d(x, kernel[None, None], padding=1)
        return x - params.step * (blurred - y)

    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.standard_normal((3, 1, 5, 6)))
    found = local_spectra(UnfoldedIteration(Schedule([0.1, 0.2]), iteration=step), y, 0 * y)
    one, other = (2 * np.cos(np.arange(1, n + 1) * np.pi / (n + 1)) for n in (5, 6))
    expected = np.sort((4 + one[:, None] + other).ravel())
    np.testing.assert_allclose(found.eigenvalues, [expected, expected], atol=1e-12)


def test_complex_vectors_have_each_eigenvalue_twice() -> None:
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((7, 4)) + 1j * rng.standard_normal((7, 4))
    problem = LeastSquares(torch.tensor(matrix), torch.ones(7, dtype=torch.complex128))
    found = local_spectra(UnfoldedIteration(Schedule([0.01, 0.03])), problem)
    expected = np.repeat(np.linalg.eigvalsh(matrix.conj().T @ matrix), 2)
    np.testing.assert_allclose(found.eigenvalues[1], expected, rtol=1e-9)
    factors = np.prod(1 - np.outer([0.01, 0.03], expected), axis=0)
    assert found.gains[-1] == pytest.approx(np.abs(factors).max(), rel=1e-9)


def test_states_of_several_shapes_are_one_vector() -> None:
    # A primal-dual step: x of three entries, z of two.
    matrix = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]], dtype=torch.float64)

    def step(state: dict, params: LayerParameters, data: None) -> dict:
        x = state["x"] - params.step * (state["x"] + state["z"] @ matrix)
        return {"x": x, "z": state["z"] + params.step * (x @ matrix.T - state["z"])}

    start = {"x": torch.ones(3).double(), "z": torch.ones(2).double()}
    found = local_spectra(UnfoldedIteration(Schedule([0.3]), iteration=step), None, start)
    a, identity = matrix.numpy(), np.eye(3)
    top = np.hstack([0.7 * identity, -0.3 * a.T])
    bottom = np.hstack([0.3 * a @ (0.7 * identity), 0.7 * np.eye(2) - 0.09 * a @ a.T])
    jacobian = np.vstack([top, bottom])
    assert found.has_memory
    assert found.radii[0] == pytest.approx(np.abs(np.linalg.eigvals(jacobian)).max(), rel=1e-12)
    assert found.gains[0] == pytest.approx(np.linalg.norm(jacobian, 2), rel=1e-12)


def test_a_jacobian_that_is_not_finite_is_refused() -> None:
    network = UnfoldedIteration(
        Schedule([0.5, 0.5]), iteration=lambda x, params, _data: params.step * x.sqrt()
    )
    with pytest.raises(ValueError, match="Jacobian of layer 0 is not finite"):
        local_spectra(network, None, torch.zeros(2, dtype=torch.float64))


def test_a_network_takes_back_what_it_has_learned() -> None:
    def make() -> UnfoldedIteration:
        return UnfoldedIteration(
            Schedule([0.2, 0.3]),
            iteration=ProximalGradient(L1(0.1)),
            parameters={"penalty.weight": 0.1},
        )

    problem = problem_with([1.0, 2.0])
    trained = make()
    loss = SampledLoss(lambda _rng: (problem, torch.ones(2, dtype=torch.float64)))
    run = train(trained, loss, all_at_once(2, 5))
    again = make()
    again.restore(run)
    assert torch.equal(again(problem), trained(problem))


def test_values_of_either_sign_are_restored() -> None:
    network = UnfoldedIteration(
        Schedule([1.0]),
        iteration=lambda x, params, _data: x @ params.inner,
        parameters={"inner": Trainable(-np.eye(2), period=1, constraint=None)},
    )
    loss = SampledLoss(lambda _rng: (None, torch.ones(3, 2).double(), torch.ones(3, 2).double()))
    run = train(network, loss, all_at_once(1, 3))
    learned = network.values("inner").detach().clone()
    with torch.no_grad():
        network.values("inner").zero_()
    network.restore(run)
    assert torch.equal(network.values("inner"), learned)
    assert not torch.equal(learned[0], -torch.eye(2).double())


def test_what_another_network_has_learned_is_refused() -> None:
    problem = problem_with([1.0, 2.0])
    loss = SampledLoss(lambda _rng: (problem, torch.ones(2, dtype=torch.float64)))
    run = train(UnfoldedIteration(Schedule([0.2])), loss, all_at_once(1, 2))
    with pytest.raises(ValueError, match="with 2 layers"):
        UnfoldedIteration(Schedule([0.2, 0.3])).restore(run)
