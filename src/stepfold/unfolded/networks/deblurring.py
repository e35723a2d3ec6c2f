"""Deblurring photographs: FISTA with steps, momentum and shrinkage trained in every layer.

``y = Kx + w``, K a Gaussian blur, mirrored at the edges. A layer goes on in the direction of the
last one, takes a gradient step of ``½‖Kx − y‖²``, cuts the picture into all 3×3 windows, moves the
eight cosine coefficients of each window that are not its mean towards 0, each by a threshold of its
own, and averages the windows. With equal thresholds that is the average of nine proximal operators,
one for each way to tile the picture with windows (a proximal average); `WindowCosines` offers it to
proximal methods. Training starts from FISTA itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stepfold._checks import check_depth, check_nonnegative
from stepfold._typing import FloatArray
from stepfold.iterations.momentum import Pair, Remembering
from stepfold.problems.penalties import Penalty
from stepfold.schedules import Schedule
from stepfold.unfolded.losses import SampledLoss
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.networks.base import NETWORKS, TOGETHER, Task
from stepfold.unfolded.networks.blur import BlurredPatches, held_out
from stepfold.unfolded.networks.photographs import TRAINING, photographs
from stepfold.unfolded.networks.sparse_signals import soft_threshold
from stepfold.unfolded.parameters import Trainable
from stepfold.unfolded.samplers import Sample

_UNIT = 0.01  # thresholds are trained in hundredths of the range of values


def cosines() -> Tensor:
    """The nine cosine windows of 3×3 pixels, rows first, shape (9, 1, 3, 3); the first is flat."""
    lines = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    windows = np.einsum("ai,bj->abij", lines, lines).reshape(9, 1, 3, 3)
    return torch.from_numpy(windows)


def coefficients(pictures: Tensor) -> Tensor:
    """Cosine coefficients of all 3×3 windows of the mirrored pictures, nine planes for each."""
    mirrored = functional.pad(pictures[:, None], (2, 2, 2, 2), mode="reflect")
    return functional.conv2d(mirrored, cosines().to(pictures.dtype))


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
    averaged = functional.conv_transpose2d(planes, cosines().to(pictures.dtype)) / 9
    return averaged[:, 0, 2:-2, 2:-2]


class WindowCosines(Penalty):
    """Mean over the nine tilings of ``μ`` times the L1 norm of cosine coefficients but the mean.

    Its `prox` is the average of the nine proximal operators, not the proximal operator of the
    average, which has no formula.

    Args:
        weight: μ, at least 0.
    """

    def __init__(self, weight: float) -> None:
        self.weight = check_nonnegative("weight", weight)

    def value(self, x: Any) -> Any:
        """The penalty of each picture, shape (batch,)."""
        return self.weight * coefficients(x)[:, 1:].abs().sum((1, 2, 3)) / 9

    def prox(self, v: Any, step: Any) -> Any:
        """`shrink` with the threshold ``step·μ``."""
        return shrink(v, torch.as_tensor(step * self.weight, dtype=v.dtype))


class Inertial(Remembering[Tensor]):
    """``shrink(z − γ∇f(z))`` with ``z = x + β(x − x⁻)``; the state is x and x⁻.

    Args:
        momentum: β.
        threshold: Shape (8,), or () for all coefficients, in hundredths of the range of values.
    """

    def __init__(self, momentum: Any, threshold: Any) -> None:
        self.momentum = momentum
        self.threshold = threshold

    def step(
        self,
        problem: Any,
        state: Pair[Tensor],
        gamma: Any,
        gradient: Any = None,  # noqa: ARG002
    ) -> Pair[Tensor]:
        """One evaluation of K and one of its transpose, as in FISTA."""
        x, previous = state
        ahead = problem.gradient_step(x + self.momentum * (x - previous), gamma)
        return Pair(shrink(ahead, _UNIT * self.threshold), x)


def fista_momentum(num_layers: int) -> FloatArray:
    """Momentum with which each iteration of FISTA begins, shape (num_layers,).

    >>> fista_momentum(4).round(3)
    array([0.   , 0.   , 0.282, 0.434])
    """
    weights = [1.0, 1.0]
    for _ in range(num_layers - 1):
        weights.append((1 + math.sqrt(1 + 4 * weights[-1] ** 2)) / 2)
    return np.array([(t - 1) / after for t, after in itertools.pairwise(weights)])


def geometric_mean_error(output: Tensor, sample: Sample) -> Tensor:
    """Geometric mean, over the pictures, of their mean squared errors: of one mean PSNR."""
    errors = ((output - sample.target) ** 2).mean((-2, -1))
    mean: Tensor = errors.log().mean().exp()
    return mean


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
    side: int = 32,
    batch_size: int = 8,
) -> Task:
    """Deblurring of photographs with trained steps, momentum and thresholds.

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
    momentum = fista_momentum(check_depth(num_layers))
    network = UnfoldedIteration(
        Schedule(np.ones(num_layers)),
        iteration=Inertial(0.0, 0.1),
        parameters={
            "momentum": Trainable(momentum.tolist(), constraint=None),
            "threshold": np.full(8, 0.1),
        },
        dtype=torch.float32,
    )
    return Task(
        network,
        SampledLoss(sampler, criterion=geometric_mean_error),
        TOGETHER,
        evaluate=lambda network: restored_quality(network, held_out(width=width, noise=noise)),
    )


def restored_quality(network: UnfoldedIteration, sample: Sample) -> Mapping[str, float]:
    """PSNR of held-out pictures, blurred and restored."""
    with torch.no_grad():
        return qualities(sample, network(sample.data, sample.start))


def qualities(sample: Sample, restored: Tensor) -> Mapping[str, float]:
    """PSNR of pictures, blurred and restored."""
    pictures = {"blurred": sample.start, "restored": restored}
    return {
        f"PSNR of {name} pictures in dB": peak_signal_to_noise_ratio(each, sample.target)
        for name, each in pictures.items()
    }
