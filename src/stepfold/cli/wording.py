"""Advice and errors of the library in the words of the command line."""

from __future__ import annotations

import re

OPTIONS = {
    "atol": "--atol",
    "bounds": "--lower and --upper",
    "bounds.lower": "--lower",
    "bounds.upper": "--upper",
    "error_rtol": "--error-rtol",
    "gap_rtol": "--gap",
    "max_products": "--max-products",
    "max_seconds": "--max-seconds",
    "max_steps": "--max-steps",
    "noise": "--noise",
    "period": "--period",
    "ratio": "--ratio",
    "ridge": "--ridge",
    "rtol": "--rtol",
    "schedule": "--schedule",
    "weight": "--weight",
    "x0": "--x0",
    "LeastSquares(matrix, rhs)": "--kind least-squares",
    "hessian": "MATRIX",
    "matrix": "MATRIX",
    "operator": "MATRIX",
    "problem.rhs": "RHS",
    "rhs": "RHS",
}


def in_options(text: str) -> str:
    """Names of arguments in backticks as the options that stand for them.

    >>> in_options("raise `max_steps`, or take `jacobi_preconditioner`")
    'raise --max-steps, or take `jacobi_preconditioner`'
    """
    return re.sub(r"`([^`]+)`", lambda match: OPTIONS.get(match[1], match[0]), text)
