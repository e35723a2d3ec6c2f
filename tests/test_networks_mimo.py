"""Detection in overloaded MIMO channels: the channel, linear detectors and the trained one."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from stepfold.unfolded.networks.mimo import (
    OverloadedMimo,
    bit_error_rate,
    error_rates,
    tpg_detector,
)


@pytest.fixture
def sample():
    return OverloadedMimo(6, 4, snr=12.0, batch_size=5)(np.random.default_rng(0))


def test_rows_of_the_turned_channel_are_orthogonal(sample) -> None:
    channel = sample.data
    gram = channel.matrix @ channel.matrix.T
    torch.testing.assert_close(gram, torch.diag(channel.gains), atol=1e-4, rtol=1e-4)


def test_zero_forcing_is_the_pseudo_inverse(sample) -> None:
    expected = sample.data.received @ torch.linalg.pinv(sample.data.matrix).T
    torch.testing.assert_close(sample.data.zero_forcing(), expected, atol=1e-4, rtol=1e-4)


def test_linear_mmse_is_the_ridge_solution(sample) -> None:
    channel = sample.data
    gram = channel.matrix.T @ channel.matrix + channel.noise_variance * torch.eye(12)
    expected = torch.linalg.solve(gram, (channel.received @ channel.matrix).T).T
    torch.testing.assert_close(channel.linear_mmse(), expected, atol=1e-4, rtol=1e-4)


def test_the_signal_to_noise_ratio_is_that_of_a_receiving_antenna() -> None:
    sampler = OverloadedMimo(40, 30, snr=10.0, batch_size=500)
    rng = np.random.default_rng(0)
    signal = noise = 0.0
    for _ in range(10):
        channel, symbols, _ = sampler(rng)
        clean = symbols @ channel.matrix.T
        signal += float((clean**2).sum())
        noise += float(((channel.received - clean) ** 2).sum())
    assert 10 * math.log10(signal / noise) == pytest.approx(10.0, abs=0.2)


def test_an_entry_without_a_sign_is_an_error() -> None:
    assert bit_error_rate(torch.zeros(3), torch.ones(3)) == 1.0


def test_a_layer_is_a_step_towards_the_data_and_a_hyperbolic_tangent(sample) -> None:
    task = tpg_detector(num_layers=1, num_sending=6, num_receiving=4)
    channel = sample.data
    matrix = channel.matrix
    inverse = torch.linalg.inv(matrix @ matrix.T + 0.05 * 8 * torch.eye(8))
    expected = torch.tanh(channel.received @ inverse @ matrix)
    output = task.network(channel, torch.zeros_like(sample.target))
    torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)


def test_a_trained_detector_makes_fewer_errors_than_linear_ones() -> None:
    task = tpg_detector(num_layers=4, num_sending=16, num_receiving=12, batch_size=100)
    training = dataclasses.replace(task.training, num_iterations=15)
    dataclasses.replace(task, training=training).train()
    sampler = OverloadedMimo(16, 12, snr=20.0, batch_size=100)
    rates = error_rates(task.network, sampler, num_channels=40)
    assert rates["TPG detector"] < 0.7 * rates["linear MMSE"]
    assert rates["linear MMSE"] <= rates["zero forcing"]


def test_more_antennas_that_receive_than_send_are_refused() -> None:
    with pytest.raises(ValueError, match="`num_receiving` must be at most `num_sending`, 3, got 4"):
        OverloadedMimo(3, 4)


def test_a_ratio_that_is_no_number_is_refused() -> None:
    with pytest.raises(
        ValueError, match="`snr` must be a finite number of dB, at most 300, got nan"
    ):
        OverloadedMimo(4, 3, snr=math.nan)
