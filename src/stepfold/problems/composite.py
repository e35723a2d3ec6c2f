"""Composite objectives ``f(x) + g(x)``: a smooth problem and a penalty.

A minimiser is a fixed point of ``x → prox_{γg}(x − γ∇f(x))`` for any γ > 0, and
``‖x − prox_{γg}(x − γ∇f(x))‖/γ``, which for g = 0 is the gradient norm, says how far x is from one.
The duality gap bounds how far the objective is from its minimum. For ``f(x) = F(Ax) + ½μ‖x‖²``,
``u = ∇F(Ax)`` and the dual point su, s in [0, 1], it is the sum of two terms that cannot be
negative,

    ``[F(Ax) + F*(su) − s uᵀAx] + [h(x) + h*(−s Aᵀu) + s uᵀAx]``,  ``h = g + ½μ‖·‖²``,

where s is the largest that keeps ``h*`` finite. For μ > 0 every s does, and h* is had from the
proximal operator: ``h*(v) = vᵀp − h(p)`` at ``p = prox_{g/μ}(v/μ)``.

References:
    Parikh and Boyd, Proximal algorithms (Found. Trends Optim. 1, 2014), sections 2.3 and 4.2.
"""

from __future__ import annotations

import functools
from typing import Any, Generic

import numpy as np

from stepfold._arrays import (
    detached,
    dtype_kind,
    from_host,
    largest_entry,
    to_host,
)
from stepfold._checks import check_nonnegative, check_real
from stepfold._typing import ArrayT, Operator
from stepfold.problems._rows import largest, real_products
from stepfold.problems.base import Problem, QuadraticProblem
from stepfold.problems.duality import Look, look
from stepfold.problems.fixed_point import FixedPoint
from stepfold.problems.images import ImageProblem
from stepfold.problems.penalties import L1, ConjugatePenalty, Penalty, SeparablePenalty
from stepfold.problems.penalties.base import check_penalty
from stepfold.problems.preconditioned import Preconditioned
from stepfold.problems.quadratic import LeastSquares, Quadratic
from stepfold.spectrum import BoundsMethod, SpectralBounds, estimate_bounds

# Columns whose norms differ by no more than this share one step. To a gap of 1e-3 scaling them took
# up to 2.5 times the products of one step for all.
DIFFERENT = 100.0


