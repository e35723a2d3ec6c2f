"""A deep-equilibrium denoiser: the minimiser of a learned convex function as a layer.

The output for y = x + w is the minimiser of ``½‖x − y‖² + R(x)``, ``R(x) = Σ φᵢ(Kᵢx)``, the fixed
point of ``x → x − γ(x − y + ∇R(x))``. Each Kᵢ is a pair of filters of 5 × 5 pixels without a mean,
wrapped around at the edges, and ``φᵢ(t) = μᵢεᵢ²(√(1 + |t|²/εᵢ²) − 1)`` of the two values t at a
pixel, a smoothed length. Filters, weights μᵢ and widths εᵢ are trained. R is convex and its Hessian
lies between 0 and ``Σ μᵢKᵢᵀKᵢ``, whose eigenvalues are known from the filters' Fourier transforms:
so there is one equilibrium, and every method finds it.

References:
    Bai, Kolter and Koltun, Deep Equilibrium Models (NeurIPS 2019, arXiv:1909.01377). Gilton, Ongie
    and Willett, Deep Equilibrium Architectures for Inverse Problems in Imaging (arXiv:2102.07944).
    Goujon, Neumayer, Bohra, Ducotterd and Unser, A Neural-Network-Based Convex Regularizer for
    Inverse Problems (arXiv:2211.12461), on learned convex functions of filters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stepfold._checks import check_positive
from stepfold._typing import FloatArray
from stepfold.unfolded._layers import LayerParameters
from stepfold.unfolded.fixed_point import fixed_point
from stepfold.unfolded.networks.deblurring import cosines
from stepfold.unfolded.networks.photographs import Patches
from stepfold.unfolded.samplers import Sample

_MARGIN = 2
"""Pixels by which a filter of 5 × 5 reaches beyond its centre."""
_COSINES = ((1, 3), (2, 6), (5, 7), (4, 8))
"""Pairs of the nine cosine windows that are alike."""
WIDTH = 0.02
"""ε before training, for values from 0 to 1."""
SLOPES = (0.08, 0.005)
"""μ·ε, the slope of φ far from 0, before training: of differences, and of each other pair."""


class ConvexField(nn.Module):
    """∇R for pictures of shape (batch, rows, columns).

    Before training the first pair of filters are the differences to the next row and column, so
    that R is near a total variation; the others are pairs of cosine windows.
    """

    def __init__(self) -> None:
        super().__init__()
        filters = torch.zeros(1 + len(_COSINES), 2, 5, 5)
        filters[0, 0, 2, 2:4] = filters[0, 1, 2:4, 2] = torch.tensor([-1.0, 1.0])
        filters[1:, :, 1:4, 1:4] = cosines()[torch.tensor(_COSINES), 0].float()
        slopes = torch.full((len(filters),), SLOPES[1])
        slopes[0] = SLOPES[0]
        self.filters = nn.Parameter(filters)
        # Logarithms, which keep both positive.
        self.widths = nn.Parameter(torch.full_like(slopes, WIDTH).log())
        self.weights = nn.Parameter((slopes / WIDTH).log())

    def _kernels(self) -> Tensor:
        """The filters less their means, shape (2 pairs, 1, 5, 5)."""
        filters = self.filters - self.filters.mean((2, 3), keepdim=True)
        return filters.flatten(0, 1)[:, None]

    def _responses(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Kᵢx, shape (batch, pairs, 2, rows, columns), and √(1 + |Kᵢx|²/εᵢ²)."""
        planes = functional.conv2d(_wrapped(pictures[:, None]), self._kernels())
        pairs = planes.unflatten(1, (-1, 2))
        widths = self.widths.exp()[:, None, None, None]
        return pairs, (1 + (pairs * pairs).sum(2, keepdim=True) / widths**2).sqrt()

    def value(self, pictures: Tensor) -> Tensor:
        """R of each picture, shape (batch,)."""
        _, lengths = self._responses(pictures)
        scale = (self.weights + 2 * self.widths).exp()[:, None, None, None]
        return (scale * (lengths - 1)).sum((1, 2, 3, 4))

    def forward(self, pictures: Tensor) -> Tensor:
        """∇R, of the shape of ``pictures``."""
        pairs, lengths = self._responses(pictures)
        slopes = (self.weights.exp()[:, None, None, None] * pairs / lengths).flatten(1, 2)
        adjoint = self._kernels().flip(2, 3).transpose(0, 1)
        return functional.conv2d(_wrapped(slopes), adjoint)[:, 0]

    @torch.no_grad()
    def curvature(self, shape: Sequence[int]) -> float:
        """An upper bound of the eigenvalues of ∇²R for pictures of (rows, columns)."""
        gains = torch.fft.rfft2(self._kernels()[:, 0], s=tuple(shape)).abs().square()
        total = self.weights.exp()[:, None, None] * gains.unflatten(0, (-1, 2)).sum(1)
        return float(total.sum(0).max())


