"""Deblurring photographs: gradient steps and shrinkage of 3×3 cosine coefficients, both trained.

``y = Kx + w``, K a Gaussian blur, mirrored at the edges. A layer takes a gradient step of
``½‖Kx − y‖²``, cuts the picture into all 3×3 windows, moves the eight cosine coefficients of each
window that are not its mean towards 0, each by a threshold of its own, and averages the windows.
With equal thresholds that is the average of nine proximal operators, one for each way to tile the
picture with windows (a proximal average); `WindowCosines` offers it to proximal methods.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stepfold._checks import check_count
from stepfold._typing import FloatArray
from stepfold.problems.penalties import Penalty
from stepfold.schedules import Schedule
from stepfold.unfolded.losses import SampledLoss
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.networks.base import NETWORKS, Task, TrainingSettings
from stepfold.unfolded.networks.photographs import HELD_OUT, TRAINING, photographs
from stepfold.unfolded.networks.sparse_signals import soft_threshold
from stepfold.unfolded.samplers import Sample

SIDE = 192
"""Rows and columns of a held-out picture."""

_UNIT = 0.01  # thresholds are trained in hundredths of the range of values


def blur_matrix(size: int, width: float) -> Tensor:
    """Gaussian blur of a line of ``size`` pixels, mirrored at the ends, shape (size, size).

    >>> blur_matrix(4, 0.5).sum(1).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    radius = math.ceil(4 * width)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / width) ** 2)
    kernel /= kernel.sum()
    matrix = np.zeros((size, size))
    for offset, weight in zip(offsets, kernel, strict=True):
        places = (np.arange(size) + offset) % (2 * size)
        np.add.at(matrix, (np.arange(size), np.minimum(places, 2 * size - 1 - places)), weight)
    return torch.from_numpy(matrix.astype(np.float32))


class Blurred(NamedTuple):
    """Blurred pictures as a smooth problem over pictures, shape (batch, rows, columns)."""

    matrix: Tensor
    """Blur of a line."""
    seen: Tensor
    """y."""

    def gradient_step(self, x: Any, gamma: Any) -> Any:
        """``x − gamma·Kᵀ(Kx − y)``."""
        residual = self.matrix @ x @ self.matrix.T - self.seen
        return x - gamma * (self.matrix.T @ residual @ self.matrix)


class BlurredPatches:
    """Sampler of square patches of photographs, blurred and noisy.

    Args:
        pictures: Grey pictures with values from 0 to 1.
        side: Rows and columns of a patch.
        width: Standard deviation of the blur in pixels.
        noise: That of the noise.
        batch_size: Patches in a batch.

    Raises:
        ValueError: If a number is out of range, or a picture is smaller than a patch.
    """

    def __init__(
        self,
        pictures: list[FloatArray],
        *,
        side: int = 48,
        width: float = 1.5,
        noise: float = 0.004,
        batch_size: int = 8,
    ) -> None:
        for name, value in (("width", width), ("noise", noise)):
            if not 0 < value < math.inf:
                raise ValueError(f"`{name}` must be positive and finite, got {value!r}")
        smallest = min(min(picture.shape) for picture in pictures)
        if not 3 <= check_count("side", side) <= smallest:
            raise ValueError(
                f"`side` must be at least 3 and at most the smallest side of a picture, "
                f"{smallest}, got {side}"
            )
        self._pictures = [picture.astype(np.float32) for picture in pictures]
        self._side = side
        self._noise = noise
        self._batch_size = check_count("batch_size", batch_size)
        self._matrix = blur_matrix(side, width)

    def __call__(self, rng: np.random.Generator) -> Sample:
        """A batch of blurred patches, and the sharp ones; the network starts from the blurred."""
        patches = []
        for index in rng.integers(len(self._pictures), size=self._batch_size):
            picture = self._pictures[index]
            row, column = (rng.integers(length - self._side + 1) for length in picture.shape)
            patches.append(picture[row : row + self._side, column : column + self._side])
        return self.blurred(np.stack(patches), rng)

    def blurred(self, pictures: Any, rng: np.random.Generator) -> Sample:
        """These pictures of the patches' size, blurred and noisy."""
        sharp = torch.from_numpy(pictures)
        noise = torch.from_numpy(rng.standard_normal(pictures.shape, np.float32))
        seen = self._matrix @ sharp @ self._matrix.T + self._noise * noise
        return Sample(Blurred(self._matrix, seen), sharp, seen)


def held_out(*, width: float = 1.5, noise: float = 0.004) -> Sample:
    """The upper left 192 × 192 pixels of three photographs, blurred and noisy."""
    pictures = [picture[:SIDE, :SIDE] for picture in photographs(HELD_OUT)]
    sampler = BlurredPatches(pictures, side=SIDE, width=width, noise=noise)
    stacked = np.stack(pictures).astype(np.float32)
    return sampler.blurred(stacked, np.random.default_rng([2**32, 3]))


