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
    dtype_kind,
    epsilon,
    from_host,
    is_numpy,
    norms,
    row_dots,
    to_host,
)
from stepfold._krylov import lanczos
from stepfold._typing import FloatArray
from stepfold.problems import LeastSquares, Problem, QuadraticProblem
from stepfold.problems.base import apply
from stepfold.result import Status

if TYPE_CHECKING:
    from stepfold.run.loop import Loop

# Differences beyond so many roundings are none.
ROUNDING = 1e3
# Column norms in this ratio slow every method that takes one step for all unknowns.
BADLY_SCALED = 1e3
# A condition number of A beyond which small errors in the data decide what the solution is.
ILL_POSED = 1e6
LANCZOS_STEPS = 4
MOST_PRODUCTS = 10


@dataclass(frozen=True)
class RitzValue:
    """The smallest Ritz value of a few Lanczos steps: an eigenvalue lies at or below it.

    Args:
        value: The Ritz value.
        residual: Norm of its residual.
        num_products: What it cost.
    """

    value: float
    residual: float
    num_products: int


def lower_ritz_value(problem: QuadraticProblem[Any], start: Any, num_steps: int) -> RitzValue:
    """The smallest Ritz value from ``start``, a vector."""
    inner = problem.euclidean
    hessian = inner.hessian
    found = lanczos(
        lambda v: hessian @ v,
        start,
        num_steps,
        precondition=problem.precondition,
        reorthogonalise=False,
    )
    low, _, residual, _ = found.ends()
    return RitzValue(low, residual, inner.products_per_gradient * found.diagonal.size)


def null_space_floor(
    problem: QuadraticProblem[Any], x: Any, gradient: Any, upper: float
) -> FloatArray:
    """What no gradient can be below, as far as the one at ``x`` shows it; one product.

    For every y ``‖∇f(y)‖ ≥ gᴴ∇f(y)/‖g‖``, which at y = x is ‖g‖ and changes by at most
    ``‖Hg‖‖y − x‖/‖g‖``: where the Hessian maps the gradient g to 0, no y is better. The number is
    for every y no farther from x than x is from 0, and 0 unless ‖Hg‖ is small beside ``upper‖g‖``.
    """
    image, sizes = norms(problem.euclidean.product(gradient)), norms(gradient)
    with np.errstate(invalid="ignore", divide="ignore"):
        floor = sizes - image * norms(x) / sizes
    is_null = image <= math.sqrt(epsilon(gradient)) * upper * sizes
    return np.where(is_null & (floor > 0), floor, 0.0)


def diagnose(loop: Loop, problem: Problem[Any]) -> list[str]:
    """Sentences on what was found; products with it are booked.

    Args:
        loop: A run that has ended.
        problem: The problem as the user posed it.
    """
    if not isinstance(loop.whole, QuadraticProblem):
        return []
    most = loop.ledger.budgets.max_products
    if most is not None and most - loop.ledger.num_products < MOST_PRODUCTS:
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
        vector = from_host(self._random.standard_normal(length), self._like)
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
        declared = dtype_kind(getattr(operator, "dtype", None))
        if dtype_kind(image.dtype) == "c" and declared != "c":
            return (
                f"The operator declares the dtype {operator.dtype} and returns complex numbers, so "
                "that its adjoint was taken for its transpose; declare a complex dtype."
            )
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
        operator = getattr(posed, "operator", None)
        if not (is_numpy(operator) or hasattr(operator, "tocsr")) or operator is None:
            return None
        if self._loop.measure.is_scaled:
            return None
        squares = abs(operator) ** 2 if is_numpy(operator) else abs(operator).power(2)
        sizes = np.sqrt(np.asarray(squares.sum(axis=0)).ravel())
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
        x = best if best.ndim == 1 else best[int(np.argmax(loop.ledger.best_sizes))]
        one = (
            problem if best.ndim == 1 else problem.rows_of([int(np.argmax(loop.ledger.best_sizes))])
        )
        if one is None or not all_finite(x):
            return []
        gradient: Any = one.gradient(x if best.ndim == 1 else x[None])
        gradient = gradient if best.ndim == 1 else gradient[0]
        if not 0 < float(norms(gradient)[0]) < math.inf:
            return []
        hessian, basis = problem.hessian, list[Any]()
        cost = problem.products_per_gradient
        steps = max(1, (9 - self.num_products) // cost)
        found = lanczos(
            lambda v: hessian @ v,
            gradient,
            min(steps, LANCZOS_STEPS),
            reorthogonalise=False,
            basis=basis,
        )
        self.num_products += cost * (1 + found.diagonal.size)
        low, high, residual, _ = found.ends()
        upper = max(high, loop.measure.upper)
        bounds = loop.policy.bounds
        sentences = []
        if bounds is not None and high > bounds.upper * (1 + ROUNDING * epsilon(gradient)):
            sentences.append(
                f"The upper bound {bounds.upper:.6g} is too low: an eigenvalue lies at {high:.6g} "
                "or above, by Lanczos steps from the gradient."
            )
        rounding = ROUNDING * epsilon(gradient) * upper
        if abs(low) <= rounding and residual <= max(rounding, 1e-6 * upper):
            share = self._share_in_null_space(found, basis, gradient)
            if share > 0.5:
                sentences.append(
                    "The Hessian is singular and the right-hand side not in its range: "
                    f"{100 * share:.0f} % of the gradient that is left lies along a vector v with "
                    f"vᵀHv = {low:.2g}·vᵀv, where the largest eigenvalue is at least {upper:.3g}. "
                    "No x has a smaller gradient there; project the right-hand side, or add a "
                    "ridge."
                )
        reached = None if bounds is None else bounds.reached_lower
        lowest = min(value for value in (low, reached, math.inf) if value is not None)
        if not sentences and 0 < lowest < upper / ILL_POSED**2:
            sentences.append(
                f"The problem is ill-posed: the condition number of the Hessian is at least "
                f"{upper / lowest:.3g}. Take a ridge, or fourth-kind Chebyshev steps and an early "
                "end."
            )
        return sentences

    @staticmethod
    def _share_in_null_space(found: Any, basis: list[Any], gradient: Any) -> float:
        size = found.diagonal.size
        matrix = np.diag(found.diagonal)
        index = np.arange(size - 1)
        matrix[index, index + 1] = matrix[index + 1, index] = found.off_diagonal[: size - 1]
        _, vectors = np.linalg.eigh(matrix)
        weights = vectors[:, 0].tolist()
        vector = sum(weight * to_host(v) for weight, v in zip(weights, basis, strict=False))
        component = abs(np.vdot(vector, to_host(gradient)))
        return float(component / np.linalg.norm(to_host(gradient)) / np.linalg.norm(vector))
