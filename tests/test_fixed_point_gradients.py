"""Fixed points of maps with weights: their gradients, what is recorded, and who is warned."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stepfold import FixedPoint, accelerate, solve
from stepfold.accelerate import ConvergenceWarning, GradientWarning, iterate
from stepfold.unfolded import fixed_point


def _cell(radius: float, size: int = 12) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(size, size, generator=generator).double()
    matrix = matrix + matrix.T
    weight = (matrix * (radius / torch.linalg.matrix_norm(matrix, 2))).requires_grad_()
    offset = (0.01 * torch.randn(3, size, generator=generator).double()).requires_grad_()
    return weight, offset, lambda z: torch.tanh(z @ weight) + offset


def _gradients(z: Tensor, *leaves: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(z.square().sum() + z.sum(), leaves))


@pytest.mark.parametrize("radius", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("batch", [False, True])
def test_gradients_are_those_of_unrolling(radius: float, batch: bool) -> None:
    weight, offset, function = _cell(radius)
    start = torch.zeros(3, 12, dtype=torch.float64)
    unrolled = start
    for _ in range(round(40 / (1 - radius))):
        unrolled = function(unrolled)
    found = _gradients(fixed_point(function, start, batch=batch), weight, offset)
    for ours, true in zip(found, _gradients(unrolled, weight, offset), strict=True):
        assert float((ours - true).abs().max()) <= 1e-8 * float(true.abs().max())


def test_gradients_of_an_affine_map_are_those_of_a_direct_solver() -> None:
    rng = np.random.default_rng(5)
    matrix, rhs = 0.2 * rng.standard_normal((6, 6)), rng.standard_normal(6)
    weight = torch.tensor(matrix, requires_grad=True)
    offset = torch.tensor(rhs, requires_grad=True)
    x = fixed_point(lambda z: weight @ z + offset, torch.zeros(6, dtype=torch.float64))
    x.sum().backward()
    w = np.linalg.solve(np.eye(6) - matrix.T, np.ones(6))
    np.testing.assert_allclose(offset.grad, w, rtol=1e-9)
    solution = np.linalg.solve(np.eye(6) - matrix, rhs)
    np.testing.assert_allclose(weight.grad, np.outer(w, solution), rtol=1e-8)


def test_gradients_of_complex_maps_are_those_of_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = 0.2 * torch.randn(3, 3, dtype=torch.complex128, generator=generator)
    offset = torch.randn(3, dtype=torch.complex128, generator=generator)

    def solution(weight: Tensor, offset: Tensor) -> Tensor:
        return fixed_point(
            lambda z: torch.tanh(weight @ z.conj()) + offset, 0 * offset.detach(), rtol=1e-13
        )

    leaves = (weight.requires_grad_(), offset.requires_grad_())
    assert torch.autograd.gradcheck(solution, leaves)


def test_the_value_is_that_of_accelerate_to_the_last_bit() -> None:
    _, _, function = _cell(0.9)
    start = torch.zeros(3, 12, dtype=torch.float64)
    with torch.no_grad():
        plain = accelerate(function, start, rtol=1e-10).x
    assert torch.equal(fixed_point(function, start).detach(), plain)


@pytest.mark.parametrize("backward", [False, True])
def test_what_is_recorded_does_not_grow_with_the_number_of_evaluations(backward: bool) -> None:
    kept, evaluations = [], []
    for radius in (0.3, 0.99):
        weight, offset, function = _cell(radius)
        recorded, calls = [0], [0]

        def counted(
            z: Tensor,
            function: Callable[[Tensor], Tensor] = function,
            calls: list[int] = calls,
        ) -> Tensor:
            calls[0] += 1
            return function(z)

        def note(tensor: Tensor, recorded: list[int] = recorded) -> Tensor:
            recorded[0] += tensor.numel()
            return tensor

        start = torch.zeros(3, 12, dtype=torch.float64)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            z = accelerate(counted, start, differentiable=True).x
            if backward:
                _gradients(z, weight, offset)
        kept.append(recorded[0])
        evaluations.append(calls[0])
    assert evaluations[1] > 2 * evaluations[0]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("differentiable", [False, True])
def test_only_one_evaluation_at_each_end_is_recorded(differentiable: bool) -> None:
    _, _, function = _cell(0.9)
    modes = []

    def watched(z: Tensor) -> Tensor:
        modes.append(torch.is_grad_enabled())
        return function(z)

    start = torch.zeros(3, 12, dtype=torch.float64)
    if differentiable:
        accelerate(watched, start, differentiable=True)
    else:
        with pytest.warns(GradientWarning):
            accelerate(watched, start)
    assert modes == [True] + [False] * (len(modes) - 1 - differentiable) + [True] * differentiable


@pytest.mark.parametrize("run", [accelerate, iterate, lambda f, z: solve(FixedPoint(f), None, z)])
def test_whoever_would_lose_gradients_is_warned(run: Callable[..., object]) -> None:
    _, _, function = _cell(0.5)
    with pytest.warns(GradientWarning, match="differentiable=True"):
        run(function, torch.zeros(3, 12, dtype=torch.float64))


def test_nobody_is_warned_who_wants_no_gradients() -> None:
    _, _, function = _cell(0.5)
    start = torch.zeros(3, 12, dtype=torch.float64)
    with torch.no_grad():
        assert not accelerate(function, start).x.requires_grad
        assert not fixed_point(function, start).requires_grad


def test_a_map_without_weights_gives_a_point_without_a_graph() -> None:
    start = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    assert not fixed_point(torch.cos, start).requires_grad


@pytest.mark.parametrize("in_place", [False, True])
def test_a_map_may_differentiate_on_the_way(in_place: bool) -> None:
    def descent(x: Tensor) -> Tensor:
        point = x.requires_grad_() if in_place else x.detach().requires_grad_()
        energy = (point**4 / 4 + point**2 / 2 - point).sum()
        return (
            (point - 0.3 * torch.autograd.grad(energy, point)[0])
            if in_place
            else (point - 0.3 * torch.autograd.grad(energy, point)[0]).detach()
        )

    x = accelerate(descent, torch.zeros(2, dtype=torch.float64)).x
    assert not x.requires_grad
    np.testing.assert_allclose(x**3 + x, np.ones(2), rtol=1e-7)


def test_a_module_is_trained_through_its_fixed_point() -> None:
    generator = torch.Generator().manual_seed(0)
    module = nn.Linear(4, 4).double()
    nn.init.orthogonal_(module.weight, 0.5, generator=generator)
    target = 0.3 * torch.randn(4, generator=generator).double()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        x = fixed_point(lambda z: torch.tanh(module(z)), torch.zeros(4, dtype=torch.float64))
        loss = (x - target).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-6 * losses[0]


def test_second_derivatives_are_refused() -> None:
    weight, _, function = _cell(0.5)
    z = fixed_point(function, torch.zeros(3, 12, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="create_graph=True"):
        torch.autograd.grad(z.sum(), weight, create_graph=True)


def test_a_point_that_was_not_found_is_told() -> None:
    _, _, function = _cell(0.99)
    with pytest.warns(ConvergenceWarning, match="BUDGET"):
        fixed_point(function, torch.zeros(3, 12, dtype=torch.float64), max_products=20)


def test_a_gradient_that_was_not_found_is_told() -> None:
    weight = torch.tensor(0.999, dtype=torch.float64, requires_grad=True)
    start = torch.zeros(40, dtype=torch.float64)
    factors = torch.linspace(-1, 1, 40, dtype=torch.float64)
    z = fixed_point(lambda z: weight * factors * z, start, max_products=3)  # 0 is the solution
    with pytest.warns(ConvergenceWarning, match=r"gradient.*BUDGET"):
        z.sum().backward()


def test_gradients_of_other_arrays_are_refused() -> None:
    with pytest.raises(TypeError, match=r"`differentiable=True`.*ndarray"):
        accelerate(np.cos, np.zeros(2), differentiable=True)
    with pytest.raises(TypeError, match=r"`x0` must be a tensor"):
        fixed_point(torch.cos, [0.0])  # type: ignore[arg-type]