def _cosines() -> Tensor:
    lines = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    windows = np.einsum("ai,bj->abij", lines, lines).reshape(9, 1, 3, 3)
    return torch.from_numpy(windows)


def coefficients(pictures: Tensor) -> Tensor:
    """Cosine coefficients of all 3×3 windows of the mirrored pictures, nine planes for each."""
    mirrored = functional.pad(pictures[:, None], (2, 2, 2, 2), mode="reflect")
    return functional.conv2d(mirrored, _cosines().to(pictures.dtype))


def shrink(pictures: Tensor, thresholds: Tensor) -> Tensor:
    """Average of all windows with their coefficients, but the mean, moved towards 0.

    Args:
        pictures: Shape (batch, rows, columns).
        thresholds: Shape (8,), or () for one that serves all coefficients.

    >>> picture = torch.arange(12.0).reshape(1, 3, 4)
    >>> (shrink(picture, torch.tensor(0.0)) - picture).abs().max().item() < 1e-5
    True
    """
    planes = coefficients(pictures)
    moved = soft_threshold(planes[:, 1:], thresholds.reshape(-1, 1, 1))
    planes = torch.cat([planes[:, :1], moved], dim=1)
    averaged = functional.conv_transpose2d(planes, _cosines().to(pictures.dtype)) / 9
    return averaged[:, 0, 2:-2, 2:-2]


class WindowCosines(Penalty):
    """Mean over the nine tilings of ``μ`` times the L1 norm of cosine coefficients but the mean.

    Its `prox` is the average of the nine proximal operators, not the proximal operator of the
    average, which has no formula.

    Args:
        weight: μ, at least 0.
    """

    def __init__(self, weight: float) -> None:
        if not 0 <= weight < math.inf:
            raise ValueError(f"`weight` must be at least 0 and finite, got {weight!r}")
        self.weight = weight

    def value(self, x: Any) -> Any:
        """The penalty of each picture, shape (batch,)."""
        return self.weight * coefficients(x)[:, 1:].abs().sum((1, 2, 3)) / 9

    def prox(self, v: Any, step: Any) -> Any:
        """`shrink` with the threshold ``step·μ``."""
        return shrink(v, torch.as_tensor(step * self.weight, dtype=v.dtype))


def _deblurring_layer(x: Tensor, params: SimpleNamespace, problem: Blurred) -> Tensor:
    return shrink(problem.gradient_step(x, params.step), _UNIT * params.threshold)


def peak_signal_to_noise_ratio(output: Tensor, target: Tensor) -> float:
    """Mean over the batch of ``−10 log₁₀`` of the mean squared error, in dB; the peak is 1.

    >>> round(peak_signal_to_noise_ratio(torch.full((1, 2, 2), 0.1), torch.zeros(1, 2, 2)), 3)
    20.0
    """
    errors = ((output - target) ** 2).double().mean((-2, -1))
    return float((-10 * torch.log10(errors)).mean())


@NETWORKS.register("deblurring")
def deblurring(
    *,
    num_layers: int = 10,
    width: float = 1.5,
    noise: float = 0.004,
    side: int = 48,
    batch_size: int = 8,
) -> Task:
    """Deblurring of photographs with trained steps and thresholds.

    Args:
        num_layers: T.
        width: Standard deviation of the blur in pixels.
        noise: That of the noise; values are from 0 to 1.
        side: Rows and columns of a training patch.
        batch_size: Patches in a mini-batch.
    """
    sampler: Any = BlurredPatches(
        photographs(TRAINING), side=side, width=width, noise=noise, batch_size=batch_size
    )
    network = UnfoldedIteration(
        Schedule(np.ones(check_count("num_layers", num_layers))),
        iteration=_deblurring_layer,
        parameters={"threshold": np.full(8, 0.1)},
        dtype=torch.float32,
    )
    return Task(
        network,
        SampledLoss(sampler),
        TrainingSettings(num_iterations=60, learning_rate=0.02),
        evaluate=lambda network: restored_quality(network, held_out(width=width, noise=noise)),
    )


def restored_quality(network: UnfoldedIteration, sample: Sample) -> Mapping[str, float]:
    """PSNR of held-out pictures, blurred and restored."""
    with torch.no_grad():
        output = network(sample.data, sample.start)
    return {
        "PSNR of blurred pictures in dB": peak_signal_to_noise_ratio(sample.start, sample.target),
        "PSNR of restored pictures in dB": peak_signal_to_noise_ratio(output, sample.target),
    }
