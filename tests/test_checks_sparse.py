"""Sparse arrays that point outside themselves: refused before a product ends the process."""

from __future__ import annotations

from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg
import torch

from stepfold import LeastSquares, Quadratic, estimate_bounds, lasso
from stepfold.interop.scipy import chebyshev, lsq_chebyshev
from stepfold.operators import check_indices
from stepfold.problems.splittings import jacobi_iteration

pytestmark = pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta")
RNG = np.random.default_rng(3)
DENSE = RNG.standard_normal((12, 12)) * (RNG.random((12, 12)) < 0.4) + 9 * np.eye(12)
FORMATS = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
ENTRIES = {
    "LeastSquares": lambda matrix: LeastSquares(matrix, np.ones(12)),
    "Quadratic": lambda matrix: Quadratic(matrix, np.ones(12)),
    "lasso": lambda matrix: lasso(matrix, np.ones(12), weight=1.0),
    "estimate_bounds": estimate_bounds,
    "jacobi_iteration": lambda matrix: jacobi_iteration(matrix, np.ones(12)),
    "chebyshev": lambda matrix: chebyshev(matrix, np.ones(12)),
    "lsq_chebyshev": lambda matrix: lsq_chebyshev(matrix, np.ones(12)),
}


def _array(form: str) -> Any:
    return (
        sp.bsr_array(DENSE, blocksize=(3, 2))
        if form == "bsr"
        else sp.coo_array(DENSE).asformat(form)
    )


@pytest.mark.parametrize("form", FORMATS)
def test_sound_arrays_of_every_format_pass(form: str) -> None:
    check_indices("A", _array(form))
    check_indices("A", _array(form).T)


@pytest.mark.parametrize("form", ["csr", "csc", "bsr", "coo"])
@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (4, 0), (4, 6)])
def test_arrays_without_entries_pass(form: str, shape: tuple[int, int]) -> None:
    check_indices("A", sp.csr_array(shape).asformat(form))


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize("wrong", [12, -1, 2**31 - 1, -(2**31)])
def test_indices_outside_are_refused_wherever_a_matrix_enters(
    entry: str, form: str, wrong: int
) -> None:
    matrix = _array(form)
    matrix.indices[7] = wrong
    with pytest.raises(ValueError, match=rf"indices` must lie between 0 and 11, got {wrong}"):
        ENTRIES[entry](matrix)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("form", ["csr", "csc", "bsr"])
def test_pointers_that_fall_are_refused_wherever_a_matrix_enters(entry: str, form: str) -> None:
    matrix = _array(form)
    matrix.indptr[2] = matrix.indptr[-1] + 10**6
    with pytest.raises(ValueError, match=r"indptr` must begin with 0 and never fall"):
        ENTRIES[entry](matrix)


@pytest.mark.parametrize(
    ("index", "value", "words"),
    [
        (0, 1, "begin with 0"),
        (0, -3, "begin with 0"),
        (-1, 10**6, "end with the number of entries stored"),
    ],
)
def test_pointers_beyond_the_entries_are_refused(index: int, value: int, words: str) -> None:
    matrix = _array("csr")
    matrix.indptr[index] = value
    with pytest.raises(ValueError, match=words):
        check_indices("A", matrix)


@pytest.mark.parametrize("part", ["indices", "data", "indptr"])
def test_arrays_whose_parts_were_cut_short_are_refused(part: str) -> None:
    matrix = _array("csr")
    setattr(matrix, part, getattr(matrix, part)[:-2])
    with pytest.raises(ValueError, match=r"`A.indptr` must"):
        check_indices("A", matrix)


def test_blocks_that_do_not_fill_the_shape_are_refused() -> None:
    blocks = (np.ones((2, 2, 3)), np.array([0, 1]), np.array([0, 1, 2]))
    matrix = sp.bsr_array(blocks, shape=(4, 6))
    matrix._shape = (5, 7)
    with pytest.raises(
        ValueError, match=r"multiple of its blocks, got shape \(5, 7\) with .* 2 by 3"
    ):
        check_indices("A", matrix)


