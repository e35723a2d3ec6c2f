"""A denoiser that returns an equilibrium: its field, its fixed point and its derivatives."""

import functools

import numpy as np
import pytest
import torch

from stepfold import Schedule
from stepfold.unfolded import SampledLoss, UnfoldedIteration, all_at_once, train
from stepfold.unfolded.networks.equilibrium import (
    ConvexField,
    Equilibrium,
    NoisyPatches,
    descent_step,
)

SHAPE = (6, 7)


@pytest.fixture
def field():
    field = ConvexField().double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        field.filters += 0.1 * torch.randn(field.filters.shape, generator=generator)
    return field


def pictures(seed, count=2):
    return torch.rand(
        count, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def test_the_field_is_the_gradient_of_its_value(field) -> None:
    x = pictures(1).requires_grad_()
    (gradient,) = torch.autograd.grad(field.value(x).sum(), x)
    torch.testing.assert_close(field(x), gradient)


@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0])
def test_the_curvature_lies_between_zero_and_its_bound(field, scale) -> None:
    # At 0 all lengths are on their round tips, where the bound is reached.
    x = scale * pictures(2, 1)
    hessian = torch.autograd.functional.jacobian(field, x).reshape(42, 42)
    torch.testing.assert_close(hessian, hessian.T)
    eigenvalues = torch.linalg.eigvalsh(hessian)
    bound = field.curvature(SHAPE)
    assert eigenvalues[0] >= -1e-9 * bound
    assert eigenvalues[-1] <= bound * (1 + 1e-9)
    if scale == 0:
        assert eigenvalues[-1] == pytest.approx(bound, rel=1e-9)


def test_a_picture_without_contrast_is_its_own_equilibrium(field) -> None:
    flat = torch.full((1, *SHAPE), 0.3, dtype=torch.float64)
    torch.testing.assert_close(field(flat), torch.zeros_like(flat))


def test_the_equilibrium_is_the_minimiser_from_any_start(field) -> None:
    noisy = pictures(3)
    layer = Equilibrium(field, rtol=1e-10)
    with torch.no_grad():
        found = [layer(start, None, noisy) for start in (noisy, torch.zeros_like(noisy))]
        torch.testing.assert_close(found[0], found[1], rtol=1e-7, atol=1e-7)
        # The gradient of ½‖x − y‖² + R(x), whose curvature is at least 1, bounds the distance.
        assert float((found[0] - noisy + field(found[0])).norm()) < 1e-7


def test_derivatives_of_the_equilibrium_are_those_of_many_unrolled_steps(field) -> None:
    noisy = pictures(4)
    weights = pictures(5)
    leaves = list(field.parameters())
    implicit = Equilibrium(field, rtol=1e-11)(noisy, None, noisy)
    gradients = torch.autograd.grad((weights * implicit).sum(), leaves)
    network = UnfoldedIteration(
        Schedule(np.full(1, 2 / (2 + field.curvature(SHAPE)))),
        iteration=functools.partial(descent_step, field),
        num_layers=1500,
    )
    unrolled = network(noisy, noisy)
    expected = torch.autograd.grad((weights * unrolled).sum(), leaves)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_training_an_equilibrium_changes_its_field_and_lowers_the_error() -> None:
    rng = np.random.default_rng(0)
    blocks = [np.kron(rng.random((8, 8)), np.ones((5, 5))) for _ in range(3)]
    sampler = NoisyPatches(blocks, side=20, batch_size=4)
    field = ConvexField()
    network = UnfoldedIteration(
        Schedule(np.ones(1)), iteration=Equilibrium(field), train_steps=False, dtype=torch.float32
    )
    sample = sampler(np.random.default_rng(1))

    def error() -> float:
        with torch.no_grad():
            return float((network(sample.data, sample.start) - sample.target).square().mean())

    before = {name: value.clone() for name, value in field.named_parameters()}
    first = error()
    train(
        network,
        SampledLoss(sampler),
        all_at_once(1, 15),
        optimizer=functools.partial(torch.optim.Adam, lr=0.03),
        relative=True,
    )
    assert error() < first
    assert all(not torch.equal(value, before[name]) for name, value in field.named_parameters())


def test_patches_have_the_noise_that_is_asked_for() -> None:
    sampler = NoisyPatches([np.full((40, 40), 0.5)], side=32, noise=0.2, batch_size=16)
    sample = sampler(np.random.default_rng(0))
    assert sample.data.shape == (16, 32, 32)
    assert float((sample.data - sample.target).std()) == pytest.approx(0.2, rel=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": 41}, "at most the smallest side of a picture, 40, got 41"),
        ({"noise": 0.0}, "noise"),
    ],
)
def test_patches_that_do_not_exist_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        NoisyPatches([np.zeros((40, 50))], **options)
