"""Gradients of a fixed point by the implicit function theorem, whatever path led to it.

At ``x = f(x, θ)`` the gradient of a loss with respect to θ is ``(∂f/∂θ)ᵀ w``, where w solves
``w = Jᵀ w + g``, J the Jacobian of f in x and g the loss's gradient with respect to x. That is a
fixed point as well, of a linear map whose spectrum is that of J, and `accelerate` finds it. One
evaluation of f is recorded, not the run.

References:
    Bai, Kolter and Koltun, Deep Equilibrium Models (arXiv:1909.01377), section 3.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

from stepfold._arrays import is_torch
from stepfold.problems.fixed_point import FixedPoint
from stepfold.result import Result, Status


class ConvergenceWarning(UserWarning):
    """A fixed point, or the gradient of one, was not found to its tolerance."""


def check_differentiable(x0: Any) -> None:
    """Raise unless gradients can be had of what starts like this."""
    if not is_torch(x0):
        raise TypeError(
            f"`differentiable=True` needs a tensor of torch as `x0`, got {type(x0).__name__}; "
            "convert it by `torch.as_tensor`"
        )


def with_gradient(
    problem: FixedPoint[Any], x: Any, solve_adjoint: Callable[[Any, Any], Result[Any]]
) -> Any:
    """``x``, a fixed point, as what autograd can differentiate with respect to what f depends on.

    Args:
        problem: The map.
        x: Its fixed point.
        solve_adjoint: `accelerate` with the settings of the run that found ``x``.

    Returns:
        A tensor of the same numbers; without a graph if f depends on nothing that has gradients.
    """
    torch = sys.modules["torch"]
    point = x.detach()
    image = problem.image(point)
    if not image.requires_grad:
        return x

    def solved(gradient: Any) -> Any:
        if gradient is None:  # nothing depends on it
            return None
        if torch.is_grad_enabled():
            raise RuntimeError(
                "a fixed point has first derivatives only, and `create_graph=True` asks for those "
                "of its gradient; unroll the map for these"
            )
        start = point.clone().requires_grad_()
        with torch.enable_grad():
            image = problem.image(start)

        def adjoint(w: Any) -> Any:
            (product,) = torch.autograd.grad(
                image, start, w, retain_graph=True, materialize_grads=True
            )
            return product + gradient

        found = solve_adjoint(adjoint, gradient)
        if found.status is not Status.CONVERGED:
            warnings.warn(
                "The gradient of the fixed point is inexact, because w = Jᵀ w + g was not solved "
                f"to its tolerance ({found.status.name}): {found.advice}",
                ConvergenceWarning,
                stacklevel=2,
            )
        return found.x

    attached = point + (image - image.detach())
    attached.register_hook(solved)
    return attached
