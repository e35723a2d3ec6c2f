"""What a run starts from: a start that fits, and data that no derivative is taken of."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from stepfold.problems import Quadratic
from stepfold.problems.base import check_library, check_rows


def check_start(x0: Any, linear_term: Any) -> Any:
    """Return the start ready for arithmetic, of the shape and the library of the linear term."""
    x0 = check_rows("x0", x0, linear_term.shape[-1], "the problem")
    check_library("x0", x0, "the data of the problem", linear_term)
    if x0.shape != linear_term.shape:
        raise ValueError(
            f"`x0` must have the shape of the solution, {tuple(linear_term.shape)}, "
            f"got {tuple(x0.shape)}"
        )
    return x0


def linear_term_of(problem: Any) -> Any:
    """The linear term of a problem or of a composite objective, which must be finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        term = problem.linear_term
        finite = abs(term).max() < math.inf  # not where it is NaN
    if not bool(finite):
        raise ValueError(
            f"`problem` must have a finite gradient at 0, got one that overflows {term.dtype}; "
            "divide its matrix and its right-hand side by their norms"
        )
    return term


def check_untracked(problem: Any, linear_term: Any, x0: Any) -> None:
    """Raise if torch would record every step for derivatives, and keep all iterates for that."""
    if isinstance(problem, Quadratic):
        operator: Any = problem.hessian
    else:
        operator = getattr(problem, "operator", None)
    for name, values in (("x0", x0), ("problem", operator), ("problem", linear_term)):
        if getattr(values, "requires_grad", False) and sys.modules["torch"].is_grad_enabled():
            raise ValueError(
                f"`{name}` must hold no tensor that requires derivatives, got "
                "requires_grad=True: every step would be recorded; pass `tensor.detach()`, call "
                "under `torch.no_grad()`, or differentiate steps with `stepfold.unfolded`"
            )
