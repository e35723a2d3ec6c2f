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

import functools
import sys
from typing import Any


def thresholded(matrices: Any, left: Any, values: Any, right: Any, threshold: Any) -> Any:
    """``U diag(max(s − τ, 0)) Vᴴ`` for a tensor of matrices and its singular value decomposition.

    Args:
        matrices: Shape (…, rows, columns).
        left: U.
        values: s.
        right: Vᴴ.
        threshold: τ, a number or one for each matrix, shape (batch, 1).
    """
    torch = sys.modules["torch"]
    thresholds = torch.as_tensor(threshold, dtype=values.dtype, device=values.device)
    thresholds = torch.broadcast_to(thresholds, (*values.shape[:-1], 1))
    parts = (part.detach() for part in (left, values, right))
    return _function().apply(matrices, *parts, thresholds)


@functools.cache
def _function() -> Any:
    """A function of torch, whose module is loaded by whoever has a tensor."""
    autograd = sys.modules["torch"].autograd

    class Thresholding(autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(matrices: Any, left: Any, values: Any, right: Any, threshold: Any) -> Any:
            return (left * (values - threshold).clip(0, None)[..., None, :]) @ right

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            ctx.save_for_backward(*inputs[1:])

        @staticmethod
        @autograd.function.once_differentiable  # type: ignore[untyped-decorator]
        def backward(ctx: Any, gradient: Any) -> tuple[Any, ...]:
            moved, by_threshold = _derivative(gradient, *ctx.saved_tensors)
            return moved, None, None, None, by_threshold

    return Thresholding


def _derivative(gradient: Any, left: Any, values: Any, right: Any, threshold: Any) -> Any:
    """The derivative above, applied to the gradient of the result; and that by τ."""
    where = sys.modules["torch"].where
    inside = left.mH @ gradient @ right.mH
    shrunk = (values - threshold).clip(0, None)
    # Without a threshold nothing is shrunk: all factors are 1, at values of 0 too.
    at_zero = (threshold == 0).to(values.dtype)
    active = (values > threshold) | (threshold == 0)
    rows, columns = active[..., :, None], active[..., None, :]
    gap = where(rows ^ columns, values[..., :, None] - values[..., None, :], 1.0)
    change = shrunk[..., :, None] - shrunk[..., None, :]
    symmetric = where(rows ^ columns, change / gap, (rows & columns).to(values.dtype))
    total = values[..., :, None] + values[..., None, :]
    sums = shrunk[..., :, None] + shrunk[..., None, :]
    skew = where(total > 0, sums / where(total > 0, total, 1.0), at_zero[..., None])
    outer = where(values > 0, shrunk / where(values > 0, values, 1.0), at_zero)
    hermitian, rest = (inside + inside.mH) / 2, (inside - inside.mH) / 2
    moved = left @ (symmetric * hermitian + skew * rest) @ right
    moved = moved + ((gradient @ right.mH - left @ inside) * outer[..., None, :]) @ right
    moved = moved + (left * outer[..., None, :]) @ (left.mH @ gradient - inside @ right)
    diagonal = inside.diagonal(dim1=-2, dim2=-1).real
    return moved, -(diagonal * active).sum(-1, keepdim=True)
