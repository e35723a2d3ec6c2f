"""Soft thresholding of singular values on tensors, with a derivative that is finite everywhere.

The derivative of the decomposition itself is infinite where singular values are equal, and where
they are 0. That of ``f(X) = U diag(h(s)) Vᴴ`` for ``h(s) = max(s − τ, 0)`` is not: with
``P = UᴴdXV``, its Hermitian part H and the rest K, ``UᴴdfV`` is ``D∘H + E∘K``,

    ``Dᵢⱼ = (h(sᵢ) − h(sⱼ))/(sᵢ − sⱼ)``,  ``Eᵢⱼ = (h(sᵢ) + h(sⱼ))/(sᵢ + sⱼ)``,

where equal values have the derivative of h for D, and what is outside the two bases is multiplied
by ``h(s)/s``. All of these factors lie in [0, 1]. The map is its own adjoint.

References:
    Lewis and Sendov, Nonsmooth analysis of singular values (Set-Valued Anal. 13, 2005), part I.
    Candès, Sing-Long and Trzasko, Unbiased risk estimates for singular value thresholding and
    spectral estimators (IEEE Trans. Signal Process. 61, 2013), section 4.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Thresholding(torch.autograd.Function):
    """``(X, s, U, Vᴴ, τ) → U diag(max(s − τ, 0)) Vᴴ``; second derivatives are refused."""

    @staticmethod
    def forward(
        ctx: Any, matrices: Tensor, left: Tensor, values: Tensor, right: Tensor, threshold: Tensor
    ) -> Tensor:
        """Threshold; ``threshold`` has shape (…, 1)."""
        ctx.save_for_backward(left, values, right, threshold)
        shrunk = (values - threshold).clip(0, None)
        return (left * shrunk[..., None, :]) @ right

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The derivative above, applied to the gradient of the result."""
        left, values, right, threshold = ctx.saved_tensors
        inside = left.mH @ gradient @ right.mH
        # Without a threshold nothing is shrunk: the factor is 1 at 0 too.
        active = (values > threshold) | (threshold == 0)
        shrunk = torch.where(active, values - threshold, 0.0)
        rows, columns = values[..., :, None], values[..., None, :]
        both = active[..., :, None] & active[..., None, :]
        differ = active[..., :, None] ^ active[..., None, :]
        gap = torch.where(differ, rows - columns, 1.0)
        change = shrunk[..., :, None] - shrunk[..., None, :]
        symmetric = torch.where(differ, change / gap, both.to(values.dtype))
        total = rows + columns
        sums = shrunk[..., :, None] + shrunk[..., None, :]
        at_zero = (threshold == 0).to(values.dtype)
        skew = torch.where(total > 0, sums / torch.where(total > 0, total, 1.0), at_zero[..., None])
        outer = torch.where(values > 0, shrunk / torch.where(values > 0, values, 1.0), at_zero)
        hermitian, rest = (inside + inside.mH) / 2, (inside - inside.mH) / 2
        moved = left @ (symmetric * hermitian + skew * rest) @ right
        moved = moved + ((gradient @ right.mH - left @ inside) * outer[..., None, :]) @ right
        moved = moved + (left * outer[..., None, :]) @ (left.mH @ gradient - inside @ right)
        diagonal = inside.diagonal(dim1=-2, dim2=-1).real
        by_threshold = -(diagonal * active).sum(-1, keepdim=True)
        return moved, None, None, None, by_threshold


def thresholded(matrices: Tensor, left: Any, values: Any, right: Any, threshold: Any) -> Tensor:
    """Threshold singular values by a number or by one for each matrix, shape (batch, 1)."""
    thresholds = torch.as_tensor(threshold, dtype=values.dtype, device=values.device)
    thresholds = torch.broadcast_to(thresholds, (*values.shape[:-1], 1))
    parts = (part.detach() for part in (left, values, right))
    moved: Tensor = Thresholding.apply(  # type: ignore[no-untyped-call]
        matrices, *parts, thresholds
    )
    return moved
