"""The data step of deepinv's optimisers, by steps that are known in advance."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from stepfold._checks import check_positive
from stepfold.interop.deepinv.packing import Packing
from stepfold.polynomial import first_order_lower_bound, num_steps_to
from stepfold.schedules import Schedule, chebyshev_steps
from stepfold.spectrum import SpectralBounds

MOST_STEPS = 1000
"""Steps of one data step beyond which a smaller γ is asked for."""


class ChebyshevL2(nn.Module):
    """deepinv's fidelity ``‖Ax − y‖²/(2σ²)``, with a proximal operator made of Chebyshev steps.

    ``prox(x, y, physics, gamma=γ)`` solves ``(AᵀA + I·σ²/γ) u = Aᵀy + x·σ²/γ`` by as many steps as
    the bounds and ``rtol`` call for, known in advance: without inner products, the same linear map
    for every image of a batch. For ``HQS``, ``ADMM`` and ``DRS`` in the place of ``L2``, whose
    conjugate gradients need fewer products for one image, and two sums over all images in each.
    Gradients are those of the solution, by one more solve, whatever the number of steps: by x, y, γ
    and what the physics holds.

    Args:
        bounds: Interval [a, b] of the eigenvalues of AᵀA for every physics that is met.
        sigma: σ.
        rtol: Error of u over that of x, at most, both in the 2-norm.

    Raises:
        TypeError: If ``bounds`` are not `SpectralBounds`.
        ValueError: If ``sigma`` or ``rtol`` are out of range; from `prox`, if γ takes more than
            1000 steps, an entry is not finite, or the steps do not shrink the residual as they must
            with these bounds.

    >>> class Double:
    ...     def A(self, x):
    ...         return 2 * x
    ...
    ...     def A_adjoint(self, y):
    ...         return 2 * y
    >>> fidelity = ChebyshevL2(SpectralBounds(3.0, 5.0))
    >>> x, y = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    >>> round(fidelity.prox(x, y, Double(), gamma=0.5).item(), 4)  # 2y/(4 + 2)
    0.3333
    """

    def __init__(self, bounds: SpectralBounds, *, sigma: float = 1.0, rtol: float = 1e-5) -> None:
        super().__init__()
        if not isinstance(bounds, SpectralBounds):
            raise TypeError(
                f"`bounds` must be SpectralBounds, got {type(bounds).__name__}; take "
                "`estimate_bounds(LeastSquares(PhysicsOperator(physics, image), rows))`"
            )
        self.bounds = bounds
        check_positive("sigma", sigma, "it is the noise level")
        check_positive("rtol", rtol, "1e-5 is the default")
        if rtol >= 1:
            raise ValueError(f"`rtol` must be below 1, got {rtol!r}")
        self.sigma = float(sigma)
        self.rtol = float(rtol)

    def schedule(self, gamma: float) -> Schedule:
        """The steps that `prox` takes for this γ."""
        check_positive("gamma", gamma, "it is the step of `prox`")
        shift = self.sigma**2 / gamma
        shifted = SpectralBounds(self.bounds.lower + shift, self.bounds.upper + shift)
        # 1/cosh is at most twice an exponential, whose rate this is.
        period = num_steps_to(self.rtol / 2, first_order_lower_bound(shifted))
        if period > MOST_STEPS:
            raise ValueError(
                f"`gamma` must leave the data step a condition that {MOST_STEPS} steps can "
                f"solve, got {gamma:g}, which takes {period:g}; give a smaller `gamma`, a larger "
                "`rtol` or a lower bound above 0"
            )
        return _steps(shifted.lower, shifted.upper, int(period))

    def forward(self, x: Tensor, y: Any, physics: Any) -> Tensor:
        """``‖Ax − y‖²/(2σ²)`` of each image, shape (batch,)."""
        residual = physics.A(x) - y
        rows = Packing("y", residual).rows(residual)
        return (rows * rows).sum(-1) / (2 * self.sigma**2)

    def grad(self, x: Tensor, y: Any, physics: Any) -> Tensor:
        """``Aᵀ(Ax − y)/σ²``, of the shape of ``x``."""
        gradient: Tensor = physics.A_adjoint(physics.A(x) - y) / self.sigma**2
        return gradient

    def prox(self, x: Tensor, y: Any, physics: Any, *, gamma: Any = 1.0) -> Tensor:
        """``argmin_u γ‖Au − y‖²/(2σ²) + ½‖u − x‖²``, of the shape of ``x``; γ is one number."""
        if isinstance(gamma, Tensor):
            if gamma.numel() != 1:
                raise ValueError(
                    f"`gamma` must be one number for all images, got shape {tuple(gamma.shape)}"
                )
            gamma = gamma.reshape(())
        number = gamma.item() if isinstance(gamma, Tensor) else gamma
        schedule = self.schedule(number)
        shift = self.sigma**2 / gamma

        def residual(u: Tensor) -> Tensor:
            gap: Tensor = physics.A_adjoint(y - physics.A(u)) + shift * (x - u)
            return gap

        def inverse(v: Tensor) -> Tensor:
            """``(AᵀA + shift·I)⁻¹v``, to a factor rtol."""
            u = schedule[0] * v
            for step in schedule[1:]:
                u = u + step * (v - physics.A_adjoint(physics.A(u)) - shift * u)
            return u

        with torch.no_grad():
            first = residual(x)
            solution = x + inverse(first)
        last = residual(solution)
        self._check(first, last.detach(), solution, self.sigma**2 / number)
        if not last.requires_grad:
            return solution
        # The residual is 0 there, up to rtol, and so is its Newton step: what counts is its slope.
        step: Tensor = _NewtonStep.apply(last, inverse)  # type: ignore[no-untyped-call]
        return solution + step

    def _check(self, first: Tensor, last: Tensor, solution: Tensor, shift: float) -> None:
        sizes = [part.reshape(len(part), -1).norm(dim=1) for part in (first, last, solution)]
        if not bool(sizes[0].isfinite().all()):
            raise ValueError(
                "`x` and `y` must be finite, and so must what `physics` makes of them, got NaN or "
                "infinity"
            )
        eps = torch.finfo(sizes[0].dtype).eps
        allowed = 10 * self.rtol * sizes[0]
        allowed = allowed + 100 * eps * ((self.bounds.upper + shift) * sizes[2] + sizes[0])
        if not bool((sizes[1] <= allowed).all()):
            raise ValueError(
                "`bounds` must hold every eigenvalue of AᵀA of `physics`, and the steps made for "
                f"[{self.bounds.lower:g}, {self.bounds.upper:g}] have not shrunk the residual as "
                "they must; take `estimate_bounds` of this physics, or a larger upper bound"
            )


@functools.lru_cache(maxsize=64)
def _steps(lower: float, upper: float, period: int) -> Schedule:
    return chebyshev_steps(SpectralBounds(lower, upper), period)


class _NewtonStep(torch.autograd.Function):
    """0, with the derivative of ``inverse(residual)``; the inverse is symmetric."""

    @staticmethod
    def forward(ctx: Any, residual: Tensor, inverse: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.inverse = inverse
        return torch.zeros_like(residual)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        with torch.no_grad():
            return ctx.inverse(gradient), None
