"""Deblurring: the blur, the shrinkage of windows, and the photographs."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

from stepfold.iterations import Fista
from stepfold.lab.experiments.deblurring import _PictureVariation
from stepfold.problems.penalties.total_variation import TotalVariation
from stepfold.unfolded import Sample
from stepfold.unfolded.networks.blur import Blurred, BlurredPatches, blur_matrix, held_out
from stepfold.unfolded.networks.deblurring import (
    WindowCosines,
    deblurring,
    geometric_mean_error,
    peak_signal_to_noise_ratio,
    shrink,
)
from stepfold.unfolded.networks.photographs import HELD_OUT, TRAINING, photographs


def picture(rows: int = 7, columns: int = 9) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((2, rows, columns)))


def test_a_mirrored_blur_is_diagonal_in_cosines() -> None:
    matrix = blur_matrix(16, 1.5).double().numpy()
    cosines = dctn(np.eye(16), axes=(0,), norm="ortho")
    turned = cosines @ matrix @ cosines.T
    np.testing.assert_allclose(turned, np.diag(np.diag(turned)), atol=1e-6)
    assert np.diag(turned).max() == pytest.approx(1.0, abs=1e-6)


def test_a_wide_blur_of_a_short_line_keeps_constants() -> None:
    torch.testing.assert_close(blur_matrix(5, 3.0).sum(1), torch.ones(5))


def test_a_step_descends_the_gradient_of_the_squared_residual() -> None:
    x = picture(6, 6).requires_grad_()
    matrix = blur_matrix(6, 1.0).double()
    seen = picture(6, 6).flip(0)
    residual = matrix @ x @ matrix.T - seen
    (gradient,) = torch.autograd.grad((residual**2).sum() / 2, x)
    moved = Blurred(matrix, seen).gradient_step(x, 0.7)
    torch.testing.assert_close(moved, x - 0.7 * gradient)


def test_shrinkage_is_the_mean_over_windows_with_cosines_thresholded() -> None:
    x = picture()
    threshold = 0.15
    mirrored = np.pad(x.numpy(), ((0, 0), (2, 2), (2, 2)), mode="reflect")
    total = np.zeros_like(mirrored)
    for row in range(mirrored.shape[1] - 2):
        for column in range(mirrored.shape[2] - 2):
            place = slice(None), slice(row, row + 3), slice(column, column + 3)
            values = dctn(mirrored[place], axes=(1, 2), norm="ortho")
            moved = np.sign(values) * np.maximum(np.abs(values) - threshold, 0)
            moved[:, 0, 0] = values[:, 0, 0]
            total[place] += idctn(moved, axes=(1, 2), norm="ortho") / 9
    expected = total[:, 2:-2, 2:-2]
    torch.testing.assert_close(shrink(x, torch.tensor(threshold)), torch.from_numpy(expected))


def test_the_network_starts_as_fista() -> None:
    task = deblurring(num_layers=5, side=12, batch_size=2)
    sample = task.loss.sampler(np.random.default_rng(0))
    method = Fista(WindowCosines(0.001), restart=False)  # a tenth of a hundredth
    state = method.init(sample.data, sample.start)
    for _ in range(5):
        state = method.step(sample.data, state, 1.0)
    output = task.network(sample.data, sample.start)
    torch.testing.assert_close(output, method.iterate(state))


def test_training_maximises_the_mean_ratio_of_the_pictures() -> None:
    x = picture()
    wrong = x + torch.tensor([0.1, 0.001])[:, None, None]
    error = geometric_mean_error(wrong, Sample(None, x))
    assert error.item() == pytest.approx(1e-4)
    ratio = peak_signal_to_noise_ratio(wrong, x)
    assert -10 * math.log10(error.item()) == pytest.approx(ratio)


def test_the_total_variation_of_pictures_is_that_of_rows() -> None:
    x, ours = picture(), _PictureVariation(0.05)
    theirs = TotalVariation(0.05, (7, 9))
    rows = x.numpy().reshape(2, -1)
    expected = theirs.prox(rows, 0.4).reshape(x.shape)
    torch.testing.assert_close(ours.prox(x, 0.4), torch.from_numpy(expected), atol=2e-3, rtol=0)
    np.testing.assert_allclose(ours.value(x).numpy(), theirs.value(rows))


def test_without_threshold_nothing_changes() -> None:
    torch.testing.assert_close(shrink(picture(), torch.tensor(0.0)), picture())


def test_large_thresholds_leave_a_constant_alone() -> None:
    constant = torch.full((1, 5, 5), 0.4).double()
    torch.testing.assert_close(shrink(constant, torch.tensor(9.0)), constant)


def test_the_proximal_step_lowers_the_penalty_and_stays_close() -> None:
    x, penalty = picture(), WindowCosines(0.3)
    moved = penalty.prox(x, 0.5)
    assert (penalty.value(moved) < penalty.value(x)).all()
    objective = penalty.value(moved) + ((moved - x) ** 2).sum((1, 2)) / (2 * 0.5)
    assert (objective < penalty.value(x)).all()


def test_thresholds_of_each_coefficient_are_trained_by_gradients() -> None:
    thresholds = torch.full((8,), 0.1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: shrink(picture(), t), (thresholds,), atol=1e-6)


def test_held_out_photographs_are_others_than_those_of_training() -> None:
    assert not set(HELD_OUT) & set(TRAINING)
    sample = held_out()
    assert sample.target.shape == (3, 192, 192)
    assert 0 <= sample.target.min() < 0.2 < 0.7 < sample.target.max() <= 1


def test_blurred_photographs_differ_from_sharp_ones_by_blur_and_noise() -> None:
    sample = held_out(noise=0.05)
    clean = sample.data.matrix @ sample.target @ sample.data.matrix.T
    assert (sample.start - clean).std().item() == pytest.approx(0.05, rel=0.01)


def test_the_ratio_of_a_tenth_is_twenty_decibels() -> None:
    x = picture()
    assert peak_signal_to_noise_ratio(x + 0.1, x) == pytest.approx(20.0)


def test_without_scikit_image_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ModuleNotFoundError, match=r"install '\.\[photographs\]'"):
        photographs(["camera"])


def test_an_unknown_photograph_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`names` must be among .*, got 'selfie'"):
        photographs(["selfie"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": 300}, r"`side` must be at least 3 and at most .*, got 300"),
        ({"side": 2}, "`side` must be at least 3"),
        ({"noise": 0.0}, "`noise` must be positive and finite, got 0.0"),
        ({"width": float("nan")}, "`width` must be positive and finite, got nan"),
    ],
)
def test_impossible_patches_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        BlurredPatches([np.zeros((20, 20))], **options)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="`weight` must be at least 0 and finite, got -1"):
        WindowCosines(-1.0)
