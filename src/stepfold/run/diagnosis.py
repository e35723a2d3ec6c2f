"""Why a run did not end well, shown by at most ten products.

Each sentence names a cause only if a test has shown it, and gives the evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stepfold._arrays import (
    all_finite,
    dot,
    dtype_kind,
    epsilon,
    from_host,
    norms,
    row_dots,
    to_host,
)
from stepfold._checks import makes_arrays
from stepfold._krylov import Tridiagonal, lanczos
from stepfold._typing import FloatArray
from stepfold.operators import apply, column_squares
from stepfold.problems import LeastSquares, Problem, QuadraticProblem
from stepfold.result import Status

if TYPE_CHECKING:
    from stepfold.run.loop import Loop

# Differences beyond so many roundings are none.
ROUNDING = 1e3
# The Hessian maps a vector to 0 if it shrinks it to so many roundings of its norm.
NULL = 100.0
# Column norms in this ratio slow every method that takes one step for all unknowns.
BADLY_SCALED = 1e3
# A condition number of A beyond which small errors in the data decide what the solution is.
ILL_POSED = 1e6
LANCZOS_STEPS = 6
MOST_PRODUCTS = 10


def few_lanczos_steps(
    problem: QuadraticProblem[Any], start: Any, num_steps: int
) -> tuple[Tridiagonal, float | None]:
    """Lanczos steps from ``start``, a vector, in the problem's own inner product.

    With them comes the `asymmetry` of their first two products: unless it is None, Ritz values are
    no evidence of anything.
    """
    hessian = problem.euclidean.hessian
    basis: list[Any] = []
    images: list[Any] = []

    def product(v: Any) -> Any:
        image = hessian @ v
        images.append(image)
        return image

    found = lanczos(
        product,
        start,
        num_steps,
        precondition=problem.precondition,
        reorthogonalise=False,
        basis=basis,
    )
    return found, asymmetry(basis[:2], images[:2])


def asymmetry(pair: list[Any], images: list[Any]) -> float | None:
    """By what share of ``‖Hv‖`` uᴴ(Hv) and vᴴ(Hu) differ; None if that may be rounding."""
    if len(pair) < 2 or len(images) < 2:
        return None
    (u, v), (first, second) = pair, images
    scale = float(norms(u)[0] * norms(second)[0] + norms(v)[0] * norms(first)[0])
    difference = abs(dot(u, second) - dot(v, first))
    if not difference > ROUNDING * epsilon(u) * scale:
        return None
    return 2 * difference / scale


def null_space_floor(
    problem: QuadraticProblem[Any], x: Any, gradient: Any, upper: float
) -> FloatArray:
    """What no gradient can be below, as far as the one at ``x`` shows it; one product.

    For every y ``‖∇f(y)‖ ≥ gᴴ∇f(y)/‖g‖``, which at y = x is ‖g‖ and changes by at most
    ``‖Hg‖‖y − x‖/‖g‖``: where the Hessian maps the gradient g to 0, no y is better. The number is
    for every y no farther from x than x is from 0, and 0 unless ‖Hg‖ is that small beside
    ``upper‖g‖`` that rounding at a y which is far enough to change g is more than ‖g‖.
    """
    image, sizes = norms(problem.euclidean.product(gradient)), norms(gradient)
    with np.errstate(invalid="ignore", divide="ignore"):
        floor = sizes - image * norms(x) / sizes
    is_null = image <= NULL * epsilon(gradient) * upper * sizes
    return np.where(is_null & (floor > 0), floor, 0.0)


@dataclass(frozen=True)
class UnreachablePart:
    """The part of a gradient along a vector that the Hessian maps to 0: no x changes it.

    Args:
        vector: The vector v, of norm 1; None if there is none to be seen.
        size: Norm of that part.
        quotient: ``‖Hv‖/‖v‖`` for that vector v.
        num_products: What it cost.
    """

    vector: Any
    size: float
    quotient: float
    num_products: int


def unreachable_part(
    problem: QuadraticProblem[Any], gradient: Any, upper: float, num_steps: int = LANCZOS_STEPS
) -> UnreachablePart:
    """Look for a null vector of the Hessian, in the constant vector and by a few Lanczos steps.

    The constant vector is the null vector of every graph's Laplacian.

    Args:
        problem: The problem.
        gradient: Its gradient anywhere, a vector.
        upper: About the largest eigenvalue.
        num_steps: Lanczos steps; two products come on top.
    """
    cost, size = problem.products_per_gradient, float(norms(gradient)[0])
    ones = from_host(np.ones(gradient.shape[0]), gradient)
    if not 0 < size < math.inf:
        return UnreachablePart(None, 0.0, 0.0, 0)
    basis: list[Any] = []
    hessian = problem.hessian
    found = lanczos(lambda v: hessian @ v, gradient, num_steps, reorthogonalise=False, basis=basis)
    if not np.isfinite(found.diagonal).all():
        return UnreachablePart(None, 0.0, 0.0, cost * found.diagonal.size)
    weights = found.eigh()[1][:, 0].tolist()
    candidates = [ones]
    if basis:
        candidates.append(sum(w * v for w, v in zip(weights, basis, strict=False)))
    best, quotient, null = 0.0, 0.0, None
    for vector in candidates:
        length = float(norms(vector)[0])
        image = float(norms(problem.product(vector))[0])
        part = abs(float(row_dots(vector, gradient)[0])) / length
        if image <= ROUNDING * epsilon(gradient) * upper * length and part > best:
            best, quotient, null = part, image / length, vector / length
    return UnreachablePart(null, best, quotient, cost * (found.diagonal.size + len(candidates)))


def diagnose(loop: Loop, problem: Problem[Any]) -> list[str]:
    """Sentences on what was found; products with it are booked.

    Args:
        loop: A run that has ended.
        problem: The problem as the user posed it.
    """
    if not isinstance(loop.whole, QuadraticProblem):
        return []
    if not loop.ledger.affords(MOST_PRODUCTS):
        return []
    # In the usual inner product, and in the units of the run.
    inner = loop.whole.euclidean
    with np.errstate(all="ignore"):
        examination = _Examination(inner, loop)
        found = examination.findings(problem)
    loop.ledger.num_products += examination.num_products
    return found


class _Examination:
    def __init__(self, problem: QuadraticProblem[Any], loop: Loop) -> None:
        self._problem, self._loop = problem, loop
        best = loop.ledger.best
        self._like = best if best.ndim == 1 else best[0]
        self._random = np.random.default_rng(0)
        self._quotient = 0.0
        self.num_products = 0

    def findings(self, posed: Problem[Any]) -> list[str]:
        """What is wrong with the operator, or else with the problem."""
        broken = self._broken_operator()
        if broken:
            return [broken]
        found = [self._scaling(posed)] if self._loop.ledger.status is not Status.DIVERGED else []
        if self._loop.measure.is_of_gradient:
            found += self._spectrum()
        return [sentence for sentence in found if sentence]

    def _vector(self, length: int) -> Any:
        numbers = self._random.standard_normal(length)
        if dtype_kind(self._like.dtype) == "c":
            # Real vectors do not tell a symmetric matrix from a Hermitian one.
            numbers = numbers + 1j * self._random.standard_normal(length)
        vector = from_host(numbers, self._like)
        return vector / float(norms(vector)[0])

    def _product(self, operator: Any, vector: Any) -> Any:
        self.num_products += 1
        return apply(operator, vector)

    def _broken_operator(self) -> str | None:
        problem = self._problem
        if isinstance(problem, LeastSquares):
            operator: Any = problem.operator
        else:
            operator = problem.hessian
            self.num_products += problem.products_per_gradient - 1
        v = self._vector(operator.shape[1])
        image = self._product(operator, v)
        if not all_finite(image):
            return (
                "A product of the operator with a finite vector is not finite, it has NaN or "
                "infinity: the operator is at fault, not the bounds or the steps."
            )
        is_scipy = makes_arrays(operator)
        if is_scipy and dtype_kind(image.dtype) == "c" and dtype_kind(operator.dtype) != "c":
            return (
                f"The operator declares the dtype {operator.dtype} and returns complex numbers, so "
                "that its adjoint was taken for its transpose; declare a complex dtype."
            )
        # The Rayleigh quotient of a random vector: about the mean eigenvalue.
        if isinstance(problem, LeastSquares):
            self._quotient = float(norms(image)[0]) ** 2 + problem.ridge
        else:
            self._quotient = float(row_dots(v, image)[0])
        u = self._vector(operator.shape[0])
        if isinstance(problem, LeastSquares):
            other = problem.adjoint_product(u)
            self.num_products += 1
            what, remedy = "adjoint", "`operator.T @ y` (or `rmatvec`) must be the adjoint of `@`"
        else:
            other = self._product(operator, u)
            what, remedy = "symmetric", "pose the system as `LeastSquares(matrix, rhs)`"
        size = float(norms(image)[0] + norms(other)[0])
        difference = abs(float(row_dots(u, image)[0] - row_dots(v, other)[0]))
        if not difference > ROUNDING * epsilon(v) * size:
            return None
        if what == "adjoint":
            claim = "The adjoint of the operator is wrong: uᵀ(Av) and (Aᵀu)ᵀv"
        else:
            claim = "The Hessian is not symmetric: uᵀ(Hv) and (Hu)ᵀv"
        share = difference / size
        return f"{claim} of two random vectors differ by {share:.2g} of ‖Hv‖ + ‖Hu‖; {remedy}."

    def _scaling(self, posed: Problem[Any]) -> str | None:
        if self._loop.measure.is_scaled:
            return None
        squares = column_squares(getattr(posed, "operator", None))
        if squares is None:
            return None
        sizes = np.sqrt(to_host(squares))
        sizes = sizes[sizes > 0]
        if not sizes.size or sizes.max() < BADLY_SCALED * sizes.min():
            return None
        remedy = "Divide each column by its norm, or precondition with"
        remedy += " `jacobi_preconditioner(problem)`."
        if not self._loop.measure.is_of_gradient:
            # With a penalty neither is exact.
            remedy = "Measure the unknowns in units in which the norms are alike."
        return (
            f"The columns of the operator are badly scaled: their norms differ by a factor of "
            f"{sizes.max() / sizes.min():.3g}. {remedy}"
        )

    def _spectrum(self) -> list[str]:
        """Eigenvalues near 0 or beyond the bounds, by Lanczos steps from the gradient."""
        loop, problem = self._loop, self._problem
        best = loop.ledger.best
        worst = int(np.argmax(loop.ledger.best_sizes))
        x = best if best.ndim == 1 else best[worst]
        one = problem if best.ndim == 1 else problem.rows_of([worst])
        if one is None or not all_finite(x):
            return []
        gradient: Any = one.gradient(x if best.ndim == 1 else x[None])
        gradient = gradient if best.ndim == 1 else gradient[0]
        if not 0 < float(norms(gradient)[0]) < math.inf:
            return []
        cost, unit = problem.products_per_gradient, loop.units.hessian
        units = loop.units.gradient
        self.num_products += cost
        # In the inner product that bounds are about.
        found, _ = few_lanczos_steps(loop.whole, gradient, 2)
        self.num_products += cost * found.diagonal.size
        low, high, _, _ = found.ends()
        bounds = loop.policy.bounds
        is_plain = problem is loop.whole
        sentences = []
        if bounds is not None and high > bounds.upper * (1 + ROUNDING * epsilon(gradient)):
            sentences.append(
                f"The upper bound {bounds.upper * unit:.6g} is too low: an eigenvalue lies at "
                f"{high * unit:.6g} or above, by Lanczos steps from the gradient."
            )
        reached = (None, None) if bounds is None else (bounds.reached_lower, bounds.reached_upper)
        # Rayleigh quotients only: bounds and steps may be wrong.
        high = max(high, reached[1] or 0.0, self._quotient if is_plain else 0.0)
        left = float(norms(gradient)[0])
        num_steps = (MOST_PRODUCTS - self.num_products) // cost - 2
        if not isinstance(problem, LeastSquares) and num_steps > 0:
            largest = max(self._quotient, high if is_plain else 0.0)
            part = unreachable_part(problem, gradient, largest, num_steps)
            self.num_products += part.num_products
            if part.size > 0.3 * left:
                size = 1.0 if units is None else float(units[worst])
                sentences.append(
                    "The Hessian is singular and the right-hand side not in its range: a part of "
                    f"norm {part.size * size:.3g} of the gradient that is left, {left * size:.3g}, "
                    f"lies along a vector v with ‖Hv‖ = {part.quotient * unit:.2g}·‖v‖, where the "
                    f"largest eigenvalue is at least {largest * unit:.3g}. No x changes it; "
                    "project the right-hand side, or add a ridge."
                )
        lowest = min(low, math.inf if reached[0] is None else reached[0])
        # A quotient that is smaller is rounding, and shows no more than that; one that is negative
        # is of an indefinite Hessian, whose condition number no quotient tells.
        rounding = ROUNDING * epsilon(gradient) * high
        is_indefinite = lowest < -rounding
        lowest = max(lowest, rounding)
        if not (sentences or is_indefinite) and lowest < high / ILL_POSED**2:
            sentences.append(
                "The problem is ill-posed: the condition number of the "
                f"{'' if is_plain else 'preconditioned '}Hessian is at least "
                f"{high / lowest:.3g}. Take a ridge, or fourth-kind Chebyshev steps and an early "
                "end."
            )
        return sentences