def _wrapped(planes: Tensor) -> Tensor:
    return functional.pad(planes, (_MARGIN,) * 4, mode="circular")


def descent_step(field: ConvexField, x: Tensor, params: LayerParameters, noisy: Tensor) -> Tensor:
    """``x − γ(x − y + ∇R(x))``: the layer of the same network unrolled; bind the field first."""
    moved: Tensor = x - params.step * (x - noisy + field(x))
    return moved


class Equilibrium(nn.Module):
    """The layer that returns the equilibrium, for `UnfoldedIteration`; its steps do nothing.

    Gradients come by the implicit function theorem: what is kept for them is one evaluation of the
    field, however many it takes to find the equilibrium.

    Args:
        field: ∇R.
        rtol: When `fixed_point` stops.
    """

    def __init__(self, field: ConvexField, *, rtol: float = 1e-3) -> None:
        super().__init__()
        self.field = field
        check_positive("rtol", rtol, "1e-3 is the default")
        self.rtol = rtol

    def map(self, noisy: Tensor) -> Descent:
        """``x → x − γ(x − y + ∇R(x))`` with ``γ = 2/(2 + b)``, b the bound of the curvature."""
        return Descent(self.field, noisy, 2 / (2 + self.field.curvature(noisy.shape[-2:])))

    def forward(self, x: Tensor, params: LayerParameters, noisy: Tensor) -> Tensor:  # noqa: ARG002
        """The equilibrium, found from x."""
        return fixed_point(self.map(noisy), x, rtol=self.rtol)


class Descent:
    """``x → x − γ(x − y + ∇R(x))``.

    Args:
        field: ∇R.
        noisy: y, shape (batch, rows, columns).
        step: γ.

    Attributes:
        num_evaluations: How often it was called.
    """

    def __init__(self, field: ConvexField, noisy: Tensor, step: float) -> None:
        self.field, self.noisy, self.step = field, noisy, step
        self.num_evaluations = 0

    def __call__(self, x: Tensor) -> Tensor:
        """The next x."""
        self.num_evaluations += 1
        moved: Tensor = x - self.step * (x - self.noisy + self.field(x))
        return moved


class NoisyPatches:
    """Sampler of square patches of photographs with white noise.

    Args:
        pictures: Grey pictures with values from 0 to 1.
        side: Rows and columns of a patch, at least 5.
        noise: Standard deviation of the noise.
        batch_size: Patches in a batch.

    Raises:
        ValueError: If a number is out of range, or a picture is smaller than a patch.
    """

    def __init__(
        self,
        pictures: Sequence[FloatArray],
        *,
        side: int = 24,
        noise: float = 0.1,
        batch_size: int = 8,
    ) -> None:
        check_positive("noise", noise, "0.1 is a tenth of the range of values")
        self._patches = Patches(pictures, side, batch_size, least=5)
        self._noise = noise

    def __call__(self, rng: np.random.Generator) -> Sample:
        """A batch of noisy patches, and the clean ones; the network starts from the noisy."""
        return self.noisy(np.stack([*self._patches.draw(rng)]), rng)

    def noisy(self, pictures: FloatArray, rng: np.random.Generator) -> Sample:
        """These pictures, shape (batch, rows, columns), with noise."""
        clean = torch.from_numpy(pictures.astype(np.float32))
        noise = torch.from_numpy(rng.standard_normal(pictures.shape, np.float32))
        seen = clean + self._noise * noise
        return Sample(seen, clean, seen)
