"""Checks let good arguments through unchanged and name what is wrong with bad ones."""

import re
from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from stepfold._checks import (
    check_count,
    check_depth,
    check_finite,
    check_matrix,
    check_numbers,
    check_period,
    check_vector,
)

HOLES = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, np.inf], [0.0, np.nan, 3.0]])
LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "coo": lambda dense: dense.to_sparse(),
    "csr": lambda dense: dense.to_sparse_csr(),
    "csc": lambda dense: dense.to_sparse_csc(),
    "bsr": lambda dense: dense.to_sparse_bsr((1, 1)),
}


@pytest.mark.parametrize("value", [3, np.int32(3), np.uint8(3), np.array(3)])
def test_any_integer_is_a_count(value: object) -> None:
    count = check_count("num_steps", value)
    assert count == 3
    assert type(count) is int


@pytest.mark.parametrize("value", [2.0, "3", None, np.float64(3), [3], 1e300])
def test_what_is_no_integer_is_no_count(value: object) -> None:
    with pytest.raises(TypeError, match=r"`num_steps` must be an integer, got "):
        check_count("num_steps", value)


@pytest.mark.parametrize("value", [0, -1, np.int64(0), True, False])
def test_counts_below_the_minimum_and_booleans_are_refused(value: int) -> None:
    with pytest.raises(ValueError, match=r"`num_steps` must be an integer of at least 1, got "):
        check_count("num_steps", value)


@pytest.mark.parametrize("check", [check_period, check_depth])
@pytest.mark.parametrize("value", [10**8, 10**12, 10**5000], ids=["8", "12", "5000"])
def test_a_count_that_no_memory_holds_is_refused_at_once(
    check: Callable[[int], int], value: int
) -> None:
    with pytest.raises(ValueError, match=r"must be at most [0-9,]+, got .{1,80}; take"):
        check(value)


def test_the_value_in_a_message_is_short() -> None:
    with pytest.raises(TypeError, match=r"^`num_steps` must be an integer, got .{1,100}$"):
        check_count("num_steps", list(range(10_000)))


def test_zero_is_a_count_where_the_minimum_is_zero() -> None:
    assert check_count("max_steps", 0, minimum=0) == 0


@pytest.mark.parametrize(
    "values",
    [[1, 2], (1.0, 2.0), range(1, 3), np.array([1, 2], np.uint8), np.array([1, 2], np.float16)],
)
def test_vectors_of_any_real_kind_become_float64(values: object) -> None:
    vector = check_vector("steps", values)
    assert vector.dtype == np.float64
    assert vector.tolist() == [1.0, 2.0]


def test_a_checked_vector_is_a_copy() -> None:
    values = np.array([1.0, 2.0])
    assert not np.shares_memory(check_vector("steps", values), values)


@pytest.mark.parametrize("values", [["a"], [1j], [None], [2**100], [object()]])
def test_vectors_that_are_not_real_are_refused(values: object) -> None:
    with pytest.raises(TypeError, match=r"`steps` must hold real numbers, got dtype "):
        check_vector("steps", values)


@pytest.mark.parametrize(
    ("values", "shape"),
    [([], "(0,)"), (1.0, "()"), ([[1.0]], "(1, 1)"), (np.ones((2, 0)), "(2, 0")],
)
def test_vectors_of_another_shape_are_refused(values: object, shape: str) -> None:
    message = "`steps` must be a one-dimensional array of at least one number, got shape " + shape
    with pytest.raises(ValueError, match=re.escape(message)):
        check_vector("steps", values)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_entry_that_is_not_finite_is_named(value: float) -> None:
    with pytest.raises(ValueError, match=rf"`x` must be finite, got {value} at index 1; remove"):
        check_finite("x", np.array([1.0, value, np.nan]))


def test_the_place_in_a_matrix_is_a_pair() -> None:
    with pytest.raises(ValueError, match=r"`x` must be finite, got nan at index \(1, 0\)"):
        check_finite("x", np.array([[1.0, 2.0], [np.nan, 3.0]]))


@pytest.mark.parametrize(
    "matrix",
    [
        np.eye(2, dtype=np.float32),
        np.eye(2),
        sp.csr_array(np.eye(2)),
        sp.csc_array(np.eye(2)),
        sp.csr_matrix(np.eye(2)),
        torch.eye(2),
        sp.linalg.aslinearoperator(np.eye(2)),
    ],
    ids=lambda matrix: type(matrix).__name__,
)
def test_matrices_ready_for_products_pass_as_they_are(matrix: object) -> None:
    assert check_matrix("operator", matrix) is matrix


@pytest.mark.parametrize("kind", ["coo", "lil", "dok", "dia", "bsr"])
def test_sparse_formats_slow_in_products_become_csr(kind: str) -> None:
    matrix = check_matrix("operator", sp.eye_array(3, format=kind))
    assert matrix.format == "csr"


@pytest.mark.parametrize(
    "matrix",
    [
        [[1, 2], [3, 4]],
        ((1, 2), (3, 4)),
        np.array([[1, 2], [3, 4]], np.int8),
        np.array([[1, 2], [3, 4]], np.uint64),
        sp.csr_array(np.array([[1, 2], [3, 4]])),
        sp.coo_array(np.array([[1, 2], [3, 4]])),
        torch.tensor([[1, 2], [3, 4]]),
        np.matrix([[1, 2], [3, 4]]),
    ],
    ids=["list", "tuple", "int8", "uint64", "csr", "coo", "torch", "np.matrix"],
)
def test_integer_matrices_become_float64(matrix: object) -> None:
    product = check_matrix("operator", matrix) @ type_of_vector(matrix)([1.0, -1.0])
    assert product.tolist() == [-1.0, -1.0]
    assert "float64" in str(product.dtype)


