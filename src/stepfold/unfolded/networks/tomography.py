"""Tomography with parallel beams: gradient steps, positivity and a convolutional prior.

``y = Ax + w``: every row of A is the sum of an image along a line. A layer is

    z = x − γₜ Aᵀ(Ax − y),    x⁺ = max(z + c(z), 0),

c a small convolutional network that all layers share. It starts at 0: before training the layers
are projected gradient steps, and training starts from the steps of theory for these. Trained are
the steps γₜ and the weights of c. A is scaled to norm 1.

References:
    Shepp and Logan, The Fourier reconstruction of a head section (IEEE Trans. Nucl. Sci. 21, 1974),
    on the phantom; Toft, The Radon Transform: Theory and Implementation (1996), on its version of
    higher contrast, which is the one here.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import svds
from torch import Tensor, nn

from stepfold._checks import check_count, check_depth, check_positive
from stepfold._typing import FloatArray
from stepfold.schedules import Schedule
from stepfold.unfolded._layers import LayerParameters
from stepfold.unfolded.losses import SampledLoss
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.networks.base import NETWORKS, TOGETHER, Task
from stepfold.unfolded.networks.deblurring import peak_signal_to_noise_ratio
from stepfold.unfolded.networks.priors import small_network
from stepfold.unfolded.samplers import Sample

SHEPP_LOGAN = (
    (1.0, 0.69, 0.92, 0.0, 0.0, 0.0),
    (-0.8, 0.6624, 0.874, 0.0, -0.0184, 0.0),
    (-0.2, 0.11, 0.31, 0.22, 0.0, -18.0),
    (-0.2, 0.16, 0.41, -0.22, 0.0, 18.0),
    (0.1, 0.21, 0.25, 0.0, 0.35, 0.0),
    (0.1, 0.046, 0.046, 0.0, 0.1, 0.0),
    (0.1, 0.046, 0.046, 0.0, -0.1, 0.0),
    (0.1, 0.046, 0.023, -0.08, -0.605, 0.0),
    (0.1, 0.023, 0.023, 0.0, -0.606, 0.0),
    (0.1, 0.023, 0.046, 0.06, -0.605, 0.0),
)
"""Ellipses: density, half axes, centre (right and up) and angle in degrees, in a square ±1."""
_FINER = 4  # samples per pixel and direction


def phantom(ellipses: Sequence[Sequence[float]], side: int) -> FloatArray:
    """Image of a sum of ellipses, each pixel a mean of 16 samples, shape (side, side).

    >>> bool(abs(phantom(SHEPP_LOGAN, 32)[16, 16] - 0.2) < 0.11)
    True
    """
    line = (np.arange(_FINER * side) + 0.5) / (_FINER * side) * 2 - 1
    across, up = np.meshgrid(line, -line)
    image = np.zeros_like(across)
    for density, half_width, half_height, x, y, degrees in ellipses:
        angle = math.radians(degrees)
        cosine, sine = math.cos(angle), math.sin(angle)
        first = ((across - x) * cosine + (up - y) * sine) / half_width
        second = ((up - y) * cosine - (across - x) * sine) / half_height
        image[first**2 + second**2 <= 1] += density
    means: FloatArray = image.reshape(side, _FINER, side, _FINER).mean((1, 3))
    return means


def projection_matrix(side: int, num_angles: int) -> sparse.csr_array:
    """Parallel beams through an image, of spectral norm 1, shape (angles · detectors, side²).

    Angles are equally spaced over half a turn, detectors are one pixel apart. A pixel is shared
    between the two detectors next to its centre's shadow.

    >>> projection_matrix(8, 3).shape
    (39, 64)
    """
    check_count("side", side)
    num_detectors = 2 * math.ceil(side / math.sqrt(2)) + 1
    line = np.arange(side) - (side - 1) / 2
    across, up = (each.ravel() for each in np.meshgrid(line, -line))
    pixels = np.arange(side * side)
    rows, columns, values = [], [], []
    for index in range(check_count("num_angles", num_angles)):
        angle = np.pi * index / num_angles
        place = across * np.cos(angle) + up * np.sin(angle) + num_detectors // 2
        below = np.floor(place).astype(int)
        for detector, share in ((below, 1 - (place - below)), (below + 1, place - below)):
            rows.append(index * num_detectors + detector)
            columns.append(pixels)
            values.append(share)
    places = np.concatenate(rows), np.concatenate(columns)
    shape = num_angles * num_detectors, side * side
    matrix = sparse.coo_array((np.concatenate(values), places), shape=shape).tocsr()
    matrix.eliminate_zeros()
    largest = svds(matrix, k=1, return_singular_vectors=False, v0=np.ones(min(shape)))
    return sparse.csr_array(matrix / float(largest[0]))


class _Product(torch.autograd.Function):
    """Products of rows with a sparse matrix whose transpose is there for the derivative."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, matrix: Tensor, transpose: Tensor) -> Tensor:
        ctx.matrices = matrix, transpose
        return (matrix @ rows.T).T

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        matrix, transpose = ctx.matrices
        return _Product.apply(gradients[0], transpose, matrix), None, None