class Composite(Generic[ArrayT]):
    """The objective ``f(x) + g(x)``.

    Args:
        problem: f, smooth and convex, of x of shape (n,) or (batch, n).
        penalty: g, of the same x.

    Raises:
        TypeError: If ``problem`` is no problem or a preconditioned one, if ``penalty`` is no
            penalty, or one of real vectors where the data are complex.

    Attributes:
        products_on_bounds: Products spent so far on the bounds that steps are made from.

    >>> from stepfold import LeastSquares
    >>> objective = Composite(LeastSquares(np.eye(2), np.array([3.0, 0.5])), L1(1.0))
    >>> solution = np.array([2.0, 0.0])
    >>> float(objective.value(solution)), float(objective.gap(solution))
    (2.625, 0.0)
    """

    def __repr__(self) -> str:
        return f"Composite({self.problem!r}, {self.penalty!r})"

    def __init__(self, problem: Problem[ArrayT], penalty: Penalty) -> None:
        inner = problem.euclidean if isinstance(problem, QuadraticProblem) else problem
        if not isinstance(problem, Problem) or inner is not problem:
            raise TypeError(
                "`problem` must be a Problem that is not preconditioned, got "
                f"{type(problem).__name__}: a proximal operator is that of the Euclidean norm"
            )
        if isinstance(problem, ImageProblem):
            raise TypeError(
                "`problem` must be one of rows, got ImageProblem; pass its `flat`, and take the "
                "solution by its `images`"
            )
        self.problem = problem
        self.penalty = check_penalty(penalty)
        self.products_on_bounds = 0
        is_complex = dtype_kind(getattr(self.zero, "dtype", None)) == "c"
        if is_complex and not penalty.takes_complex:
            raise TypeError(
                f"`problem` must be real with the penalty {type(penalty).__name__}, got complex "
                "data; pose it in real and imaginary parts"
            )

    @functools.cached_property
    def zero(self) -> ArrayT | None:
        """The point 0, of the shape of a solution; None where the problem does not know it."""
        return self.problem.zero

    @functools.cached_property
    def _bounds(self) -> SpectralBounds:
        """Bounds of the Hessian of f, estimated when they are first asked for."""
        return self._counted(estimate_bounds(self.problem))

    def _counted(self, bounds: SpectralBounds) -> SpectralBounds:
        self.products_on_bounds += bounds.num_products
        return bounds

    def own_bounds(self, method: BoundsMethod | None, seed: int) -> SpectralBounds:
        """Bounds of the Hessian of f: what `estimate_bounds` returns."""
        if method is None and seed == 0:
            return self._bounds
        return estimate_bounds(self.problem, method=method, seed=seed)

    @property
    def step(self) -> float:
        """1/b for the upper bound b: with it the objective never grows. 1 for a Hessian of 0."""
        # Where the gradient is the same everywhere every step is safe.
        return 1.0 if self._bounds.upper == 0 else safe_step(self._bounds)

    @property
    def steps(self) -> Any:
        """A step for each entry, where columns differ and the penalty allows it; else `step`.

        With a separable penalty the substitution xᵢ = zᵢ/‖aᵢ‖, which makes all columns aᵢ of the
        operator of norm 1, is exact. Steps 1/b in z are steps ``1/(b‖aᵢ‖²)`` in x, and nothing is
        copied.
        """
        return self._scaled[0]

    @property
    def scaled_upper(self) -> float:
        """b: the upper bound of the spectrum that `steps` are made from."""
        return self._scaled[1]

    @functools.cached_property
    def _scaled(self) -> tuple[Any, float]:
        diagonal = self.problem.column_squares()
        if diagonal is None or not isinstance(self.penalty, SeparablePenalty):
            return self.step, 1 / self.step
        sizes = to_host(diagonal).astype(np.float64)
        sizes = np.where(sizes > 0, sizes, 1.0)  # a column of zeros has no step of its own
        if not (np.isfinite(sizes).all() and sizes.max() > DIFFERENT**2 * sizes.min()):
            return self.step, 1 / self.step
        metric = from_host(sizes, diagonal)
        hessian: Any = self.problem.hessian  # type: ignore[attr-defined]
        quadratic: Any = self.problem
        if not isinstance(quadratic, QuadraticProblem):
            quadratic = Quadratic(hessian, 0 * diagonal)
        upper = self._counted(estimate_bounds(Preconditioned(quadratic, metric))).upper
        return 1 / (upper * metric), upper

    def value(self, x: ArrayT) -> Any:
        """``f(x) + g(x)``, one number or one per row."""
        self._check_shape(x)
        return look(self.problem, x).value + self.penalty.value(x)

    def optimality(self, x: ArrayT, gamma: float | None = None) -> Any:
        """``‖x − prox_{γg}(x − γ∇f(x))‖/γ``, one number or one per row; 0 at a minimiser.

        Args:
            x: Where.
            gamma: γ; `step` if not given.
        """
        gamma = self.step if gamma is None else check_step(gamma)
        self._check_shape(x)
        return optimality(self.penalty, x, self.problem.gradient(x), gamma)

    @property
    def has_gap(self) -> bool:
        """Whether a duality gap is known that goes to 0 at the minimiser.

        It is for least squares and logistic regression with a ridge term and any penalty, or with
        L1, group L1, elastic net, nuclear norm, bounded boxes, balls and simplices; for quadratics
        with those of the list whose conjugate is finite everywhere (all but the norms). With an
        inexact proximal operator the gap, too, is inexact.
        """
        known = look.dispatch(type(self.problem)) is not look.dispatch(object)
        if known and self.problem.ridge > 0:  # type: ignore[attr-defined]
            return True
        if not isinstance(self.penalty, ConjugatePenalty):
            return False
        domain = self.penalty.dual_domain
        return domain == "whole" or (domain == "star" and known)

    def gap(self, x: ArrayT) -> Any:
        """Duality gap at ``x``, one number or one per row; infinite where g is.

        The objective at ``x`` is at most this much above its minimum.

        Raises:
            ValueError: If none is known; see `has_gap`.
        """
        self._check_shape(x)
        return self.gap_at(x, look(self.problem, x))

    def _check_shape(self, x: Any) -> None:
        # Not whether it is finite: what is asked about may have diverged.
        shape = getattr(x, "shape", None)
        expected = tuple((x if self.zero is None else self.zero).shape)
        if shape is None or tuple(shape) != expected:
            got = type(x).__name__ if shape is None else tuple(shape)
            raise ValueError(
                f"`x` must be an array of the shape of a solution, {expected}, got {got}"
            )

    def gap_at(self, x: ArrayT, seen: Look) -> Any:
        """The same from a look at f that has been taken already."""
        if not self.has_gap:
            raise ValueError(
                f"no duality gap is known for {type(self.penalty).__name__} on "
                f"{type(self.problem).__name__}; judge by `optimality`, or add a ridge term to "
                "least squares"
            )
        point: Any = x
        if seen.ridge > 0:
            return self._ridge_gap(point, seen)
        penalty = self.penalty
        assert isinstance(penalty, ConjugatePenalty)  # noqa: S101 (by `has_gap`)
        scale = penalty.dual_scale(-seen.gradient)
        dual = -(scale[..., None] * seen.gradient)
        gap = penalty.value(x) + penalty.conjugate(dual) - real_products(dual, point)
        return gap if seen.divergence is None else gap + seen.divergence(scale)

    def _ridge_gap(self, x: Any, seen: Look) -> Any:
        ridge = seen.ridge
        target = x - seen.gradient / ridge  # −Aᵀu/μ
        best: Any = self.penalty.prox(target, 1 / ridge)
        # h(x) + h*(v) − vᵀx for v = μ·target: ½μ‖x − target‖² − ½μ‖best − target‖² and the values.
        squares = real_products(x - best, x + best - 2 * target)
        return self.penalty.value(x) - self.penalty.value(best) + ridge / 2 * squares

    def fixed_point(self, gamma: float | None = None) -> FixedPoint[ArrayT]:
        """The map ``x → prox_{γg}(x − γ∇f(x))``, whose fixed points are the minimisers.

        Args:
            gamma: γ, above 0 and below 2/b for the map to be averaged; `step` if not given.

        >>> from stepfold import LeastSquares
        >>> objective = Composite(LeastSquares(np.eye(2), np.array([3.0, 0.5])), L1(1.0))
        >>> objective.fixed_point(0.5).map(np.zeros(2))
        array([1., 0.])
        """
        gamma = self.step if gamma is None else check_step(gamma)

        def image(x: ArrayT) -> ArrayT:
            return self.penalty.prox(self.problem.gradient_step(x, gamma), gamma)

        return FixedPoint(image)