@pytest.mark.parametrize("axis", ["row", "col"])
@pytest.mark.parametrize("wrong", [12, -13, 10**9])
def test_coordinates_outside_are_refused(axis: str, wrong: int) -> None:
    matrix = _array("coo")
    getattr(matrix, axis)[4] = wrong
    with pytest.raises(ValueError, match=rf"`A.{axis}` must lie between 0 and 11, got {wrong}"):
        check_indices("A", matrix)


def test_indices_of_64_bits_are_looked_at_too() -> None:
    matrix = _array("csr")
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    check_indices("A", matrix)
    matrix.indices[3] = 2**40
    with pytest.raises(ValueError, match="got 1099511627776"):
        check_indices("A", matrix)


LAYOUTS = {
    "coo": torch.Tensor.to_sparse_coo,
    "csr": torch.Tensor.to_sparse_csr,
    "csc": torch.Tensor.to_sparse_csc,
    "bsr": lambda dense: dense.to_sparse_bsr((3, 2)),
    "bsc": lambda dense: dense.to_sparse_bsc((3, 2)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sound_tensors_of_every_layout_pass(layout: str) -> None:
    check_indices("A", LAYOUTS[layout](torch.tensor(DENSE)))


@pytest.mark.parametrize("wrong", [-1, 10**9])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_tensors_that_point_outside_are_refused(layout: str, wrong: int) -> None:
    tensor = LAYOUTS[layout](torch.tensor(DENSE))
    by_rows = layout in ("csr", "bsr")
    if layout == "coo":
        tensor._indices()[1, 4] = wrong
    else:
        (tensor.col_indices() if by_rows else tensor.row_indices())[4] = wrong
    with pytest.raises(ValueError, match=rf"`hessian.*indices.* must lie between .*, got {wrong}"):
        Quadratic(tensor, torch.ones(12, dtype=torch.float64))


@pytest.mark.parametrize("layout", ["csr", "csc", "bsr", "bsc"])
def test_tensors_whose_pointers_fall_are_refused(layout: str) -> None:
    tensor = LAYOUTS[layout](torch.tensor(DENSE))
    by_rows = layout in ("csr", "bsr")
    (tensor.crow_indices() if by_rows else tensor.ccol_indices())[1] = 10**9
    with pytest.raises(ValueError, match=r"must begin with 0 and never fall"):
        LeastSquares(tensor, torch.ones(12, dtype=torch.float64))


@pytest.mark.parametrize("depth", range(4))
def test_operators_of_scipy_are_looked_into(depth: int) -> None:
    matrix = _array("csr")
    operator = scipy.sparse.linalg.aslinearoperator(matrix)
    for _ in range(depth):
        operator = 2.0 * operator.H + operator
    check_indices("A", operator)
    matrix.indices[5] = 10**9
    with pytest.raises(ValueError, match=r"`hessian.indices` must lie between 0 and 11"):
        Quadratic(operator, np.ones(12))


def _first_wrong(pointers: Any, indices: Any, stored: int) -> bool:
    """Whether a loop over rows, written out, would leave its arrays."""
    for row in range(12):
        for place in range(int(pointers[row]), int(pointers[row + 1])):
            if not (0 <= place < stored and 0 <= indices[place] < 12):
                return True
    return bool(pointers[0] != 0 or (np.diff(pointers) < 0).any())


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=200, deadline=None, derandomize=True)
def test_what_a_loop_over_rows_would_leave_is_refused_and_all_else_is_solved(data) -> None:
    matrix = _array(data.draw(st.sampled_from(["csr", "csc"])))
    for _ in range(data.draw(st.integers(1, 3))):
        part = getattr(matrix, data.draw(st.sampled_from(["indices", "indptr"])))
        wild = st.one_of(st.integers(-2, 14), st.integers(-(2**31), 2**31 - 1))
        part[data.draw(st.integers(0, part.size - 1))] = data.draw(wild)
    stored = matrix.data.size
    # Written out, a row that ends at 2**31 would take minutes; it has left its arrays long before.
    pointers = np.clip(matrix.indptr.astype(np.int64), -1, stored + 1)
    if _first_wrong(pointers, matrix.indices, stored):
        with pytest.raises(ValueError, match=r"`operator.(indices|indptr)` must"):
            LeastSquares(matrix, np.ones(12))
    else:
        problem = LeastSquares(matrix, np.ones(12))
        assert np.isfinite(problem.gradient(np.ones(12))).all()
