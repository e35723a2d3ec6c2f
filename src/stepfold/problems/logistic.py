"""Logistic regression ``Σ log(1 + exp(−yᵢ aᵢᵀx)) + ½μ‖x‖²``: its gradient is not affine.

The second derivative of the logistic loss is at most 1/4, its value at 0, so the Hessian
``AᵀA/4 + μI`` at 0 bounds those at all other points: steps up to 1/b for its upper bound b never
let the objective grow.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any, Self

from stepfold._arrays import namespace, sigmoid, take
from stepfold._checks import check_matrix, check_nonnegative
from stepfold._typing import ArrayT, Operator
from stepfold.operators import adjoint_of, apply, check_adjoint, column_squares
from stepfold.problems.base import Problem, check_library, check_rows
from stepfold.spectrum import BoundsMethod, Gram, SpectralBounds, estimate_bounds


class Logistic(Problem[ArrayT]):
    """Minimise ``Σ log(1 + exp(−yᵢ aᵢᵀx)) + ½μ‖x‖²``.

    Its `hessian` is the one at 0. An upper bound of that holds everywhere, a lower one does not
    (away from 0 only μ is certain), so take steps that need no lower bound. There is no intercept:
    append a column of ones to A for it.

    Args:
        operator: A, of shape (m, n), one row per sample; what `LeastSquares` takes.
        labels: y, each −1 or 1, of shape (m,), or (batch, m) for as many problems with the same A.
        ridge: μ, at least 0.

    Raises:
        TypeError: If an argument is not a matrix, or not of real numbers.
        ValueError: If shapes do not fit, a label is not −1 or 1, or ``ridge`` is negative.

    >>> problem = Logistic(np.array([[1.0], [2.0]]), np.array([1.0, -1.0]))
    >>> problem.gradient(np.zeros(1))
    array([0.5])
    """

    def __init__(self, operator: Operator, labels: ArrayT, *, ridge: float = 0.0) -> None:
        self.operator: Any = check_matrix("operator", operator, rows=labels)
        rows = check_rows("labels", labels, self.operator.shape[0], "the rows of `operator`")
        check_library("labels", rows, "`operator`", self.operator)
        if not bool(namespace(rows).all(abs(rows) == 1)):
            raise ValueError(
                "`labels` must be -1 or 1, got another value; turn labels 0 and 1 into "
                "`2 * labels - 1`"
            )
        self.labels: Any = rows
        self.ridge = float(check_nonnegative("ridge", ridge))
        check_adjoint(self.operator, rows)
        self._adjoint = adjoint_of(self.operator)
        self._hessian: Gram | None = None

    @property
    def hessian(self) -> Gram:
        """``AᵀA/4 + μI``, the Hessian at 0 and an upper bound of every other."""
        if self._hessian is None:
            self._hessian = Gram.of_checked(0.5 * self.operator, self.ridge)
        return self._hessian

    @functools.cached_property
    def curvature_bound(self) -> float:
        """Upper bound of the eigenvalues of `hessian`."""
        return self.own_bounds(None, 0).upper

    def own_bounds(self, method: BoundsMethod | None, seed: int) -> SpectralBounds:
        """Bounds of the Hessian at 0: what `estimate_bounds` returns. The lower one holds there."""
        return estimate_bounds(self.hessian, method=method, seed=seed)

    @property
    def zero(self) -> ArrayT:
        """The point 0."""
        term: Any = self.adjoint_product(self.labels)
        zero: ArrayT = 0 * term
        return zero

    def value(self, x: ArrayT) -> Any:
        """``Σ log(1 + exp(−yᵢ aᵢᵀx)) + ½μ‖x‖²``, one number or one per row."""
        rows: Any = x
        value = softplus(-self.margins(x)).sum(-1)
        return value + self.ridge / 2 * (rows * rows).sum(-1) if self.ridge else value

    def column_squares(self) -> Any:
        """Squared norms of the columns of A, and the ridge; None where entries are not known."""
        squares = column_squares(self.operator)
        return None if squares is None else squares + self.ridge

    def rows_of(self, places: Sequence[int]) -> Self:
        """The problem of some rows of labels."""
        twin = copy.copy(self)
        twin.labels = take(self.labels, places)
        return twin

    @property
    def products_per_gradient(self) -> int:
        """2: one with A, one with its transpose."""
        return 2

    def gradient(self, x: ArrayT) -> ArrayT:
        """``−Σ yᵢ aᵢ/(1 + exp(yᵢ aᵢᵀx)) + μx``."""
        gradient: Any = self.adjoint_product(self.slopes(self.margins(x)))
        total: ArrayT = gradient + self.ridge * x if self.ridge else gradient
        return total

    def adjoint_product(self, rows: Any) -> Any:
        """``Aᵀv`` for a vector v of length m or for each row of a batch."""
        return apply(self._adjoint, rows)

    def margins(self, x: ArrayT) -> Any:
        """``yᵢ aᵢᵀx``, shape (m,) or (batch, m): positive where the label is predicted."""
        return self.labels * apply(self.operator, x)

    def slopes(self, margins: Any) -> Any:
        """Derivatives of the loss by ``aᵢᵀx``: ``−yᵢ/(1 + exp(marginᵢ))``."""
        return -self.labels * sigmoid(-margins)


def softplus(t: Any) -> Any:
    """``log(1 + exp(t))``, without overflow."""
    return namespace(t).logaddexp(0 * t, t)
