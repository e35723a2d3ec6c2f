"""Deblurring photographs by ADMM with a small convolutional network in every layer.

``y = Kx + w``, K a Gaussian blur, mirrored at the edges. A layer of ADMM for ``½‖Kx − y‖² + g(x)``
is, with γₜ = 100 times the layer's step,

    x = argmin ½‖Kx − y‖² + ‖x − (z − u)‖²/(2γₜ),    v = x + u,
    z⁺ = v + cₜ(v) in the place of the proximal operator of g,    u⁺ = v − z⁺.

The first line is exact, in the eigenvectors of K. Trained are the steps and the networks cₜ, one
for each layer or one for all; they start at 0.

References:
    Boyd, Parikh, Chu, Peleato and Eckstein, Distributed Optimization and Statistical Learning via
    the Alternating Direction Method of Multipliers (Found. Trends Mach. Learn. 3, 2011). Yang, Sun,
    Li and Xu, Deep ADMM-Net for Compressive Sensing MRI (NeurIPS 2016), on unrolling it.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from stepfold._checks import check_depth
from stepfold.schedules import Schedule
from stepfold.unfolded._layers import LayerParameters
from stepfold.unfolded.losses import SampledLoss
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.networks.base import NETWORKS, TOGETHER, Task
from stepfold.unfolded.networks.blur import Blurred, BlurredPatches, held_out
from stepfold.unfolded.networks.deblurring import geometric_mean_error, qualities
from stepfold.unfolded.networks.photographs import TRAINING, photographs
from stepfold.unfolded.networks.priors import small_network
from stepfold.unfolded.samplers import Sample

UNIT = 100.0
"""γ of a step of 1: the noise of the data is small, and so is what the prior may move."""
State = tuple[Tensor, Tensor]
"""z and u, of shape (batch, rows, columns)."""


class Deconvolution(NamedTuple):
    """Blurred pictures, with the blur in its eigenvectors."""

    pulled: Tensor
    """``Kᵀy`` in the eigenvectors, shape (batch, rows, columns)."""
    gains: Tensor
    """Eigenvalues of ``KᵀK``, shape (rows, columns)."""
    vectors: Tensor
    """Eigenvectors of the blur of a line, in columns."""

    @classmethod
    def of(cls, blurred: Blurred) -> Deconvolution:
        """From pictures under a blur that is symmetric, as a mirrored Gaussian is."""
        values, vectors = (part.to(blurred.seen) for part in torch.linalg.eigh(blurred.matrix))
        gains = values[:, None] * values
        return cls((vectors.T @ blurred.seen @ vectors) * gains, gains**2, vectors)

    def proximal(self, v: Tensor, gamma: Any) -> Tensor:
        """``argmin ½‖Kx − y‖² + ‖x − v‖²/(2γ)``."""
        inner = self.vectors.T @ v @ self.vectors
        solved = (gamma * self.pulled + inner) / (gamma * self.gains + 1)
        result: Tensor = self.vectors @ solved @ self.vectors.T
        return result


def admm_step(
    state: State, data: Deconvolution, step: Any, denoise: Callable[[Tensor], Tensor]
) -> State:
    """z and u after one iteration; ``denoise`` is the proximal operator of the prior."""
    z, u = state
    v = data.proximal(z - u, UNIT * step) + u
    moved = denoise(v)
    return moved, v - moved


class AdmmLayer(nn.Module):
    """The layer, for `UnfoldedIteration`.

    Args:
        num_channels: Channels between the convolutions of c.
        seed: Seed of their weights.
    """

    def __init__(self, num_channels: int = 12, *, seed: int = 0) -> None:
        super().__init__()
        self.prior = small_network(num_channels, seed, edges="replicate")

    def forward(self, state: State, params: LayerParameters, data: Deconvolution) -> State:
        """z and u of the next layer."""
        return admm_step(state, data, params.step, lambda v: v + self.prior(v[:, None])[:, 0])


def untied(network: UnfoldedIteration) -> UnfoldedIteration:
    """The same network with a copy of its one layer in every place: what all shared, each has."""
    layers = [copy.deepcopy(network.iteration) for _ in range(network.num_layers)]
    return UnfoldedIteration(
        network.schedule(), iteration=nn.ModuleList(layers), dtype=network.steps.dtype
    )


def posed_patches(patches: BlurredPatches, rng: np.random.Generator) -> Sample:
    """A batch of blurred patches posed for ADMM: the sampler, once the patches are bound."""
    return posed(patches(rng))


def posed(sample: Sample) -> Sample:
    """A batch of blurred pictures as ADMM takes it."""
    start = sample.start, torch.zeros_like(sample.start)
    return Sample(Deconvolution.of(sample.data), sample.target, start)


def error_of_pictures(output: State, sample: Sample) -> Tensor:
    """`geometric_mean_error` of z."""
    return geometric_mean_error(output[0], sample)


@NETWORKS.register("admm")
def admm(
    *,
    num_layers: int = 5,
    width: float = 1.5,
    noise: float = 0.004,
    side: int = 32,
    num_channels: int = 12,
    batch_size: int = 8,
    shared: bool = False,
) -> Task:
    """Deblurring of photographs by ADMM with a convolutional network in every layer.

    Args:
        num_layers: T.
        width: Standard deviation of the blur in pixels.
        noise: That of the noise; values are from 0 to 1.
        side: Rows and columns of a training patch.
        num_channels: Channels of the networks.
        batch_size: Patches in a mini-batch.
        shared: Whether all layers have one network.
    """
    check_depth(num_layers)
    patches = BlurredPatches(
        photographs(TRAINING), side=side, width=width, noise=noise, batch_size=batch_size
    )
    sampler: Any = functools.partial(posed_patches, patches)
    # The same weights in all layers at first: trained from different ones they end 0.2 dB lower.
    layers = [AdmmLayer(num_channels) for _ in range(1 if shared else num_layers)]
    network = UnfoldedIteration(
        Schedule(np.geomspace(2.0, 0.5, num_layers)),
        iteration=layers[0] if shared else nn.ModuleList(layers),
        dtype=torch.float32,
    )
    return Task(
        network,
        SampledLoss(sampler, criterion=error_of_pictures),
        dataclasses.replace(
            TOGETHER,
            num_iterations=500,
            learning_rate=0.01,
            final_learning_rate=0.0005,
            clip_norm=1.0,
        ),
        evaluate=lambda network: _quality(network, held_out(width=width, noise=noise)),
    )


def _quality(network: UnfoldedIteration, sample: Sample) -> Mapping[str, float]:
    with torch.no_grad():
        problem = posed(sample)
        return qualities(sample, network(problem.data, problem.start)[0])
