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
    "chebyshev_steps(bounds, period, kind=4)": "--method chebyshev-fourth-kind",
    "hessian": "MATRIX",
    "matrix": "MATRIX",
    "operator": "MATRIX",
    "problem.rhs": "RHS",
    "rhs": "RHS",
}


PHRASES = {
    "Take a ridge": "Take --ridge auto",
    "or add a ridge.": "or add one by --ridge.",
}


def in_options(text: str) -> str:
    """Names of arguments in backticks as the options that stand for them.

    >>> in_options("raise `max_steps`, or take `jacobi_preconditioner`")
    'raise --max-steps, or take `jacobi_preconditioner`'
    >>> in_options("`chebyshev_steps` needs `bounds.lower > 0`")
    '`chebyshev_steps` needs --lower > 0'
    """

    def option(match: re.Match[str]) -> str:
        name = OPTIONS.get(match[1])
        return match[0] if name is None else name + (match[2] or "")

    for phrase, words in PHRASES.items():
        text = text.replace(phrase, words)
    return re.sub(r"`([^`]+?)( [<>]=? [^`]*)?`", option, text)
