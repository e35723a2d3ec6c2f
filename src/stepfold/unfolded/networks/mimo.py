"""Detection in overloaded MIMO channels by projected gradients with trained steps (TPG detector).

n antennas send, m < n receive: ``y = Hx + w``, the entries of x are ±1 (real and imaginary parts of
QPSK symbols), those of the complex H have variance 1. A layer is

    r = x + γₜ Hᵀ(HHᵀ + αI)⁻¹(y − Hx),    x⁺ = tanh(r / θₜ),

tanh being a soft projection onto {−1, 1}. Trained are the steps γₜ, the θₜ and α. A new channel is
drawn for every mini-batch, so that the network serves every channel of the kind.

References:
    Takabe, Imanishi, Wadayama, Hayakawa and Hayashi, Trainable Projected Gradient Detector for
    Massive Overloaded MIMO Channels: Data-driven Tuning Approach (arXiv:1812.10044); Takabe,
    Imanishi, Wadayama and Hayashi, Deep Learning-Aided Projected Gradient Detector for Massive
    Overloaded MIMO Channels (arXiv:1806.10827).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stepfold._checks import check_depth, check_real, check_size
from stepfold.schedules import Schedule
from stepfold.unfolded._layers import LayerParameters
from stepfold.unfolded.losses import SampledLoss
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.networks.base import NETWORKS, Task, TrainingSettings
from stepfold.unfolded.parameters import Trainable
from stepfold.unfolded.samplers import Sample


class Channel(NamedTuple):
    """A channel and what was received through it, turned so that ``HHᵀ`` is diagonal.

    Args:
        matrix: H, turned, shape (k, 2 num_sending), k its rank at most.
        gains: The diagonal of ``HHᵀ``, shape (k,).
        received: What was received, turned, shape (batch, k).
        noise_variance: Variance of an entry of the noise.
    """

    matrix: Tensor
    """UᵀH, real, shape (2m, 2n), with orthogonal rows."""
    gains: Tensor
    """Eigenvalues of HHᵀ, shape (2m,)."""
    received: Tensor
    """Uᵀy, shape (batch, 2m)."""
    noise_variance: float
    """Variance of an entry of w."""

    def regularised_inverse(self, residual: Tensor, ridge: Tensor | float) -> Tensor:
        """``Hᵀ(HHᵀ + ridge·I)⁻¹`` of each row of ``residual``, shape (batch, 2n)."""
        return (residual / (self.gains + ridge)) @ self.matrix

    def zero_forcing(self) -> Tensor:
        """The smallest x with ``Hx = y``, shape (batch, 2n)."""
        return self.regularised_inverse(self.received, 0.0)

    def linear_mmse(self) -> Tensor:
        """The linear estimate of x of least mean squared error, shape (batch, 2n)."""
        return self.regularised_inverse(self.received, self.noise_variance)


class OverloadedMimo:
    """Sampler of channels, symbols and receptions; a channel for each batch.

    Args:
        num_sending: n, antennas that send.
        num_receiving: m, antennas that receive, at most n.
        snr: Signal-to-noise ratio of a receiving antenna in dB.
        batch_size: Receptions through a channel.

    Raises:
        ValueError: If a count is not positive, or more antennas receive than send.

    >>> sample = OverloadedMimo(4, 2, batch_size=3)(np.random.default_rng(0))
    >>> tuple(sample.data.matrix.shape), tuple(sample.target.shape)
    ((4, 8), (3, 8))
    """

    def __init__(
        self,
        num_sending: int = 50,
        num_receiving: int = 32,
        *,
        snr: float = 20.0,
        batch_size: int = 200,
    ) -> None:
        self.num_sending = check_size("num_sending", num_sending)
        self.num_receiving = check_size("num_receiving", num_receiving)
        if num_receiving > num_sending:
            raise ValueError(
                f"`num_receiving` must be at most `num_sending`, {num_sending}, got "
                f"{num_receiving}: the channel is overloaded"
            )
        if not abs(check_real("snr", snr)) <= 300:
            raise ValueError(f"`snr` must be a finite number of dB, at most 300, got {snr!r}")
        self.snr = snr
        self.batch_size = check_size("batch_size", batch_size)

    def __call__(self, rng: np.random.Generator) -> Sample:
        """A channel with a batch of receptions, and the symbols, shape (batch, 2n)."""
        shape = (2, self.num_receiving, self.num_sending)
        real, imaginary = rng.standard_normal(shape) * math.sqrt(0.5)
        matrix = np.block([[real, -imaginary], [imaginary, real]])
        left, singular, right = np.linalg.svd(matrix, full_matrices=False)
        symbols = 1.0 - 2.0 * rng.integers(0, 2, (self.batch_size, 2 * self.num_sending))
        # A row of the real H has 2n entries of variance ½: the signal has variance n.
        noise_variance = self.num_sending / 10 ** (self.snr / 10)
        noise = math.sqrt(noise_variance) * rng.standard_normal((self.batch_size, left.shape[0]))
        received = (symbols @ matrix.T + noise) @ left
        turned = singular[:, None] * right
        tensors = [turned, singular**2, received, symbols]
        rows, gains, seen, sent = (torch.from_numpy(a.astype(np.float32)) for a in tensors)
        return Sample(Channel(rows, gains, seen, noise_variance), sent)


def detector_layer(x: Tensor, params: LayerParameters, channel: Channel) -> Tensor:
    """One layer, for `UnfoldedIteration` with parameters ``softness`` and ``ridge``."""
    residual = channel.received - x @ channel.matrix.T
    ridge = params.ridge * len(channel.gains)  # α grows with the channel; this has one scale
    moved = x + params.step * channel.regularised_inverse(residual, ridge)
    return torch.tanh(moved / params.softness)


def bit_error_rate(output: Tensor, symbols: Tensor) -> float:
    """Share of entries whose sign is wrong; no sign at all is wrong.

    >>> bit_error_rate(torch.tensor([0.5, -0.1, 0.0, 2.0]), torch.ones(4))
    0.5
    """
    return float((output * symbols <= 0).double().mean())


@NETWORKS.register("tpg_detector")
def tpg_detector(
    *,
    num_layers: int = 16,
    num_sending: int = 50,
    num_receiving: int = 32,
    snr: float = 20.0,
    batch_size: int = 200,
) -> Task:
    """Projected gradients with trained steps and projections for overloaded MIMO channels.

    Args:
        num_layers: T.
        num_sending: n, antennas that send.
        num_receiving: m, antennas that receive.
        snr: Signal-to-noise ratio of a receiving antenna in dB.
        batch_size: Receptions in a mini-batch, all through one channel.

    >>> task = tpg_detector(num_layers=2, num_sending=4, num_receiving=3, batch_size=2)
    >>> sorted(task.network.learned())
    ['ridge', 'softness']
    """
    sampler = OverloadedMimo(num_sending, num_receiving, snr=snr, batch_size=batch_size)
    network = UnfoldedIteration(
        Schedule(np.ones(check_depth(num_layers))),
        iteration=detector_layer,
        parameters={"softness": 1.0, "ridge": Trainable(0.05, period=1)},
        dtype=torch.float32,
    )
    return Task(
        network,
        SampledLoss(sampler),
        TrainingSettings(num_iterations=100, learning_rate=0.02),
        evaluate=lambda network: error_rates(network, sampler, num_channels=50),
    )


def error_rates(
    network: UnfoldedIteration, sampler: OverloadedMimo, *, num_channels: int
) -> Mapping[str, float]:
    """Bit error rates over channels that training does not see, by detector."""
    rng = np.random.default_rng([2**32, 1])
    totals = {"TPG detector": 0.0, "linear MMSE": 0.0, "zero forcing": 0.0}
    for _ in range(num_channels):
        channel, symbols, _ = sampler(rng)
        with torch.no_grad():
            outputs = (
                network(channel, torch.zeros_like(symbols)),
                channel.linear_mmse(),
                channel.zero_forcing(),
            )
        for name, output in zip(totals, outputs, strict=True):
            totals[name] += bit_error_rate(output, symbols)
    return {name: total / num_channels for name, total in totals.items()}
