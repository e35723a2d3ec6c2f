"""Tables and columns of pandas wherever arrays are taken: numbers by position, labels ignored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from stepfold import (
    LeastSquares,
    Quadratic,
    Schedule,
    SpectralMeasure,
    accelerate,
    estimate_bounds,
    lasso,
    solve,
)
from stepfold.interop.scipy import chebyshev, lsq_chebyshev
from stepfold.measure import exact_measure
from stepfold.problems import Preconditioned
from stepfold.problems.splittings import gauss_seidel, jacobi_iteration

pd = pytest.importorskip("pandas")

MATRIX = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 5.0]])
VECTOR = np.array([1.0, 2.0, 3.0])
# Labels that pandas' own arithmetic would align by, and find nothing in common.
TABLE = pd.DataFrame(MATRIX, index=list("cab"), columns=list("xyz"))
COLUMN = pd.Series(VECTOR, index=[7, 5, 6], name="b")

TAKERS = {
    "LeastSquares": lambda A, b: solve(LeastSquares(A, b)).x,
    "Quadratic": lambda A, b: solve(Quadratic(A, b)).x,
    "Quadratic, start": lambda A, b: solve(Quadratic(A, b), x0=b).x,
    "Preconditioned": lambda A, b: solve(Preconditioned(Quadratic(A, b), b)).x,
    "lasso": lambda A, b: solve(lasso(A, b, weight=0.1)).x,
    "accelerate": lambda _, b: accelerate(lambda x: x / 2 + 1, b).x,
    "gauss_seidel": lambda A, b: gauss_seidel(A, b).map(np.zeros(3)),
    "jacobi_iteration": lambda A, b: jacobi_iteration(A, b).map(np.zeros(3)),
    "chebyshev": lambda A, b: chebyshev(A, b, b)[0],
    "lsq_chebyshev": lambda A, b: lsq_chebyshev(A, b, x0=b).x,
    "exact_measure": lambda A, _: exact_measure(A).nodes,
    "estimate_bounds": lambda A, _: estimate_bounds(A).upper,
    "Schedule": lambda _, b: Schedule(b).steps,
    "SpectralMeasure": lambda _, b: SpectralMeasure(b, b / 6).weights,
}


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("dtype", ["float64", "Float64", "int64", "mixed"])
def test_pandas_objects_give_what_their_numbers_give(taker: str, dtype: str) -> None:
    if dtype == "mixed":
        table, column = TABLE.astype({"x": "int32", "y": "Float64"}), COLUMN.astype("Int64")
    else:
        table, column = TABLE.astype(dtype), COLUMN.astype(dtype)
    found: Any = TAKERS[taker](table, column)
    assert not isinstance(found, pd.Series)
    np.testing.assert_allclose(found, TAKERS[taker](MATRIX, VECTOR), rtol=1e-12)


def test_a_table_and_an_array_go_together() -> None:
    expected = np.linalg.solve(MATRIX, VECTOR)
    np.testing.assert_allclose(solve(Quadratic(TABLE, VECTOR)).x, expected, rtol=1e-7)
    np.testing.assert_allclose(solve(Quadratic(MATRIX, COLUMN)).x, expected, rtol=1e-7)


def test_a_table_of_right_hand_sides_is_one_a_row() -> None:
    problem = Quadratic(MATRIX, pd.DataFrame([VECTOR, 2 * VECTOR], index=[9, 9]))
    np.testing.assert_allclose(problem.rhs, [VECTOR, 2 * VECTOR])


def test_a_sparse_table_stays_sparse() -> None:
    table = pd.DataFrame.sparse.from_spmatrix(sp.csr_array(MATRIX))
    problem = Quadratic(table, COLUMN)
    assert isinstance(problem.hessian, sp.csr_array)
    np.testing.assert_allclose(problem.hessian.toarray(), MATRIX)


def test_a_missing_number_is_refused_by_its_place() -> None:
    missing = pd.Series([1.0, None, 3.0], dtype="Float64")
    with pytest.raises(ValueError, match=r"`rhs` must be finite, got nan at index 1"):
        Quadratic(MATRIX, missing)


@pytest.mark.parametrize("words", [["1", "2", "3"], pd.to_datetime(["2020", "2021", "2022"])])
def test_a_column_without_numbers_is_refused_by_its_label(words: Any) -> None:
    table = TABLE.assign(y=list(words))
    with pytest.raises(TypeError, match=r"`hessian` must hold numbers, got .* in column 'y'"):
        Quadratic(table, VECTOR)
