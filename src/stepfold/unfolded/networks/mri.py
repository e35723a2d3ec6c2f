"""Multi-coil magnetic resonance imaging: relaxed thresholding with trained values in every layer.

Coil c sees ``y_c = M F (S_c x) + w``: the image x, complex, weighted by the coil's sensitivity,
its Fourier transform, and of that the columns that were measured. A layer is

    z = x + β(x − x⁻),    x⁺ = z + ω (shrink(z − γ Aᴴ(Az − y), γθ) − z),

where ``shrink`` moves Haar wavelet coefficients of all shifts towards 0. Sensitivities are scaled
so that ``AᴴA`` has no eigenvalue above 1, and γ is 1. Trained are the relaxations ω, the
thresholds θ and, if asked for, the momentum β. With ω = 1 and β = 0 it is ISTA.

References:
    Pruessmann, Weiger, Börnert and Boesiger, Advances in sensitivity encoding with arbitrary
    k-space trajectories (Magn. Reson. Med. 46, 2001), on the model. Coifman and Donoho,
    Translation-invariant de-noising (Wavelets and Statistics, 1995), on averages over shifts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stepfold._checks import check_count, check_depth, check_positive
from stepfold._typing import FloatArray
from stepfold.iterations.momentum import Pair, Remembering
from stepfold.problems.penalties.l1 import soft_threshold
from stepfold.schedules import Schedule
from stepfold.unfolded.losses import SampledLoss
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.networks.base import NETWORKS, TOGETHER, Task
from stepfold.unfolded.networks.photographs import HELD_OUT, TRAINING, Patches, photographs
from stepfold.unfolded.parameters import Trainable
from stepfold.unfolded.samplers import Sample

_UNIT = 0.01  # thresholds are trained in hundredths of the range of values
LEVELS = 3
"""Levels of the wavelets; a side must be a multiple of 8."""


class Scan(NamedTuple):
    """What the coils saw, as a smooth problem over images, shape (batch, side, side), complex."""

    coils: Tensor
    """Sensitivities, shape (coils, side, side), with ``Σ|S_c|² = 1`` in every pixel."""
    mask: Tensor
    """1 where the Fourier transform was measured, shape (side,), for the columns."""
    seen: Tensor
    """y, shape (batch, coils, side, side); 0 where nothing was measured."""

    def adjoint(self, seen: Tensor) -> Tensor:
        """``Aᴴ`` of something of the shape of ``seen``."""
        images = torch.fft.ifft2(self.mask * seen, norm="ortho")
        total: Tensor = (self.coils.conj() * images).sum(-3)
        return total

    def forward(self, x: Tensor) -> Tensor:
        """``Ax``, shape (batch, coils, side, side)."""
        seen: Tensor = self.mask * torch.fft.fft2(self.coils * x[..., None, :, :], norm="ortho")
        return seen

    def gradient_step(self, x: Any, gamma: Any) -> Any:
        """``x − gamma·Aᴴ(Ax − y)``."""
        return x - gamma * self.adjoint(self.forward(x) - self.seen)


def coil_sensitivities(num_coils: int, side: int, *, width: float = 0.5) -> Tensor:
    """Smooth sensitivities of coils around a square, shape (coils, side, side), complex64.

    >>> coils = coil_sensitivities(3, 8)
    >>> bool(((coils.abs() ** 2).sum(0) - 1).abs().max() < 1e-5)
    True
    """
    line = (np.arange(side) + 0.5) / side - 0.5
    rows, columns = np.meshgrid(line, line, indexing="ij")
    angles = 2 * np.pi * np.arange(check_count("num_coils", num_coils)) / num_coils
    found = []
    for angle in angles:
        down, across = rows - 0.6 * np.sin(angle), columns - 0.6 * np.cos(angle)
        size = np.exp(-(down**2 + across**2) / (2 * width**2))
        found.append(size * np.exp(1j * (angle + 2 * (down * np.cos(angle) + across))))
    stacked = np.array(found)
    stacked /= np.sqrt((abs(stacked) ** 2).sum(0))
    return torch.from_numpy(stacked.astype(np.complex64))


def measured_columns(side: int, acceleration: float, *, seed: int = 0) -> Tensor:
    """Mask of ``side / acceleration`` columns, the lowest tenth and random others, float32.

    Low frequencies are likelier, as usual; frequency 0 comes first, as in ``torch.fft``.

    >>> int(measured_columns(64, 4.0).sum())
    16
    """
    if not 1 <= acceleration <= 10:
        raise ValueError(f"`acceleration` must lie between 1 and 10, got {acceleration!r}")
    frequencies = np.abs(np.fft.fftfreq(side))
    order = np.argsort(frequencies, kind="stable")
    count = round(side / acceleration)
    lowest = order[: max(side // 10, 1)]
    rest = order[len(lowest) :]
    weights = 1 / (0.05 + frequencies[rest])
    rng = np.random.default_rng(seed)
    chosen = rng.choice(rest, max(count - len(lowest), 0), replace=False, p=weights / weights.sum())
    mask = np.zeros(side, dtype=np.float32)
    mask[lowest] = mask[chosen] = 1
    return torch.from_numpy(mask)


class CoilImages:
    """Sampler of images with a smooth phase, and what coils see of them.

    Photographs stand in for anatomy: they are real pictures, not drawn for the purpose.

    Args:
        pictures: Grey pictures with values from 0 to 1; they become the moduli.
        side: Rows and columns of an image, a multiple of 8.
        num_coils: Coils.
        acceleration: Columns of the Fourier transform over those that are measured.
        noise: Standard deviation of real and imaginary parts of w.
        batch_size: Images in a batch.

    Raises:
        ValueError: If a number is out of range, or a picture is smaller than an image.
    """

    def __init__(
        self,
        pictures: list[FloatArray],
        *,
        side: int = 64,
        num_coils: int = 4,
        acceleration: float = 3.0,
        noise: float = 0.01,
        batch_size: int = 4,
    ) -> None:
        self._patches = Patches(pictures, side, batch_size, least=2**LEVELS)
        if side % 2**LEVELS:
            raise ValueError(f"`side` must be a multiple of {2**LEVELS}, got {side}")
        check_positive("noise", noise, "values are from 0 to 1")
        self._noise = noise
        self.coils = coil_sensitivities(num_coils, side)
        self.mask = measured_columns(side, acceleration)

    def __call__(self, rng: np.random.Generator) -> Sample:
        """A batch of scans, and the images; the network starts from ``Aᴴy``."""
        images: list[Any] = []
        side = self._patches.side
        line = np.linspace(-1, 1, side)
        for cut in self._patches.draw(rng):
            down, across, both = rng.uniform(-1, 1, 3)
            phase = down * line[:, None] + across * line + both * np.outer(line, line)
            images.append(cut * np.exp(1j * phase))
        target = torch.from_numpy(np.array(images, dtype=np.complex64))
        shape = (2, len(images), len(self.coils), side, side)
        real, imaginary = torch.from_numpy(self._noise * rng.standard_normal(shape, np.float32))
        scan = Scan(self.coils, self.mask, self.mask * torch.complex(real, imaginary))
        scan = scan._replace(seen=scan.seen + scan.forward(target))
        return Sample(scan, target, scan.adjoint(scan.seen))


def haar_shrink(images: Tensor, threshold: Any) -> Tensor:
    """Mean over all shifts of images whose Haar wavelet coefficients moved towards 0.

    It is the mean of proximal operators (a proximal average): for each shift, of ``threshold``
    times the L1 norm of three levels of orthonormal Haar wavelets, with periodic ends. The lowest
    frequencies are left alone. Of complex images moduli shrink.

    >>> images = torch.arange(64.0).reshape(1, 8, 8)
    >>> bool((haar_shrink(images, torch.tensor(0.0)) - images).abs().max() < 1e-4)
    True
    """
    low, details = images, []
    for level in range(LEVELS):
        shift = 2**level
        smooth, rough = _split(low, shift, -1)
        parts = [*_split(smooth, shift, -2), *_split(rough, shift, -2)]
        # A coefficient of an orthonormal wavelet is 2^(level + 1) times the one here.
        low = parts[0]
        details.append([soft_threshold(part, threshold / 2 ** (level + 1)) for part in parts[1:]])
    for level in reversed(range(LEVELS)):
        shift = 2**level
        down, across, both = details[level]
        low = _joined(_joined(low, down, shift, -2), _joined(across, both, shift, -2), shift, -1)
    return low


def _split(x: Tensor, shift: int, axis: int) -> tuple[Tensor, Tensor]:
    """Half of the sum, and of the difference, of neighbours."""
    other = x.roll(-shift, axis)
    return (x + other) / 2, (x - other) / 2


def _joined(smooth: Tensor, rough: Tensor, shift: int, axis: int) -> Tensor:
    """The adjoint of `_split`, which is its left inverse."""
    return (smooth + rough + (smooth - rough).roll(shift, axis)) / 2


class RelaxedThresholding(Remembering[Tensor]):
    """The layer; the state is x and x⁻.

    Args:
        relaxation: ω.
        threshold: θ, in hundredths of the range of values.
        momentum: β.
    """

    def __init__(self, relaxation: Any = 1.0, threshold: Any = 1.0, momentum: Any = 0.0) -> None:
        self.relaxation = relaxation
        self.threshold = threshold
        self.momentum = momentum

    def step(
        self,
        problem: Any,
        state: Pair[Tensor],
        gamma: Any,
        gradient: Any = None,  # noqa: ARG002
    ) -> Pair[Tensor]:
        """One evaluation of A and one of its adjoint."""
        x, previous = state
        ahead = x + self.momentum * (x - previous)
        moved = problem.gradient_step(ahead, gamma)
        moved = haar_shrink(moved, gamma * _UNIT * self.threshold)
        return Pair(ahead + self.relaxation * (moved - ahead), x)


def error_in_decibels(output: Tensor, target: Tensor) -> float:
    """``Σ‖output − target‖²/Σ‖target‖²`` over a batch, in dB.

    >>> round(error_in_decibels(torch.tensor([1.1j]), torch.tensor([1j])), 3)
    -20.0
    """
    error = ((output - target).abs() ** 2).double().sum()
    return 10 * math.log10(float(error / (target.abs() ** 2).double().sum()))


def thresholding_network(
    relaxations: Any,
    thresholds: Any,
    momenta: Any = None,
    *,
    num_layers: int,
    steps: Any = 1.0,
) -> UnfoldedIteration:
    """Layers with these values, one number for all layers or one for each.

    Args:
        relaxations: ω.
        thresholds: θ, in hundredths of the range of values.
        momenta: β; None trains none.
        num_layers: T.
        steps: γ, not trained.
    """
    values = {
        "relaxation": Trainable(np.broadcast_to(relaxations, num_layers).tolist()),
        "threshold": Trainable(np.broadcast_to(thresholds, num_layers).tolist()),
    }
    if momenta is not None:
        values["momentum"] = Trainable(
            np.broadcast_to(momenta, num_layers).tolist(), constraint=None
        )
    return UnfoldedIteration(
        Schedule(np.atleast_1d(steps)),
        iteration=RelaxedThresholding(),
        num_layers=num_layers,
        parameters=values,
        train_steps=False,
        dtype=torch.float32,
    )


@NETWORKS.register("mri")
def mri(
    *,
    num_layers: int = 10,
    momentum: bool = False,
    side: int = 64,
    num_coils: int = 4,
    acceleration: float = 3.0,
    noise: float = 0.01,
    batch_size: int = 4,
) -> Task:
    """Multi-coil MRI by relaxed thresholding with trained relaxations and thresholds.

    Args:
        num_layers: T.
        momentum: Whether the layers have a trained momentum as well.
        side: Rows and columns of an image, a multiple of 8.
        num_coils: Coils.
        acceleration: Columns of the Fourier transform over those that are measured.
        noise: Standard deviation of the noise; values are from 0 to 1.
        batch_size: Images in a mini-batch.
    """
    options: dict[str, Any] = {
        "side": side,
        "num_coils": num_coils,
        "acceleration": acceleration,
        "noise": noise,
    }
    sampler = CoilImages(photographs(TRAINING), batch_size=batch_size, **options)
    network = thresholding_network(
        1.0, 1.0, 0.0 if momentum else None, num_layers=check_depth(num_layers)
    )

    def evaluate(network: UnfoldedIteration) -> Mapping[str, float]:
        sample = held_out_scans(**options)
        with torch.no_grad():
            output = network(sample.data, sample.start)
        return {"NMSE in dB": error_in_decibels(output, sample.target)}

    return Task(
        network,
        SampledLoss(sampler),
        dataclasses.replace(TOGETHER, start="theory", num_iterations=300),
        evaluate=evaluate,
    )


def held_out_scans(*, batch_size: int = 12, **options: Any) -> Sample:
    """Images of photographs that training does not see, in the settings of `CoilImages`."""
    sampler = CoilImages(photographs(HELD_OUT), batch_size=batch_size, **options)
    return sampler(np.random.default_rng([2**32, 4]))
