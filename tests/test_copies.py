"""Problems, maps and records survive pickle and deep copies: same numbers, still read-only."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from stepfold import (
    LeastSquares,
    Quadratic,
    SpectralBounds,
    chebyshev_steps,
    lasso,
    plan,
    solve,
)
from stepfold.interop.scipy import as_preconditioner
from stepfold.measure import exact_measure
from stepfold.problems import Preconditioned
from stepfold.problems.out_of_core import BlockedLeastSquares
from stepfold.problems.splittings import gauss_seidel, jacobi_iteration, sor

A = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 5.0]])
B = np.array([1.0, 2.0, 3.0])
X = np.array([0.3, -0.1, 0.7])
SCHEDULE = chebyshev_steps(SpectralBounds(2.0, 6.0), 4)
COPIES = {"pickle": lambda item: pickle.loads(pickle.dumps(item)), "deepcopy": copy.deepcopy}

# How to make each, and a number or an array that it answers with.
ITEMS: dict[str, tuple[Any, Any]] = {
    "Quadratic": (lambda: Quadratic(sp.csr_array(A), B), lambda p: p.gradient(X)),
    "LeastSquares": (lambda: LeastSquares(A, B), lambda p: p.gradient(X)),
    "Preconditioned": (lambda: Preconditioned(Quadratic(A, B), B), lambda p: p.gradient(X)),
    "BlockedLeastSquares": (lambda: BlockedLeastSquares(A, B), lambda p: p.gradient(X)),
    "lasso": (lambda: lasso(A, B, weight=0.1), lambda p: solve(p).x),
    "jacobi_iteration": (lambda: jacobi_iteration(A, B), lambda p: p.map(X)),
    "gauss_seidel": (lambda: gauss_seidel(sp.csr_array(A), B), lambda p: p.map(X)),
    "sor": (lambda: sor(A, B, 1.2, symmetric=True), lambda p: p.map(X)),
    "as_preconditioner": (lambda: as_preconditioner(A, SCHEDULE), lambda m: m @ X),
    "Schedule": (lambda: SCHEDULE, lambda s: s.steps),
    "SpectralMeasure": (lambda: exact_measure(A), lambda m: m.nodes),
    "Result": (lambda: solve(Quadratic(A, B)), lambda r: r.x),
    "Plan": (lambda: plan(Quadratic(A, B)), lambda p: p.schedule.steps),
}


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("name", ITEMS)
def test_a_copy_answers_with_the_same_numbers(name: str, copied: str) -> None:
    make, ask = ITEMS[name]
    item = make()
    before = ask(item)  # what it keeps from being asked is copied, too
    np.testing.assert_array_equal(ask(COPIES[copied](item)), before)


@pytest.mark.parametrize("copied", COPIES)
def test_arrays_of_copied_records_stay_read_only(copied: str) -> None:
    measure, schedule = COPIES[copied](exact_measure(A)), COPIES[copied](SCHEDULE)
    assert not measure.nodes.flags.writeable
    assert not measure.weights.flags.writeable
    assert not schedule.steps.flags.writeable
