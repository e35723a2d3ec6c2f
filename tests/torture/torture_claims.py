"""Sentences of an advice, and whether what each of them says is true of the case."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from torture_problems import Case, extremes

from stepfold import Result

NUMBER = r"(-?[\d.]+(?:e[+-]?\d+)?|inf|nan)"


class Truth:
    """What is known of a case beside its flaws; computed when asked for."""

    def __init__(self, made: Case, oracle: Any, result: Result[Any]) -> None:
        self.made, self.oracle, self.result = made, oracle, result
        self._ends: tuple[float, float] | None = None

    @property
    def low(self) -> float:
        """Smallest eigenvalue, with what rounding may take from it taken from it."""
        low, high = self._extremes()
        return low - self._slack * abs(high)

    @property
    def high(self) -> float:
        """Largest eigenvalue, with rounding: of Ritz values four digits are relied upon."""
        return self._extremes()[1] * (1 + self._slack + 1e-4)

    @property
    def _slack(self) -> float:
        # Rayleigh quotients, and the eigenvalues here, are computed in the dtype of the data; the
        # numbers in a sentence have three to six digits.
        return 1e3 * self.made.size * float(np.finfo(self.made.rhs.dtype).eps)

    def _extremes(self) -> tuple[float, float]:
        if self._ends is None:
            self._ends = extremes(self.made)
        return self._ends


def _columns(truth: Truth, factor: float) -> bool:
    matrix = truth.oracle.matrix
    sizes = np.sqrt((np.abs(matrix) ** 2).sum(0))
    sizes = sizes[sizes > 0]
    return bool(sizes.max() / sizes.min() >= factor * 0.98)


def _condition(truth: Truth, at_least: float) -> bool:
    if "indefinite" in truth.made.flaws:
        return False  # it is said of definite ones
    return truth.low * at_least <= truth.high * 1.02


def _in_null_space(truth: Truth, part: float, left: float) -> bool:
    """Whether the part of the gradient along null vectors of the Hessian is of that size."""
    matrix = truth.made.matrix
    dense = matrix.toarray() if sp.issparse(matrix) else matrix
    values, vectors = np.linalg.eigh(dense / (np.abs(dense).max() or 1))
    null = np.abs(values) <= 1e3 * dense.shape[0] * np.finfo(dense.dtype).eps
    if not null.any():
        return False
    x, place = worst_row(truth)
    gradient = truth.oracle.gradient(x, truth.oracle.row(place))
    found = float(np.linalg.norm((vectors[:, null].conj().T @ gradient).astype(np.complex128)))
    return found >= 0.2 * part


def worst_row(truth: Truth) -> tuple[Any, int | None]:
    """The row of the result that came least far."""
    x = truth.result.x
    if np.asarray(x).ndim == 1:
        return x, None
    sizes = np.asarray(truth.result.gradient_norm)
    place = int(np.argmax(np.where(np.isfinite(sizes), sizes, np.inf)))
    return x[place], place


def _flaw(name: str) -> Callable[..., bool]:
    return lambda truth, *numbers: name in truth.made.flaws


def _below(truth: Truth, *numbers: float) -> bool:
    """An eigenvalue lies at the last number or below."""
    return truth.low <= numbers[-1] + 6e-3 * abs(numbers[-1])  # some have three digits


def _beyond(truth: Truth, *numbers: float) -> bool:
    """An eigenvalue lies at the last number or above."""
    return truth.high >= numbers[-1] * (1 - 1e-3)


# What a sentence looks like, and what makes it true. Every sentence must be one of these.
CLAIMS: list[tuple[str, Callable[..., bool]]] = [
    ("product of the operator with a finite vector is not finite", _flaw("NaN")),
    ("declares the dtype .* and returns complex", lambda truth: False),
    ("The adjoint of the operator is wrong", _flaw("wrong adjoint")),
    ("The Hessian is not symmetric", _flaw("asymmetric")),
    (f"columns of the operator are badly scaled.*factor of {NUMBER}", _columns),
    (f"The upper bound {NUMBER} is too low: an eigenvalue lies at {NUMBER}", _beyond),
    (f"The upper bound was wrong, an eigenvalue lies at {NUMBER} or above", _beyond),
    (f"The lower bound was wrong, an eigenvalue lies at {NUMBER} or below", _below),
    (f"The lower bound {NUMBER} is too high, an eigenvalue lies at {NUMBER}", _below),
    (f"The lower bound {NUMBER} is refuted by an eigenvalue at {NUMBER}", _below),
    (f"singular or indefinite, a Rayleigh quotient is {NUMBER}:", _below),
    (f"The Hessian is indefinite: a direction p has pᵀHp/pᵀp = {NUMBER},", _below),
    (f"not in its range: a part of norm {NUMBER} of the gradient that is left, {NUMBER},",
     _in_null_space),
    (f"condition number of the Hessian is at least {NUMBER}", _condition),
    ("The budget has no room for a period", lambda truth: truth.result.num_steps == 0),
    # These two name two or more causes and claim none of them.
    ("The last period changed the gradient norm by the factor", lambda truth, *n: True),
    ("No evaluation of the last .* came closer", lambda truth, *n: True),
    ("The duality gap came down to", lambda truth, *n: True),  # checked as a certificate
]  # fmt: skip


def judged(truth: Truth) -> list[tuple[str, bool]]:
    """Each cause that the result names, and whether it is true."""
    found = []
    for sentence in (*map(str, truth.result.events), *truth.result.notes):
        for pattern, holds in CLAIMS:
            match = re.search(pattern, sentence)
            if match:
                numbers = [float(number) for number in match.groups()]
                found.append((sentence, holds(truth, *numbers)))
                break
        else:
            found.append((f"unknown to the test: {sentence}", True))
    return found
