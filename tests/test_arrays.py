"""What differs between array libraries: the same answers from all of them."""

import subprocess
import sys

import array_api_strict
import numpy as np
import pytest
import torch

from stepfold import _arrays
from stepfold._arrays import library as library_of

LIBRARIES = {"numpy": np, "torch": torch, "array_api_strict": array_api_strict}
FLOATS = ["float32", "float64", "complex64", "complex128"]
EVERYWHERE = [(library, dtype) for library in LIBRARIES for dtype in FLOATS]
ALL = [*EVERYWHERE, ("numpy", "float16"), ("torch", "float16"), ("torch", "bfloat16")]


def made(library: str, dtype: str, values: np.ndarray) -> object:
    if library == "torch":
        return torch.tensor(values).to(getattr(torch, dtype))
    return LIBRARIES[library].asarray(np.asarray(values).astype(dtype))


def numbers(dtype: str, *shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    real = rng.integers(-8, 9, shape).astype(float)
    return real + 1j * rng.integers(-8, 9, shape) if "complex" in dtype else real


@pytest.mark.parametrize(("library", "dtype"), ALL)
def test_norms_are_those_of_numpy(library: str, dtype: str) -> None:
    values = numbers(dtype, 4, 30)
    found = _arrays.norms(made(library, dtype, values))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.linalg.norm(values, axis=1), rtol=1e-6)
    one = _arrays.norms(made(library, dtype, values[0]))
    np.testing.assert_allclose(one, [np.linalg.norm(values[0])], rtol=1e-6)


@pytest.mark.parametrize(("library", "dtype"), ALL)
def test_norms_near_the_ends_of_the_range_keep_their_digits(library: str, dtype: str) -> None:
    like = made(library, dtype, np.ones(1))
    # Powers of two, so that every dtype holds the entries exactly; the subnormal one too.
    high = 2.0 ** (np.floor(np.log2(1 / _arrays.tiny(like))) - 2)
    low = _arrays.tiny(like) * _arrays.epsilon(like)
    rows = np.array([[3 * high, 4 * high / 4], [3 * low, 4 * low], [0, 0], [3, 4]])
    expected = [high * np.hypot(3, 1), 5 * low, 0, 5]
    found = _arrays.norms(made(library, dtype, rows))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    for row, norm in zip(rows, expected, strict=True):
        np.testing.assert_allclose(_arrays.norms(made(library, dtype, row)), [norm], rtol=1e-6)


@pytest.mark.parametrize(("library", "dtype"), ALL)
def test_norms_of_what_is_not_finite_are_not_finite(library: str, dtype: str) -> None:
    rows = made(library, dtype, np.array([[1.0, np.nan], [np.inf, 1.0], [3.0, 4.0]]))
    found = _arrays.norms(rows)
    assert np.isnan(found[0])
    assert np.isinf(found[1])
    assert found[2] == pytest.approx(5)


@pytest.mark.parametrize("make", [np.asarray, torch.tensor])
def test_norms_of_long_vectors_in_single_precision_keep_seven_digits(make: object) -> None:
    values = np.random.default_rng(1).random(3_000_000, dtype=np.float32)
    exact = np.linalg.norm(values.astype(np.float64))
    assert _arrays.norms(make(values))[0] == pytest.approx(exact, rel=3e-7)


def test_norms_of_longdoubles_and_of_strided_rows_are_those_of_numpy() -> None:
    values = np.random.default_rng(2).standard_normal((6, 40))
    np.testing.assert_allclose(
        _arrays.norms(values.astype(np.longdouble)), np.linalg.norm(values, axis=1)
    )
    np.testing.assert_allclose(
        _arrays.norms(values.T[::3, ::2]), np.linalg.norm(values.T[::3, ::2], axis=1)
    )


