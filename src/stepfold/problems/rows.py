"""Some rows of a batch, as a problem of their own that shares the operator.

Rows that have converged are taken out of the sweep; a family of problems that can do so says how
by registering with `take_rows`.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

from stepfold.problems.base import Problem
from stepfold.problems.logistic import Logistic
from stepfold.problems.quadratic import LeastSquares, Quadratic


@functools.singledispatch
def take_rows(problem: Problem[Any], rows: Sequence[int]) -> Problem[Any] | None:
    """Return the problem of some rows of the batch; None if the family cannot be cut.

    Args:
        problem: A problem with a batch of right-hand sides.
        rows: Indices to keep, ascending.

    >>> problem = Quadratic(np.eye(2), np.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> take_rows(problem, [1]).linear_term
    array([[3., 4.]])
    """
    del problem, rows
    return None


@take_rows.register(LeastSquares)
@take_rows.register(Quadratic)
def _take_rhs(problem: Any, rows: Sequence[int]) -> Any:
    return with_rhs(problem, problem.rhs[list(rows)])


@take_rows.register(Logistic)
def _take_labels(problem: Any, rows: Sequence[int]) -> Any:
    twin = copy.copy(problem)
    twin.labels = problem.labels[list(rows)]
    return twin


def with_rhs(problem: Any, rhs: Any) -> Any:
    """Return a twin of the problem with another right-hand side: nothing is checked or converted.

    A shallow copy: constructors look at every entry of the operator, which would cost as much as a
    product each time.
    """
    twin = copy.copy(problem)
    twin.rhs = rhs
    twin.choose_kernel()  # the old one holds the old right-hand side
    return twin
