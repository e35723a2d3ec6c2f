"""Tomography: the phantom, the projections and the layers."""

import dataclasses

import numpy as np
import pytest
import torch

from stepfold.unfolded import LayerParameters
from stepfold.unfolded.networks.tomography import (
    SHEPP_LOGAN,
    Heads,
    Projections,
    TomographyStep,
    phantom,
    projection_matrix,
    shepp_logan,
    tomography,
)


def test_the_phantom_is_that_of_scikit_image() -> None:
    data = pytest.importorskip("skimage.data")
    theirs = data.shepp_logan_phantom()
    # Theirs has another rule for pixels at the edges of ellipses.
    assert np.abs(phantom(SHEPP_LOGAN, len(theirs)) - theirs).mean() < 0.006


def test_a_disc_has_its_area() -> None:
    image = phantom([(1.0, 0.5, 0.5, 0.1, -0.2, 30.0)], 64)
    assert image.sum() * (2 / 64) ** 2 == pytest.approx(np.pi / 4, rel=0.005)


def test_ellipses_turn_anticlockwise_and_up_is_up() -> None:
    image = phantom([(1.0, 0.6, 0.05, 0.3, 0.3, 45.0)], 32)
    rows, columns = np.nonzero(image > 0.5)
    right, up = columns - 15.5, 15.5 - rows
    assert right.mean() == pytest.approx(0.3 * 16, abs=0.6)
    assert up.mean() == pytest.approx(0.3 * 16, abs=0.6)
    assert np.corrcoef(right, up)[0, 1] > 0.9


def test_the_matrix_has_norm_one_and_every_angle_sees_the_whole_image() -> None:
    matrix = projection_matrix(12, 7)
    assert np.linalg.norm(matrix.toarray(), 2) == pytest.approx(1, rel=1e-6)
    sums = matrix.reshape(-1, 144).sum(0)
    per_angle = matrix.toarray().reshape(7, -1, 144).sum(1)
    assert sums.shape == (144,)
    np.testing.assert_allclose(per_angle, per_angle[0, 0], rtol=1e-12)


def test_beams_down_the_columns_sum_columns() -> None:
    matrix = projection_matrix(6, 2).toarray().reshape(2, -1, 6, 6)
    image = np.random.default_rng(0).random((6, 6))
    sums = np.einsum("adij,ij->ad", matrix, image) / matrix.sum((1, 2, 3))[:, None] * 36
    line = np.arange(6) - 2.5
    detectors = np.arange(matrix.shape[1]) - matrix.shape[1] // 2
    down, across = image.sum(0), image.sum(1)
    # Centres lie between two detectors: the first moment is kept.
    assert sums[0] @ detectors == pytest.approx(down @ line, rel=1e-9)
    assert sums[1] @ detectors == pytest.approx(-(across @ line), rel=1e-9)
    assert sums[0].sum() == pytest.approx(image.sum(), rel=1e-12)


def test_products_and_their_derivatives_are_those_of_the_matrix() -> None:
    dense = torch.from_numpy(projection_matrix(8, 5).toarray().astype(np.float32))
    projections = Projections(8, 5)
    images = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    sums = projections.forward(images)
    torch.testing.assert_close(sums, images.reshape(3, -1) @ dense.T)
    torch.testing.assert_close(
        projections.adjoint(sums), (sums @ dense).reshape(3, 8, 8), check_stride=False
    )
    weights = torch.randn(sums.shape, generator=torch.Generator().manual_seed(1))
    (sums * weights).sum().backward()
    torch.testing.assert_close(images.grad, (weights @ dense).reshape(3, 8, 8))


def test_an_untrained_layer_is_a_projected_gradient_step() -> None:
    data, target, _ = Heads(side=16, num_angles=6)(np.random.default_rng(2))
    x = target - 0.1
    found = TomographyStep()(x, LayerParameters(step=1.7), data)
    torch.testing.assert_close(found, data.gradient_step(x, 1.7).clamp(min=0))


def test_the_noise_is_a_share_of_the_data() -> None:
    data, target, _ = Heads(side=32, noise=0.05, batch_size=8)(np.random.default_rng(3))
    clean = data.projections.forward(target)
    share = float((data.seen - clean).norm() / clean.norm())
    assert share == pytest.approx(0.05, rel=0.02)


def test_training_changes_the_prior_and_the_steps_and_lowers_the_error() -> None:
    task = tomography(num_layers=3, side=16, num_angles=8)
    sample = shepp_logan(task.loss.sampler)

    def error() -> float:
        with torch.no_grad():
            output = task.network(sample.data, torch.zeros_like(sample.target))
        return float(((output - sample.target) ** 2).mean())

    before, steps = error(), task.network.steps.detach().clone()
    last = task.network.iteration.prior[-1].weight.detach().clone()
    dataclasses.replace(
        task, training=dataclasses.replace(task.training, num_iterations=30)
    ).train()
    assert error() < 0.8 * before
    assert not torch.equal(task.network.steps.detach(), steps)
    assert not torch.equal(task.network.iteration.prior[-1].weight.detach(), last)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": 4}, "`side` must be at least 8"),
        ({"noise": 0.0}, "`noise` must be positive"),
        ({"num_angles": 0}, "`num_angles` must be"),
        ({"batch_size": 0}, "`batch_size` must be"),
    ],
)
def test_impossible_scans_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        Heads(**{"side": 16, "num_angles": 4, **options})