class Projections:
    """A and its transpose on batches of images.

    Args:
        side: Rows and columns of an image.
        num_angles: Directions of the beams.
    """

    def __init__(self, side: int, num_angles: int) -> None:
        matrix = projection_matrix(side, num_angles)
        self.side = side
        self._matrix, self._transpose = _csr(matrix), _csr(matrix.T.tocsr())

    def forward(self, images: Tensor) -> Tensor:
        """Line sums, shape (batch, angles · detectors)."""
        self._move(images.device)
        rows = images.reshape(len(images), -1)
        return _Product.apply(rows, self._matrix, self._transpose)  # type: ignore[no-any-return]

    def adjoint(self, sums: Tensor) -> Tensor:
        """Images of the transpose, shape (batch, side, side)."""
        self._move(sums.device)
        rows: Tensor = _Product.apply(sums, self._transpose, self._matrix)
        return rows.reshape(-1, self.side, self.side)

    def _move(self, device: torch.device) -> None:
        self._matrix, self._transpose = self._matrix.to(device), self._transpose.to(device)


def _csr(matrix: sparse.csr_array) -> Tensor:
    # Indices of 32 bits: products are three times faster.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int32)),
            torch.from_numpy(matrix.indices.astype(np.int32)),
            torch.from_numpy(matrix.data.astype(np.float32)),
            size=matrix.shape,
            check_invariants=False,
        )


class Sinogram(NamedTuple):
    """Line sums as a smooth problem over images, shape (batch, side, side)."""

    projections: Projections
    seen: Tensor
    """y, shape (batch, angles · detectors)."""

    def gradient_step(self, x: Any, gamma: Any) -> Any:
        """``x − gamma·Aᵀ(Ax − y)``."""
        return x - gamma * self.projections.adjoint(self.projections.forward(x) - self.seen)