@pytest.mark.parametrize(("library", "dtype"), ALL)
def test_row_dots_are_real_parts_of_inner_products(library: str, dtype: str) -> None:
    u, v = numbers(dtype, 3, 20), numbers(dtype, 3, 20, seed=1)
    found = _arrays.row_dots(made(library, dtype, u), made(library, dtype, v))
    np.testing.assert_array_equal(found, (u.conj() * v).sum(1).real)
    one = _arrays.row_dots(made(library, dtype, u[0]), made(library, dtype, v[0]))
    np.testing.assert_array_equal(one, [np.vdot(u[0], v[0]).real])


@pytest.mark.parametrize(("library", "dtype"), ALL)
def test_what_goes_to_the_host_comes_back_the_same(library: str, dtype: str) -> None:
    values = numbers(dtype, 3, 4)
    array = made(library, dtype, values)
    host = _arrays.to_host(array)
    assert type(host) is np.ndarray
    np.testing.assert_array_equal(host, values)
    back = _arrays.from_host(host, array)
    assert _arrays.same_kind_and_dtype(back, array)
    np.testing.assert_array_equal(_arrays.to_host(back), values)


def test_a_lazy_conjugate_of_a_tensor_goes_to_the_host_conjugated() -> None:
    tensor = torch.tensor([1 + 2j], requires_grad=True)
    assert _arrays.to_host(tensor.conj()).tolist() == [1 - 2j]
    assert _arrays.to_host(tensor.conj().imag).tolist() == [-2]


@pytest.mark.parametrize(("library", "dtype"), ALL)
def test_a_column_scales_rows_in_their_precision(library: str, dtype: str) -> None:
    rows = made(library, dtype, numbers(dtype, 3, 4))
    column = _arrays.column(np.array([1.0, 2.0, 0.5]), rows)
    scaled = column * rows
    assert tuple(column.shape) == (3, 1)
    assert scaled.dtype == rows.dtype
    np.testing.assert_array_equal(
        _arrays.to_host(scaled), numbers(dtype, 3, 4) * [[1.0], [2.0], [0.5]]
    )
    assert _arrays.dtype_kind(column.dtype) == "f"


def test_a_column_for_a_vector_is_a_float_and_for_many_axes_keeps_the_first() -> None:
    assert _arrays.column(np.array([2.0]), np.ones(3)) == 2.0
    assert _arrays.column(np.ones(2), torch.ones(2, 3, 4)).shape == (2, 1, 1)


@pytest.mark.parametrize(("library", "dtype"), ALL)
def test_rows_are_put_and_taken_without_writing_into_the_array(library: str, dtype: str) -> None:
    values = numbers(dtype, 5, 3)
    full = made(library, dtype, values)
    rows = made(library, dtype, numbers(dtype, 2, 3, seed=1))
    put = _arrays.put_rows(full, [4, 1], rows)
    assert _arrays.same_kind_and_dtype(put, full)
    np.testing.assert_array_equal(_arrays.to_host(full), values)
    np.testing.assert_array_equal(_arrays.to_host(_arrays.take(put, [4, 1])), _arrays.to_host(rows))
    np.testing.assert_array_equal(
        _arrays.to_host(_arrays.take(put, np.array([0, 2, 3]))), values[[0, 2, 3]]
    )
    np.testing.assert_array_equal(
        _arrays.to_host(_arrays.put_rows(full, [], _arrays.take(rows, []))), values
    )


@pytest.mark.parametrize(("library", "dtype"), ALL)
def test_copies_are_others_and_zeros_are_zeros(library: str, dtype: str) -> None:
    array = made(library, dtype, numbers(dtype, 3))
    for other in (_arrays.copy_of(array), _arrays.zeros_like(array), _arrays.empty_rows(1, array)):
        assert _arrays.same_kind_and_dtype(other, array)
        other[...] = other + 1
    np.testing.assert_array_equal(_arrays.to_host(array), numbers(dtype, 3))