def optimality(penalty: Penalty, x: Any, gradient: Any, gamma: Any) -> Any:
    """``‖x − prox_{γg}(x − γ·gradient)‖/γ``; with steps γᵢ that of ``xᵢ/√γᵢ`` for γ = 1."""
    move = x - penalty.prox(x - gamma * gradient, gamma)
    move = move / (gamma**0.5 if getattr(gamma, "ndim", 0) else gamma)
    sizes = abs(move)
    peak = largest(sizes)
    scaled = sizes / (peak + (peak == 0))[..., None]  # squares that neither overflow nor vanish
    return peak * (scaled * scaled).sum(-1) ** 0.5


def landweber(problem: Problem[ArrayT], gamma: float | None = None) -> FixedPoint[ArrayT]:
    """Landweber's iteration as a map, ``x → x − γ∇f(x)``; for least squares x + γAᵀ(b − Ax).

    Args:
        problem: f, of x of shape (n,).
        gamma: γ, above 0, in units of 1 / Hessian; 1/b for the estimated upper bound b of the
            Hessian if not given.

    Raises:
        TypeError: If ``problem`` is none.
        ValueError: If ``gamma`` is not above 0.

    >>> from stepfold import LeastSquares
    >>> landweber(LeastSquares(np.eye(2), np.ones(2)), 0.5).map(np.zeros(2))
    array([0.5, 0.5])
    """
    if not isinstance(problem, Problem):
        raise TypeError(
            f"`problem` must be a Problem, got {type(problem).__name__}; for a Composite take its "
            "`fixed_point()`"
        )
    step = safe_step(estimate_bounds(problem)) if gamma is None else check_step(gamma)
    return FixedPoint(lambda x: problem.gradient_step(x, step))


def lasso(
    operator: Operator,
    rhs: ArrayT,
    *,
    weight: Any = None,
    ratio: float | None = None,
    ridge: float = 0.0,
    shape: tuple[int, int] | None = None,
) -> Composite[ArrayT]:
    """The lasso ``½‖Ax − b‖² + μ‖x‖₁`` (``+ ½ρ‖x‖²``: the elastic net).

    The square has no factor 1/m, unlike scikit-learn's: its ``alpha`` is μ/m.

    Args:
        operator: A, of shape (m, n), real or complex; what `LeastSquares` takes.
        rhs: b, of shape (m,), or (batch, m).
        weight: μ, at least 0: a number, or one for each entry of x.
        ratio: μ in units of ``max|Aᵀb|``, from which on the solution is 0 (for a batch the largest
            of the rows'); give this or ``weight``.
        ridge: ρ, at least 0.
        shape: (m, n), where ``operator`` does not tell.

    Raises:
        ValueError: Unless exactly one of ``weight`` and ``ratio`` is given, at least 0.

    >>> lasso(np.eye(2), np.array([3.0, 0.5]), ratio=0.5).penalty.weight
    1.5
    """
    if (weight is None) == (ratio is None):
        raise ValueError(
            f"give exactly one of `weight` and `ratio`, got weight={weight!r}, ratio={ratio!r}"
        )
    problem: LeastSquares[ArrayT] = LeastSquares(operator, rhs, ridge=ridge, shape=shape)
    if ratio is not None:
        check_nonnegative("ratio", ratio)
        weight = ratio * largest_entry(detached(problem.linear_term))
    assert weight is not None  # noqa: S101
    return Composite(problem, L1(weight))


def safe_step(bounds: SpectralBounds) -> float:
    """1/b; with it no step lets the objective grow."""
    if bounds.upper == 0:
        raise ValueError("the Hessian of `problem` is 0: there is nothing to take steps on")
    return 1 / bounds.upper


def check_step(gamma: float) -> float:
    """Return γ, which must be positive and finite."""
    if not 0 < check_real("gamma", gamma) < np.inf:
        raise ValueError(f"`gamma` must be above 0 and finite, got {gamma!r}")
    return gamma
