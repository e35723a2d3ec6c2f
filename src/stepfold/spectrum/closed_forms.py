"""Bounds from what the caller knows about the operator: convolutions and Gaussian matrices.

The eigenvalues of a periodic convolution are the discrete Fourier transform of its kernel. With any
other boundary the convolution is a section of an infinite one, and its spectrum lies within the
range of the kernel's symbol ``f(ω) = Σ c_k e^{−ikω}``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold._checks import (
    check_array,
    check_finite,
    check_positive,
    check_shape,
    check_share,
)
from stepfold._typing import FloatArray
from stepfold.spectrum.bounds import SpectralBounds
from stepfold.spectrum.exact import NotSemidefiniteError, check_range, not_symmetric
from stepfold.spectrum.target import Products, Target

# Samples of the symbol per coefficient of the kernel and axis, if the boundary is not periodic.
OVERSAMPLING = 16


@dataclass(frozen=True, eq=False, slots=True)
class Convolution:
    """The operator is a convolution with ``kernel`` on an array of ``shape``.

    For a `Gram` the bounds are those of ``|f|²``; for a Hessian those of f itself, whose kernel
    must be symmetric about its centre. Which entry of the kernel is the centre matters only there:
    it is the one at index ``size // 2`` on each axis.

    Args:
        kernel: Coefficients, an array of as many dimensions as ``shape``.
        shape: Shape of the array that is convolved; its size is the operator's n.
        periodic: Whether the array is continued periodically. Then both ends are eigenvalues;
            else the upper end is above the symbol's maximum by at most 1 % per axis, and the
            lower end is 0.

    Raises:
        ValueError: If the kernel and the shape do not fit; from `estimate_bounds`, if the operator
            is seen not to be this convolution.

    References:
        Böttcher and Grudsky, Spectral Properties of Banded Toeplitz Matrices (SIAM, 2005).

    >>> from stepfold.spectrum import estimate_bounds
    >>> laplacian = 2 * np.eye(8) - np.eye(8, k=1) - np.eye(8, k=-1)
    >>> laplacian[0, -1] = laplacian[-1, 0] = -1
    >>> estimate_bounds(laplacian, method=Convolution([-1.0, 2.0, -1.0], (8,))).upper
    4.0
    """

    kernel: Any
    shape: tuple[int, ...]
    periodic: bool = True

    def __post_init__(self) -> None:
        kernel = check_array("kernel", self.kernel)
        check_finite("kernel", kernel)
        shape = check_shape("shape", self.shape)
        if kernel.ndim != len(shape) or kernel.size == 0:
            raise ValueError(
                f"`kernel` must have as many dimensions as `shape` = {shape}, and at least one "
                f"entry, got shape {kernel.shape}"
            )
        kernel.flags.writeable = False
        object.__setattr__(self, "kernel", kernel)
        object.__setattr__(self, "shape", shape)

    def bounds(self, target: Target) -> SpectralBounds:
        """Range of the symbol, checked against one Rayleigh quotient of the operator."""
        target = target.in_real_numbers()
        size = target.hessian.shape[0]
        if math.prod(self.shape) != size:
            raise ValueError(
                f"`shape` of the convolution must have {size} entries to fit the operator, "
                f"got {self.shape} with {math.prod(self.shape)}"
            )
        exponent = int(np.frexp(np.abs(self.kernel).max())[1])
        kernel = np.ldexp(self.kernel, -exponent)
        symbol, inflation = _symbol(kernel, self.shape, self.periodic)
        gram = target.factor is not None
        values = _squares(symbol) if gram else _real(symbol, kernel)
        lower, upper = float(values.min()), float(values.max())
        rounding = 64 * np.finfo(np.float64).eps * float(np.abs(kernel).sum()) ** (1 + gram)
        upper *= inflation ** (1 + gram)
        if (lower if self.periodic else upper) < -rounding:
            seen = lower if self.periodic else upper
            raise NotSemidefiniteError(*np.ldexp([seen, rounding], exponent).tolist())
        if lower <= rounding or not self.periodic:
            lower = 0.0
        power = exponent * (1 + gram)
        with np.errstate(over="ignore", under="ignore"):
            lower, upper = float(np.ldexp(lower, power)), float(np.ldexp(upper, power))
        if gram:
            check_range(math.sqrt(upper) if 0 < upper < math.inf else 1.0, upper)
        told = SpectralBounds(
            lower,
            upper,
            method=f"symbol of a {'periodic ' if self.periodic else ''}convolution",
        )
        return _checked(told, target)


@dataclass(frozen=True, slots=True)
class GaussianFactor:
    """The factor of a `Gram`, of shape (m, n), has independent Gaussian entries.

    ``√(λ)`` lies in ``σ·[√m − √n − t, √m + √n + t]`` (of AAᵀ, if m < n) except with probability
    ``exp(−t²/2)`` for each end: the Marchenko–Pastur interval, widened for finite size.

    Args:
        variance: σ², the variance of an entry.
        failure_probability: For each end, at most.

    Raises:
        ValueError: If an argument is out of range; from `estimate_bounds`, if the Hessian is not a
            `Gram`, or is seen not to have such a spectrum.

    References:
        Davidson and Szarek, Local operator theory, random matrices and Banach spaces (2001),
        Theorem II.13.

    >>> from stepfold.spectrum import Gram, estimate_bounds
    >>> factor = np.random.default_rng(0).standard_normal((900, 400))
    >>> bounds = estimate_bounds(Gram(factor), method=GaussianFactor(variance=1.0))
    >>> round(bounds.lower, 1), round(bounds.upper, 1), str(bounds.upper_certainty)
    (27.1, 3002.9, 'assumed')
    """

    variance: float
    failure_probability: float = 1e-5

    def __post_init__(self) -> None:
        check_positive("variance", self.variance)
        check_share("failure_probability", self.failure_probability)

    def bounds(self, target: Target) -> SpectralBounds:
        """Widened Marchenko–Pastur interval, checked against one Rayleigh quotient."""
        if target.factor is None:
            raise ValueError(
                "`GaussianFactor` bounds least squares and needs a `Gram`, got a Hessian of its "
                "own; pass `Gram(factor)`"
            )
        target = target.in_real_numbers()
        num_rows, num_columns = target.factor.shape
        spread = math.sqrt(-2 * math.log(self.failure_probability))
        roots = (math.sqrt(num_rows), math.sqrt(num_columns))
        lower = max(roots[0] - roots[1] - spread, 0.0) ** 2 * self.variance
        upper = (sum(roots) + spread) ** 2 * self.variance
        told = SpectralBounds(
            lower,
            upper,
            method="Marchenko–Pastur interval, widened for finite size",
            failure_probability=self.failure_probability,
        )
        return _checked(told, target)


def _symbol(kernel: FloatArray, shape: tuple[int, ...], periodic: bool) -> tuple[Any, float]:
    """Values of the symbol on a grid, and what their maximum may miss of the true one."""
    grid = shape
    inflation = 1.0
    if not periodic:
        grid = tuple(OVERSAMPLING * length for length in kernel.shape)
        # A trigonometric polynomial of degree d has |f| ≥ max|f|·cos(d·h) at distance h from its
        # maximum (Bernstein). The kernel has degree (length − 1)/2 about its middle, which |f|
        # does not see, and the nearest of N samples is at most π/N away, on each axis.
        for length, samples in zip(kernel.shape, grid, strict=True):
            inflation /= math.cos((length - 1) / 2 * math.pi / samples)
    wrapped = np.zeros(grid)
    index = np.ix_(*(np.arange(k) % length for k, length in zip(kernel.shape, grid, strict=True)))
    np.add.at(wrapped, index, kernel)  # a kernel longer than the array wraps around
    return np.fft.fftn(wrapped), inflation


def _squares(symbol: Any) -> FloatArray:
    squares: FloatArray = symbol.real**2 + symbol.imag**2
    return squares


def _real(symbol: Any, kernel: FloatArray) -> FloatArray:
    """The symbol of a kernel that is symmetric about index ``size // 2`` on each axis."""
    if any(length % 2 == 0 for length in kernel.shape) or not np.allclose(
        kernel, np.flip(kernel), rtol=1e-8, atol=1e-8 * float(np.abs(kernel).max())
    ):
        raise not_symmetric("the kernel is not symmetric about its middle entry")
    for axis, length in enumerate(kernel.shape):
        samples = symbol.shape[axis]
        phase = np.exp(2j * np.pi * np.arange(samples) * (length // 2) / samples)
        symbol = symbol * phase.reshape([-1 if i == axis else 1 for i in range(kernel.ndim)])
    real: FloatArray = symbol.real
    return real


def _checked(told: SpectralBounds, target: Target) -> SpectralBounds:
    """``told`` with a Rayleigh quotient for evidence; raises if they contradict each other."""
    from dataclasses import replace

    target = target.in_real_numbers()
    name = "hessian" if target.factor is None else "factor"
    products = Products(target.matrix, name)
    probe = target.random_vector(target.matrix.shape[1])
    probe /= np.linalg.norm(probe)
    image = products.forward(probe)
    exponent = products.exponent or 0
    if target.factor is None:
        quotient = float(np.ldexp(probe @ image, exponent))
    else:
        quotient = float(np.ldexp(image @ image, 2 * exponent))
    slack = 100 * math.sqrt(probe.size) * products.eps * told.upper
    if not told.lower - slack <= quotient <= told.upper + slack:
        raise ValueError(
            f"the operator is not what `method` was told ({told.method}): a random vector has the "
            f"Rayleigh quotient {quotient:.6g}, outside [{told.lower:.6g}, {told.upper:.6g}]"
        )
    quotient = min(max(quotient, told.lower), told.upper)
    return replace(
        told,
        num_products=products.count,
        seed=target.seed,
        reached_lower=quotient,
        reached_upper=quotient,
    )