def type_of_vector(matrix: object) -> object:
    if isinstance(matrix, torch.Tensor):
        return lambda values: torch.tensor(values, dtype=torch.float64)
    return np.array


@pytest.mark.parametrize("matrix", [3.0, "A", None, {1: 2}])
def test_what_has_no_shape_and_products_is_no_matrix(matrix: object) -> None:
    message = r"`operator` must be a matrix or a linear operator with a shape and products `@`, got"
    with pytest.raises(TypeError, match=message):
        check_matrix("operator", matrix)


@pytest.mark.parametrize(
    "matrix", [np.ones(3), np.ones((2, 2, 2)), np.ones((0, 3)), np.ones((3, 0)), [1.0, 2.0], [[]]]
)
def test_matrices_have_two_dimensions_that_are_not_empty(matrix: object) -> None:
    message = r"`operator` must have two dimensions and at least one row and column, got shape \("
    with pytest.raises(ValueError, match=message):
        check_matrix("operator", matrix)


@pytest.mark.parametrize(
    "matrix",
    [
        np.eye(2) * 1j,
        sp.csr_array(np.eye(2) * 1j),
        torch.eye(2, dtype=torch.complex128),
        sp.linalg.aslinearoperator(np.eye(2) * 1j),
        np.array([["a", "b"]]),
        np.array([[None]]),
    ],
    ids=["ndarray", "csr", "torch", "LinearOperator", "text", "object"],
)
def test_complex_and_other_matrices_are_refused(matrix: object) -> None:
    with pytest.raises(TypeError, match=r"`operator` must be real, got dtype "):
        check_matrix("operator", matrix)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.array([[1.0, np.nan]]), r"`operator` must be finite, got nan at index \(0, 1\)"),
        (sp.csr_array([[0.0, np.inf]]), r"`operator` must be finite, got inf at index \(0, 1\)"),
        (sp.csc_array(HOLES), r"`operator` must be finite, got inf at index \(1, 2\)"),
        (sp.bsr_array(HOLES), r"`operator` must be finite, got inf at index \(1, 2\)"),
        (torch.tensor(HOLES), r"`operator` must be finite, got inf at index \(1, 2\)"),
        (torch.tensor(HOLES).to_sparse(), r"`operator` must be finite, got inf at index \(1, 2\)"),
        (
            torch.sparse_coo_tensor(
                [[1, 1, 0], [1, 1, 0]],
                [1e308, 1e308, 1.0],
                dtype=torch.double,
                check_invariants=True,
            ),
            r"`operator` must be finite, got inf at index \(1, 1\)",
        ),
    ],
    ids=["ndarray", "csr", "csc", "bsr", "torch", "torch sparse", "sum of duplicates"],
)
def test_matrices_with_entries_that_are_not_finite_are_refused(
    matrix: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message + ".*remove or replace"):
        check_matrix("operator", matrix)


def test_padding_of_a_stored_diagonal_is_no_entry() -> None:
    check_finite("x", sp.dia_array((np.array([[np.nan, 1.0]]), [1]), shape=(2, 2)))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.filterwarnings("ignore:Sparse .* beta state:UserWarning")
def test_sparse_tensors_are_stored_by_rows(layout: str) -> None:
    dense = torch.tensor([[1, 2], [0, 3]])
    matrix = check_matrix("operator", LAYOUTS[layout](dense))
    assert (matrix.layout, matrix.dtype) == (torch.sparse_csr, torch.float64)
    assert matrix.col_indices().dtype == torch.int32
    assert matrix.to_dense().tolist() == dense.tolist()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.filterwarnings("ignore:Sparse .* beta state:UserWarning")
def test_the_place_in_a_sparse_tensor_is_that_in_the_matrix(layout: str) -> None:
    matrix = LAYOUTS[layout](torch.tensor([[1.0, 0.0], [torch.nan, torch.inf]]))
    with pytest.raises(ValueError, match=r"`operator` must be finite, got nan at index \(1, 0\)"):
        check_matrix("operator", matrix)


def test_sparse_rows_are_refused() -> None:
    with pytest.raises(TypeError, match=r"`rhs` must be dense, got .*; pass `rhs.to_dense\(\)`"):
        check_numbers("rhs", torch.eye(2).to_sparse())


@pytest.mark.parametrize("rows", [np.ones(2, np.float32), torch.ones(2), torch.ones(2).double()])
def test_float_rows_pass_as_they_are(rows: object) -> None:
    assert check_numbers("rhs", rows) is rows


@pytest.mark.parametrize("rows", [np.ones(2, bool), np.ones(2, int), torch.ones(2).int()])
def test_integer_rows_become_float64(rows: object) -> None:
    assert "float64" in str(check_numbers("rhs", rows).dtype)


@pytest.mark.parametrize(
    "rows", [np.ones(2) * 1j, torch.ones(2, dtype=torch.complex64), np.array(["a"])]
)
def test_rows_that_are_not_real_are_refused(rows: object) -> None:
    with pytest.raises(TypeError, match=r"`rhs` must be real, got dtype "):
        check_numbers("rhs", rows)


@pytest.mark.parametrize("rows", [np.array([1.0, np.inf]), torch.tensor([1.0, torch.inf])])
def test_rows_that_are_not_finite_are_refused(rows: object) -> None:
    with pytest.raises(ValueError, match=r"`rhs` must be finite, got inf at index 1; remove"):
        check_numbers("rhs", rows)