class Heads:
    """Sampler of random phantoms of ellipses, and noisy sums along their lines.

    Args:
        side: Rows and columns of an image.
        num_angles: Directions of the beams.
        noise: Standard deviation of w over the root mean square of y.
        batch_size: Images in a batch.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self, *, side: int = 64, num_angles: int = 32, noise: float = 0.01, batch_size: int = 4
    ) -> None:
        check_positive("noise", noise, "0.01 is a hundredth of the data")
        if check_count("side", side) < 8:
            raise ValueError(f"`side` must be at least 8, got {side}")
        self.projections = Projections(side, num_angles)
        self._noise = noise
        self._batch_size = check_count("batch_size", batch_size)

    def __call__(self, rng: np.random.Generator) -> Sample:
        """A batch of sinograms, and the images; the network starts from 0."""
        images = [phantom(_head(rng), self.projections.side) for _ in range(self._batch_size)]
        return self.scanned(np.array(images), rng)

    def scanned(self, images: FloatArray, rng: np.random.Generator) -> Sample:
        """These images, shape (batch, side, side), with what is seen of them."""
        target = torch.from_numpy(images.astype(np.float32))
        seen = self.projections.forward(target)
        noise = torch.from_numpy(rng.standard_normal(seen.shape, np.float32))
        size = self._noise * float((seen * seen).mean()) ** 0.5
        return Sample(Sinogram(self.projections, seen + size * noise), target)


def _head(rng: np.random.Generator) -> list[list[float]]:
    """A skull, brain of density 0.2 in it, and in that up to eight spots."""
    width, height = rng.uniform(0.55, 0.8), rng.uniform(0.75, 0.95)
    tilt = rng.uniform(-15, 15)
    found = [
        [1.0, width, height, 0.0, 0.0, tilt],
        [-0.8, 0.95 * width, 0.95 * height, 0.0, 0.0, tilt],
    ]
    for _ in range(rng.integers(3, 9)):
        radius, angle = 0.6 * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
        axes = rng.uniform(0.03, 0.3, 2)
        x, y = radius * width * math.cos(angle), radius * height * math.sin(angle)
        found.append([rng.uniform(-0.2, 0.3), *axes, x, y, rng.uniform(0, 180)])
    return found


class TomographyStep(nn.Module):
    """The layer, for `UnfoldedIteration`.

    Args:
        num_channels: Channels between the three convolutions of c.
        seed: Seed of their weights.
    """

    def __init__(self, num_channels: int = 8, *, seed: int = 0) -> None:
        super().__init__()
        self.prior = small_network(num_channels, seed)

    def forward(self, x: Tensor, params: LayerParameters, data: Sinogram) -> Tensor:
        """x⁺ for a batch."""
        moved: Tensor = data.gradient_step(x, params.step)
        corrected: Tensor = moved + self.prior(moved[:, None])[:, 0]
        return corrected.clamp(min=0)


@NETWORKS.register("tomography")
def tomography(
    *,
    num_layers: int = 8,
    side: int = 64,
    num_angles: int = 32,
    noise: float = 0.01,
    num_channels: int = 8,
    batch_size: int = 4,
) -> Task:
    """Tomography by gradient steps, positivity and a convolutional prior, trained together.

    Args:
        num_layers: T.
        side: Rows and columns of an image.
        num_angles: Directions of the parallel beams.
        noise: Standard deviation of the noise over the root mean square of the data.
        num_channels: Channels of the prior.
        batch_size: Images in a mini-batch.

    >>> task = tomography(num_layers=2, side=8, num_angles=4, batch_size=1)
    >>> task.network.steps.tolist()
    [1.0, 1.0]
    """
    options: dict[str, Any] = {"side": side, "num_angles": num_angles, "noise": noise}
    sampler = Heads(batch_size=batch_size, **options)
    network = UnfoldedIteration(
        Schedule(np.ones(check_depth(num_layers))),
        iteration=TomographyStep(num_channels),
        dtype=torch.float32,
    )
    return Task(
        network,
        SampledLoss(sampler),
        dataclasses.replace(
            TOGETHER,
            start="theory",
            learning_rate=0.01,
            final_learning_rate=0.0005,
            clip_norm=1.0,
        ),
        evaluate=lambda network: shepp_logan_quality(network, sampler),
    )


def shepp_logan(sampler: Heads) -> Sample:
    """The phantom of Shepp and Logan, which training does not see, as the sampler scans it."""
    image = phantom(SHEPP_LOGAN, sampler.projections.side)
    return sampler.scanned(image[None], np.random.default_rng([2**32, 5]))


def shepp_logan_quality(network: UnfoldedIteration, sampler: Heads) -> Mapping[str, float]:
    """PSNR of the phantom of Shepp and Logan."""
    sample = shepp_logan(sampler)
    with torch.no_grad():
        output = network(sample.data, torch.zeros_like(sample.target))
    return {"PSNR in dB": peak_signal_to_noise_ratio(output, sample.target)}