@pytest.mark.parametrize(("library", "dtype"), ALL)
def test_a_cast_goes_by_name_or_by_dtype(library: str, dtype: str) -> None:
    array = made(library, dtype, np.array([1.0, 2.0]))
    wide = "complex128" if "complex" in dtype else "float64"
    for target in (wide, np.dtype(wide), getattr(LIBRARIES[library], wide)):
        cast = _arrays.cast(array, target)
        assert cast.dtype == getattr(LIBRARIES[library], wide)
        assert _arrays.to_host(cast).tolist() == [1.0, 2.0]
    assert _arrays.cast(array, array.dtype) is array


@pytest.mark.parametrize(("library", "dtype"), ALL)
def test_epsilon_is_the_gap_above_one(library: str, dtype: str) -> None:
    one = made(library, dtype, np.ones(1))
    epsilon = _arrays.epsilon(one)
    assert _arrays.to_host(one + epsilon)[0] > 1
    assert _arrays.to_host(one + epsilon / 4)[0] == 1
    assert 0 < _arrays.tiny(one) < epsilon


@pytest.mark.parametrize(("library", "dtype"), ALL)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_entry_that_is_not_finite_is_found(library: str, dtype: str, bad: float) -> None:
    values = numbers(dtype, 2, 5)
    assert _arrays.all_finite(made(library, dtype, values))
    values[1, 3] = bad
    assert not _arrays.all_finite(made(library, dtype, values))


def test_finite_entries_whose_sum_overflows_are_finite() -> None:
    assert _arrays.all_finite(np.full(4, 1e308))
    assert _arrays.all_finite(torch.full((4,), 3e38))


@pytest.mark.parametrize(("library", "dtype"), ALL)
def test_the_largest_entry_is_the_largest_in_absolute_value(library: str, dtype: str) -> None:
    array = made(library, dtype, np.array([[1.0, -7.0], [2.0, 0.0]]))
    assert _arrays.largest_entry(array) == 7.0
    assert np.isnan(_arrays.largest_entry(made(library, dtype, np.array([1.0, np.nan]))))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("dtype", "kinds"), [("float32", "f"), ("complex64", "c"), ("int32", "i"), ("bool", "bi")]
)
def test_the_kind_of_a_dtype_is_the_letter_of_numpy(library: str, dtype: str, kinds: str) -> None:
    array = made(library, dtype, np.ones(1))
    assert _arrays.dtype_kind(array.dtype) in kinds
    assert library_of(array) == library
    assert _arrays.is_array(array)


def test_what_has_no_dtype_counts_as_floating() -> None:
    assert _arrays.dtype_kind(None) == "f"
    assert not _arrays.is_array([1.0])
    assert not _arrays.is_array(None)


def test_arrays_of_two_libraries_or_dtypes_are_not_alike() -> None:
    assert _arrays.same_kind_and_dtype(np.ones(1), np.float64(1))
    assert not _arrays.same_kind_and_dtype(np.ones(1), torch.ones(1, dtype=torch.float64))
    assert not _arrays.same_kind_and_dtype(torch.ones(1), torch.ones(1, dtype=torch.float64))


def test_a_detached_tensor_has_no_graph_and_arrays_stay_themselves() -> None:
    tensor = (2 * torch.ones(1, requires_grad=True)).exp()
    assert not _arrays.detached(tensor).requires_grad
    array = np.ones(1)
    assert _arrays.detached(array) is array


def test_arrays_of_numpy_load_neither_torch_nor_scipy() -> None:
    code = (
        "import sys, numpy as np; from stepfold import _arrays as a\n"
        "x = np.eye(2); a.norms(x); a.row_dots(x, x); a.put_rows(x, [0], x[1:]); a.take(x, [0])\n"
        "a.column(np.ones(2), x); a.cast(x, 'float32'); a.namespace(x); a.norms(0 * x)\n"
        "a.largest_entry(x); a.all_finite(x); a.zeros_like(x); a.from_host(x, x); a.epsilon(x)\n"
        "print('torch' in sys.modules, 'scipy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
