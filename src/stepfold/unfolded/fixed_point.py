"""Fixed points as layers, differentiated by the implicit function theorem."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from stepfold.accelerate import ConvergenceWarning, accelerate
from stepfold.problems.fixed_point import FixedPoint
from stepfold.result import Status

# Error that a residual of this size leaves is below 1e-8 for maps that contract by 1 % a step.
RTOL = 1e-10


def fixed_point(
    map: FixedPoint[Tensor] | Callable[[Tensor], Tensor],  # noqa: A002 (the field's word)
    x0: Tensor,
    *,
    rtol: float | None = None,
    atol: float = 0.0,
    max_products: int = 10_000,
    batch: bool = False,
) -> Tensor:
    """The x with ``x = f(x)``, with gradients with respect to all tensors that f depends on.

    A deep-equilibrium layer. The run that finds x is not recorded. Backward solves
    ``w = Jᵀ w + g`` by the same accelerated relaxation; memory is that of one evaluation of f.

    Args:
        map: f, a function or module; it keeps shape, dtype and device.
        x0: Start, of any shape; x does not depend on it, so that it gets no gradient.
        rtol: Stop when ‖f(x) − x‖ ≤ max(``rtol``·‖f(x₀) − x₀‖, ``atol``); the same of w
            backward; if not given 1e-10, or ten roundings of the dtype if that is more.
        atol: See ``rtol``.
        max_products: Budget of evaluations of f forward, and of products with Jᵀ backward.
        batch: Whether the first axis counts problems that do not touch each other; each then has
            its own tolerance.

    Raises:
        TypeError: If ``x0`` is no tensor, or as `accelerate` does.
        ValueError: As `accelerate` does.

    Warns:
        ConvergenceWarning: If x, or in the backward pass w, was not found to its tolerance.

    >>> weight = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    >>> x = fixed_point(lambda x: weight * x + 1, torch.zeros(1, dtype=torch.float64))
    >>> x.sum().backward()
    >>> round(x.item(), 8), round(weight.grad.item(), 8)  # 1/(1 − w) and its derivative
    (2.0, 4.0)
    """
    if not isinstance(x0, Tensor):
        raise TypeError(
            f"`x0` must be a tensor, got {type(x0).__name__}; convert it by `torch.as_tensor`, or "
            "call `stepfold.accelerate` on other arrays"
        )
    if rtol is None:
        floating = x0.dtype.is_floating_point or x0.dtype.is_complex
        rtol = max(RTOL, 10 * torch.finfo(x0.dtype).eps if floating else RTOL)
    result = accelerate(
        map,
        x0,
        rtol=rtol,
        atol=atol,
        max_products=max_products,
        batch=batch,
        differentiable=torch.is_grad_enabled(),
    )
    if result.status is not Status.CONVERGED:
        warnings.warn(
            f"The fixed point was not found to its tolerance ({result.status.name}): "
            f"{result.advice}",
            ConvergenceWarning,
            stacklevel=2,
        )
    return result.x
