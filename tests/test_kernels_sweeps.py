"""Every kernel against the plain formula, written out with dense arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from stepfold import kernels
from stepfold.kernels.base import Sweep
from stepfold.kernels.dense import DenseColumns, DenseRows
from stepfold.kernels.sparse import SparseColumns, SparseRows, SparseSymmetric

TOLERANCE = {"float32": 2e-5, "float64": 1e-12, "complex64": 2e-5, "complex128": 1e-12}
LEAST_SQUARES: dict[str, tuple[type[Sweep], Callable[[np.ndarray], Any]]] = {
    "rows": (DenseRows, np.ascontiguousarray),
    "columns": (DenseColumns, np.asfortranarray),
    "csr": (SparseRows, sp.csr_array),
    "csc": (SparseColumns, sp.csc_array),
}
# Around the sizes that the loops take at once: 6 rows, 16 and 64 columns, 1024 rows of a panel.
SHAPES = [(1, 1), (1, 70), (70, 1), (5, 3), (6, 64), (13, 80), (300, 97), (2100, 7), (50, 1000)]
COMBINATIONS = [
    (name, dtype)
    for name in LEAST_SQUARES
    for dtype in kernels.DTYPES
    if not (name == "columns" and dtype.startswith("complex"))  # which has no kernel
]
every_kernel_and_dtype = pytest.mark.parametrize(("name", "dtype"), COMBINATIONS)
WIDER = {"float32": "float64", "complex64": "complex128"}
every_kernel = pytest.mark.parametrize("name", LEAST_SQUARES)
every_dtype = pytest.mark.parametrize("dtype", kernels.DTYPES)


def numbers(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    return values.astype(dtype)


def sparse_numbers(shape: tuple[int, int], dtype: str, seed: int) -> np.ndarray:
    """Entries of which a quarter are not 0, with an empty row and an empty column."""
    matrix = numbers(shape, dtype, seed)
    matrix[np.random.default_rng(seed).random(shape) < 0.75] = 0
    matrix[shape[0] // 2] = 0
    matrix[:, shape[1] // 2] = 0
    return matrix


def formula(matrix: Any, b: Any, x: Any, keep: float, gamma: float) -> Any:
    wide = np.complex128 if np.iscomplexobj(matrix) else np.float64
    a = matrix.astype(wide)
    return keep * x.astype(wide) + gamma * (b - x.astype(wide) @ a.T) @ a.conj()


def assert_close(actual: Any, expected: Any) -> None:
    error = np.abs(actual - expected).max()
    assert error <= TOLERANCE[str(actual.dtype)] * max(1, np.abs(expected).max())


@every_kernel_and_dtype
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("batch", [(), (1,), (3,)])
def test_a_sweep_is_the_formula(
    name: str, dtype: str, shape: tuple[int, int], batch: tuple[int, ...]
) -> None:
    kind, convert = LEAST_SQUARES[name]
    matrix = (sparse_numbers if name.startswith("cs") else numbers)(shape, dtype, 1)
    b, x = numbers((*batch, shape[0]), dtype, 2), numbers((*batch, shape[1]), dtype, 3)
    result = kind(convert(matrix), b)(x, 0.75, 0.125)
    assert result.dtype == dtype
    assert result.shape == x.shape
    assert_close(result, formula(matrix, b, x, 0.75, 0.125))


@every_dtype
@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("batch", [(), (1,), (3,)])
def test_a_sweep_over_a_symmetric_matrix_is_the_formula(
    dtype: str, size: int, batch: tuple[int, ...]
) -> None:
    matrix = sparse_numbers((size, size), dtype, 1)
    matrix = matrix + matrix.conj().T
    b, x = numbers((*batch, size), dtype, 2), numbers((*batch, size), dtype, 3)
    result = SparseSymmetric(sp.csr_array(matrix), b)(x, 0.75, 0.125)
    assert result.dtype == dtype
    assert_close(result, 0.75 * x + 0.125 * (b - x @ matrix.T))


@every_kernel
@pytest.mark.parametrize("num_threads", [1, 2, 3, 7])
def test_a_sweep_is_the_formula_with_any_number_of_threads(name: str, num_threads: int) -> None:
    kind, convert = LEAST_SQUARES[name]
    matrix, b, x = numbers((5, 3), "float64", 1), numbers((5,), "float64", 2), np.ones(3)
    sweep = kind(convert(matrix), b)
    sweep.num_threads = num_threads
    assert_close(sweep(x, 1.0, 0.5), formula(matrix, b, x, 1.0, 0.5))


@pytest.mark.parametrize("name", ["rows", "columns"])
@pytest.mark.parametrize("num_rows", [1024, 2048, 2048 + 33])
def test_panels_may_fill_the_matrix_or_leave_a_rest(name: str, num_rows: int) -> None:
    kind, convert = LEAST_SQUARES[name]
    shapes = [(num_rows, 17), (num_rows,), (17,)]
    matrix, b, x = (numbers(shape, "float64", k) for k, shape in enumerate(shapes))
    sweep = kind(convert(matrix), b)
    sweep.num_threads = 1
    assert_close(sweep(x, 1.0, 0.5), formula(matrix, b, x, 1.0, 0.5))


@every_kernel_and_dtype
def test_the_same_threads_give_the_same_bits(name: str, dtype: str) -> None:
    kind, convert = LEAST_SQUARES[name]
    matrix, b, x = (numbers(s, dtype, k) for k, s in enumerate([(500, 40), (500,), (40,)]))
    sweep = kind(convert(matrix), b)
    sweep.num_threads = 2
    assert len({sweep(x, 1.0, 0.1).tobytes() for _ in range(10)}) == 1


@pytest.mark.parametrize(
    ("name", "stored", "used"),
    [(name, stored, WIDER[stored]) for name, stored in COMBINATIONS if stored in WIDER],
)
def test_a_matrix_in_half_the_precision_is_multiplied_in_full(
    name: str, stored: str, used: str
) -> None:
    kind, convert = LEAST_SQUARES[name]
    matrix = numbers((40, 30), stored, 1)
    b, x = numbers((40,), used, 2), numbers((30,), used, 3)
    result = kind(convert(matrix), b)(x, 1.0, 0.5)
    assert result.dtype == used
    assert_close(result, formula(matrix, b, x, 1.0, 0.5))


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_indices_of_both_widths_serve(index: type) -> None:
    matrix = sp.csr_array(sparse_numbers((40, 30), "float64", 1))
    matrix.indices, matrix.indptr = matrix.indices.astype(index), matrix.indptr.astype(index)
    b, x = np.ones(40), np.ones(30)
    result = SparseRows(matrix, b)(x, 1.0, 0.5)
    assert_close(result, formula(matrix.toarray(), b, x, 1.0, 0.5))


@pytest.mark.parametrize("convert", [sp.csr_array, sp.csc_array, sp.csr_matrix, sp.csc_matrix])
def test_a_matrix_without_entries_leaves_x(convert: Callable[..., Any]) -> None:
    matrix = convert((4, 3))
    kind = SparseRows if matrix.format == "csr" else SparseColumns
    assert kind(matrix, np.ones(4))(np.ones(3), 0.5, 1.0).tolist() == [0.5] * 3


@pytest.mark.parametrize("name", ["csr", "csc"])
def test_entries_stored_twice_and_out_of_order_count_as_scipy_has_them(name: str) -> None:
    data, indices, indptr = np.array([1.0, 2.0, 3.0, 4.0]), [2, 0, 0, 1], [0, 3, 3, 4]
    matrix = (sp.csr_array if name == "csr" else sp.csc_array)((data, indices, indptr), (3, 3))
    b, x = np.arange(3.0), np.array([1.0, -1.0, 2.0])
    result = LEAST_SQUARES[name][0](matrix, b)(x, 1.0, 0.5)
    assert_close(result, formula(matrix.toarray(), b, x, 1.0, 0.5))


@every_kernel
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_hidden(name: str, value: float) -> None:
    kind, convert = LEAST_SQUARES[name]
    x = np.ones(30)
    x[4] = value
    sweep = kind(convert(numbers((40, 30), "float64", 1)), np.ones(40))
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(sweep(x, 1.0, 0.5)).any()


@every_kernel
def test_long_sums_in_float32_stay_accurate(name: str) -> None:
    kind, convert = LEAST_SQUARES[name]
    rng = np.random.default_rng(0)
    matrix = rng.random((20_000, 8)).astype(np.float32)  # no cancellation hides the error
    b, x = np.zeros(20_000, np.float32), np.ones(8, np.float32)
    result = kind(convert(matrix), b)(x, 0.0, 1.0)
    np.testing.assert_allclose(result, formula(matrix, b, x, 0.0, 1.0), rtol=3e-4)
