"""Other methods for the same problem, what they take, and when they are better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from stepfold._codec import JsonRecord
from stepfold.polynomial import constant_rate, first_order_lower_bound, num_steps_to
from stepfold.problems import LeastSquares, QuadraticProblem
from stepfold.spectrum import SpectralBounds


@dataclass(frozen=True)
class Alternative(JsonRecord):
    """Another method for the same problem.

    Args:
        name: The method.
        num_products: Products with the operator or its transpose to the tolerance, in the worst
            case; infinite where it is not known to get there, None where it makes none.
        comment: When it is the better choice.
    """

    name: str
    num_products: float | None
    comment: str

    @property
    def texts(self) -> tuple[str, str, str]:
        """The three fields as text, for tables."""
        count = "none" if self.num_products is None else in_words(self.num_products)
        return self.name, count, self.comment


def in_words(number: float) -> str:
    """A number of products; "no bound" where it is infinite.

    >>> in_words(12.0), in_words(math.inf)
    ('12', 'no bound')
    """
    return f"{number:.0f}" if math.isfinite(number) else "no bound"


def alternatives(
    problem: QuadraticProblem[Any] | None, bounds: SpectralBounds, rtol: float, total: float
) -> list[Alternative]:
    """Other methods; ``total`` is the number of our steps."""
    per_step = 1 if problem is None else problem.products_per_gradient
    lower_bound = first_order_lower_bound(bounds) if bounds.lower > 0 else 1.0
    krylov = "LSMR" if isinstance(problem, LeastSquares) else "MINRES or conjugate gradients"
    # MINRES and LSMR minimise the gradient norm, which is then at most 2·rateᵏ of its start.
    # Conjugate gradients minimise another norm; at κ = 1e4 and rtol = 0.1 they took a quarter more.
    but = "" if krylov == "LSMR" else " (a little more for conjugate gradients)"
    krylov_steps = num_steps_to(rtol / 2 or rtol, lower_bound)
    constant_steps_needed = num_steps_to(rtol, constant_rate(bounds)) if bounds.lower else math.inf
    rows = [
        Alternative(
            "constant step 2/(a + b)",
            per_step * constant_steps_needed,
            "not recommended if the bounds are reliable",
        ),
        Alternative(
            krylov,
            per_step * krylov_steps,
            "one right-hand side, and inner products are cheap: at most as many products in the "
            f"worst case{but}, far fewer for clustered eigenvalues, and no bounds are needed",
        ),
    ]
    if isinstance(problem, LeastSquares):
        rows.append(
            Alternative(
                "coordinate descent",
                None,
                "columns are cheap to reach and few of them matter: a sparse A, a lasso penalty",
            )
        )
    direct = _direct(problem, total)
    return [*rows, *([direct] if direct else [])]


def _direct(problem: QuadraticProblem[Any] | None, total: float) -> Alternative | None:
    if problem is None:
        return None
    operator: Any = problem.operator if isinstance(problem, LeastSquares) else problem.hessian
    num_rows, num_columns = operator.shape
    smaller, larger = sorted((num_rows, num_columns))
    if hasattr(operator, "tocsr"):
        if isinstance(problem, LeastSquares):
            return None
        return Alternative(
            "sparse factorisation", None, "its fill fits in memory (problems in the plane)"
        )
    if not hasattr(operator, "__array__"):
        return None
    if isinstance(problem, LeastSquares):
        # Householder QR takes 2mn² operations, a gradient 4mn.
        steps = smaller / 2
        name = "QR (numpy.linalg.lstsq)"
    else:
        # Cholesky takes n³/3 operations, a product 2n².
        steps = larger / 6
        name = "Cholesky (scipy.linalg.solve)"
    verdict = "" if steps < total else "; better only if you need more"
    return Alternative(name, None, f"costs as much as about {steps:.0f} steps{verdict}")
