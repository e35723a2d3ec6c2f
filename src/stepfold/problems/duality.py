"""Values of smooth problems, and how far a scaled dual point is from attaining them.

For ``f(x) = F(Ax) + ½μ‖x‖²`` with gradient ``u = ∇F(Ax)`` of F, and s in [0, 1], the Fenchel–Young
inequality says ``F(Ax) + F*(su) − s uᵀAx ≥ 0``, with equality for s = 1. Written for each F on its
own, this *divergence* has no cancellation, so that a gap made from it is right to the last digits.

References:
    Ndiaye, Fercoq, Gramfort and Salmon, Gap safe screening rules for sparsity enforcing penalties
    (J. Mach. Learn. Res. 18, 2017), section 2: the scaling of the residual to a dual point.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stepfold._arrays import namespace, tiny
from stepfold.operators import apply
from stepfold.problems._rows import real_products, squares
from stepfold.problems.base import Problem, QuadraticProblem
from stepfold.problems.logistic import Logistic, softplus
from stepfold.problems.quadratic import LeastSquares


@dataclass(frozen=True)
class Look:
    """A smooth problem at one point, from the products of one gradient.

    Args:
        value: f(x), one number or one per row.
        gradient: ∇f(x).
        ridge: μ; the rest of f is F(Ax).
        divergence: From s, one number or one per row, to ``F(Ax) + F*(su) − s uᵀAx``; None where
            F* is not known, and s = 1, for which it is 0, is all there is.
    """

    value: Any
    gradient: Any
    ridge: float = 0.0
    divergence: Callable[[Any], Any] | None = None


@functools.singledispatch
def look(problem: Problem[Any], x: Any) -> Look:
    """Value and gradient at ``x``, and what is known of the dual.

    Of a problem of unknown kind that is all that is known.
    """
    gradient: Any = problem.gradient(x)
    if isinstance(problem, QuadraticProblem):
        # What `value` would compute, without a second gradient.
        return Look(real_products(gradient - problem.linear_term, x) / 2, gradient)
    return Look(problem.value(x), gradient)


@look.register(LeastSquares)
def _look_at_least_squares(problem: LeastSquares[Any], x: Any) -> Look:
    residual = apply(problem.operator, x) - problem.rhs
    gradient = problem.adjoint_product(residual)
    half = squares(residual).sum(-1) / 2
    value, ridge = half, problem.ridge
    if ridge:
        gradient = gradient + ridge * x
        value = half + ridge / 2 * squares(x).sum(-1)
    return Look(value, gradient, ridge, lambda scale: (1 - scale) * (1 - scale) * half)


@look.register(Logistic)
def _look_at_logistic(problem: Logistic[Any], x: Any) -> Look:
    margins = problem.margins(x)
    slopes = problem.slopes(margins)
    gradient = problem.adjoint_product(slopes)
    losses = softplus(-margins)
    value, ridge = losses.sum(-1), problem.ridge
    if ridge:
        gradient = gradient + ridge * x
        value = value + ridge / 2 * squares(x).sum(-1)

    def divergence(scale: Any) -> Any:
        # Of Bernoulli variables with means q = sp and p = |u|: q log s + (1 − q) log(1−q)/(1−p).
        xp = namespace(margins)
        floor = tiny(margins)
        means = scale[..., None] * abs(slopes)
        rest = 1 - means
        logs = xp.log(rest.clip(floor, None)) - (margins - softplus(margins))
        return (means.sum(-1) * xp.log(scale.clip(floor, None))) + (rest * logs).sum(-1)

    return Look(value, gradient, ridge, divergence)
