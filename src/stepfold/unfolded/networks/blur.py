"""Blurred photographs: a Gaussian blur mirrored at the edges, and patches of pictures under it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stepfold._checks import check_positive
from stepfold._typing import FloatArray
from stepfold.unfolded.networks.photographs import HELD_OUT, Patches, photographs
from stepfold.unfolded.samplers import Sample

SIDE = 192
"""Rows and columns of a held-out picture."""


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
        pictures: Grey pictures with values from 0 to 1, of shape (height, width).
        side: Rows and columns of a patch.
        width: Standard deviation of the blur in pixels.
        noise: That of the noise.
        batch_size: Patches in a batch.

    Raises:
        ValueError: If a number is out of range, or a picture is smaller than a patch.

    >>> sampler = BlurredPatches([np.ones((40, 40))], side=8, batch_size=2)
    >>> tuple(sampler(np.random.default_rng(0)).target.shape)[0]
    2
    """

    def __init__(
        self,
        pictures: list[FloatArray],
        *,
        side: int = 32,
        width: float = 1.5,
        noise: float = 0.004,
        batch_size: int = 8,
    ) -> None:
        check_positive("width", width)
        if width > 1000:
            raise ValueError(f"`width` must be at most 1000 pixels, got {width!r}")
        check_positive("noise", noise)
        self._patches = Patches(pictures, side, batch_size, least=3)
        self._noise = noise
        self._matrix = blur_matrix(side, width)

    def __call__(self, rng: np.random.Generator) -> Sample:
        """A batch of blurred patches, and the sharp ones; the network starts from the blurred."""
        return self.blurred(np.stack([*self._patches.draw(rng)]), rng)

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
