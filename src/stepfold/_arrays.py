"""What differs between array libraries, in one place.

The rest of the package uses ``+ - * @``, `abs` and indexing, and asks this module for everything
that NumPy, torch, CuPy, JAX and other libraries of the array API standard spell differently. No
library is imported to find out: whoever holds one of its arrays has imported it.

Vectors are rows: one of shape (n,), or a batch of shape (batch, n). Numbers that decide something
(norms, inner products) come to the host as float64 NumPy arrays, in one read for a whole batch.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat
import numpy as np

from stepfold._typing import FloatArray

__all__ = [
    "add_scaled",
    "all_finite",
    "at_least_single",
    "cast",
    "column",
    "conjugate",
    "copy_of",
    "derivative_along",
    "detached",
    "dot",
    "dtype_kind",
    "empty_rows",
    "epsilon",
    "from_host",
    "gram_matrix",
    "has_double",
    "is_array",
    "is_foreign",
    "is_numpy",
    "is_sparse_tensor",
    "is_torch",
    "largest_entry",
    "library",
    "namespace",
    "norms",
    "norms_together",
    "numbers_and_norms",
    "put_rows",
    "requires_derivatives",
    "reshaped",
    "row_dots",
    "row_put",
    "same_kind_and_dtype",
    "scaled",
    "sigmoid",
    "solve_triangular",
    "take",
    "tiny",
    "to_host",
    "without_graph",
    "zeros_like",
]

# Sums of squares between these have lost no digit of a norm to overflow or underflow.
_SAFE = {4: (1e-30, 1e36), 8: (1e-280, 1e300)}
# Powers of two by which numbers are scaled at most: neither they nor the results overflow.
_MAX_EXPONENT = {4: 120, 8: 1000}
# Products of float32 vectors are summed in pieces of this length: within a piece BLAS adds in
# single precision, which over ten million entries costs three digits.
_PIECE = 65536
# BLAS takes vectors of more than 10 000 entries to its threads, which then spin on the cores that
# the threads of our kernels need: an inner product of 160 000 entries took 4 ms instead of 0.05.
_BLAS_PIECE = 8192
# Modules of arrays that do not say so by `__array_namespace__`.
_UNDECLARED = ("cupy", "dask.array")
_REAL_NAMES = {"complex64": "float32", "complex128": "float64"}


def is_array(x: Any) -> bool:
    """Whether it is an array, or a NumPy scalar; sparse tensors of torch are, SciPy's are not.

    >>> is_array(np.ones(2)), is_array([1.0, 1.0])
    (True, False)
    """
    if is_numpy(x) or is_torch(x):
        return True
    known = hasattr(x, "__array_namespace__") or type(x).__module__.startswith(_UNDECLARED)
    return known and not hasattr(x, "tocsr")


def is_numpy(x: Any) -> bool:
    """Whether it is an array of NumPy, or one of the scalars its arithmetic makes."""
    return isinstance(x, (np.ndarray, np.generic))


def is_foreign(x: Any) -> bool:
    """Whether it is an array of another library than NumPy: where it is, NumPy may not read it."""
    return not is_numpy(x) and is_array(x)


def is_torch(x: Any) -> bool:
    """Whether it is a tensor of torch, dense or sparse."""
    # array-api-compat's test is cached, which `torch.compile` warns of.
    return hasattr(x, "new_tensor")


def is_sparse_tensor(x: Any) -> bool:
    """Whether it is a tensor of torch in one of the sparse layouts."""
    return is_torch(x) and "sparse" in str(x.layout)


def library(x: Any) -> str:
    """Name of the library an array belongs to: "numpy", "torch", "cupy", "jax", …

    >>> library(np.ones(2))
    'numpy'
    """
    if is_numpy(x):
        return "numpy"
    if is_torch(x):
        return "torch"
    name = type(x).__module__.partition(".")[0]
    return "jax" if name == "jaxlib" else name


def namespace(x: Any) -> Any:
    """The functions of the array API standard for arrays like ``x``.

    >>> namespace(np.ones(2)).stack([np.ones(2), np.zeros(2)]).shape
    (2, 2)
    """
    if is_numpy(x):
        if hasattr(np, "concat"):
            return np  # NumPy 2 keeps the standard; its shim costs 50 ms to import
        import array_api_compat.numpy as older_numpy

        return older_numpy
    if is_torch(x):
        import array_api_compat.torch as torch_functions

        return torch_functions
    return array_api_compat.array_namespace(x)


def dtype_kind(dtype: Any) -> str:
    """NumPy's letter for a dtype of any library; "f" for what is no dtype.

    torch's dtypes of integers and truth values are all "i".
    """
    if getattr(dtype, "is_complex", False):
        return "c"
    if not getattr(dtype, "is_floating_point", True):
        return "i"
    kind = getattr(dtype, "kind", None)
    if kind is not None and kind != "V":  # NumPy's letter for the bfloat16 of others
        return str(kind)
    name = _name(dtype)
    for start, letter in (("complex", "c"), ("int", "i"), ("uint", "u"), ("bool", "b")):
        if name.startswith(start):
            return letter
    return "f"


def same_kind_and_dtype(x: Any, y: Any) -> bool:
    """Whether two arrays are of one library and of one dtype."""
    return library(x) == library(y) and bool(x.dtype == y.dtype)


def epsilon(x: Any) -> float:
    """Machine epsilon of an array's dtype; of a complex one that of its parts.

    >>> epsilon(np.ones(2, dtype=np.float32)) == 2.0**-23
    True
    """
    return float(_finfo(x).eps)


def tiny(x: Any) -> float:
    """Smallest normal number of an array's dtype."""
    info = _finfo(x)
    return float(info.tiny if is_torch(x) else info.smallest_normal)


def _finfo(x: Any) -> Any:
    if is_torch(x):
        return sys.modules["torch"].finfo(x.dtype)
    # Operators and sparse matrices have dtypes of NumPy; its own know no bfloat16.
    known = isinstance(x.dtype, np.dtype) and x.dtype.kind in "fc"
    return np.finfo(x.dtype) if known else namespace(x).finfo(x.dtype)


def has_double(x: Any) -> bool:
    """Whether arrays like ``x``, where they are, can be in double precision."""
    if is_torch(x):
        return bool(x.device.type != "mps")
    return not array_api_compat.is_jax_array(x) or bool(sys.modules["jax"].config.jax_enable_x64)


def to_host(x: Any) -> Any:
    """The numbers as a NumPy array, without a graph; of bfloat16 as float32.

    NumPy's arrays come back as they are.
    """
    if is_numpy(x):
        return np.asarray(x)
    if is_torch(x):
        x = x.detach().resolve_conj().resolve_neg().cpu()
        return (x.float() if _name(x.dtype) == "bfloat16" else x).numpy()
    if array_api_compat.is_cupy_array(x):
        return x.get()
    if library(x) == "array_api_strict":  # its devices stand for those that NumPy cannot read
        x = x.to_device(namespace(x).Device("CPU_DEVICE"))
    return np.asarray(x)


def from_host(values: Any, like: Any) -> Any:
    """Numbers of NumPy as an array of the library, dtype and device of ``like``.

    >>> from_host(np.ones(2), np.zeros(3, dtype=np.float32)).dtype
    dtype('float32')
    """
    return _made(values, like, like.dtype)


def column(values: FloatArray, like: Any) -> Any:
    """Real numbers, one for each row, as a factor or a divisor of the rows of ``like``.

    Args:
        values: Shape (batch,); (1,) for a vector.
        like: A vector, or an array whose first axis counts rows.

    Returns:
        A float for a vector; else an array of shape (batch, 1, …) of the library, device and
        precision of ``like``.

    >>> column(np.array([1.0, 2.0]), np.ones((2, 3)))
    array([[1.],
           [2.]])
    """
    if like.ndim < 2:
        return float(values[0])
    return _made(values.reshape(-1, *[1] * (like.ndim - 1)), like, _real_dtype(like))


def _made(values: Any, like: Any, dtype: Any) -> Any:
    if is_numpy(like):
        return np.asarray(values).astype(dtype, copy=False)
    if is_torch(like):
        # torch takes neither constant arrays nor reversed ones, and compiles no `torch.tensor`.
        copy = np.asarray(values).copy()
        return sys.modules["torch"].as_tensor(copy, dtype=dtype, device=like.device)
    made = namespace(like).asarray(values, device=array_api_compat.device(like))
    return cast(made, dtype)


def _real_dtype(x: Any) -> Any:
    real = _REAL_NAMES.get(_name(x.dtype))
    if real is not None:
        return getattr(namespace(x), real)
    return x.dtype.type(0).real.dtype if is_numpy(x) else x.dtype  # NumPy's long doubles


def _name(dtype: Any) -> str:
    """``float32`` for ``torch.float32``, ``numpy.dtype('float32')`` and their likes."""
    return str(getattr(dtype, "name", None) or dtype).rpartition(".")[2]


def cast(x: Any, dtype: Any) -> Any:
    """The array in another dtype, itself if it has it.

    Args:
        x: An array.
        dtype: A dtype of the library of ``x``, or one of NumPy, or a name.

    >>> cast(np.ones(2), "float32").dtype
    dtype('float32')
    """
    if is_numpy(x):
        return x.astype(dtype, copy=False)
    if isinstance(dtype, (np.dtype, str, type)):
        dtype = getattr(namespace(x), np.dtype(dtype).name)
    if is_torch(x):
        return x.to(dtype)
    return namespace(x).astype(x, dtype, copy=False)


def copy_of(x: Any) -> Any:
    """A copy, of the library and dtype of ``x``; NumPy's in this machine's byte order."""
    if is_numpy(x):
        return np.array(x, dtype=x.dtype.newbyteorder("="))
    return x.clone() if is_torch(x) else namespace(x).asarray(x, copy=True)


def conjugate(x: Any) -> Any:
    """The complex conjugate, as a new array if it is complex."""
    if is_torch(x):
        # torch conjugates when somebody looks, and `numpy()` does not look.
        return x.conj().resolve_conj()
    return x.conj() if is_numpy(x) else namespace(x).conj(x)


def detached(x: Any) -> Any:
    """The array without the graph that made it, if it has one."""
    return x.detach() if is_torch(x) else x


def without_graph(x: Any) -> contextlib.AbstractContextManager[Any]:
    """Context in which nothing is recorded for derivatives by the library of ``x``."""
    return sys.modules["torch"].no_grad() if is_torch(x) else contextlib.nullcontext()


def reshaped(x: Any, shape: tuple[int, ...]) -> Any:
    """The numbers in another shape, −1 for one length; a view where there can be one."""
    return x.reshape(shape) if is_numpy(x) or is_torch(x) else namespace(x).reshape(x, shape)


def zeros_like(x: Any) -> Any:
    """Zeros of the shape, library, dtype and device of ``x``."""
    return namespace(x).zeros_like(x)


def empty_rows(count: int, like: Any) -> Any:
    """Room for ``count`` vectors such as ``like``: uninitialised, of shape (count, n)."""
    shape = (count, like.shape[-1])
    if is_numpy(like):
        return np.empty(shape, like.dtype)
    device = array_api_compat.device(like)
    return namespace(like).empty(shape, dtype=like.dtype, device=device)


def take(rows: Any, places: Sequence[int] | Any) -> Any:
    """Some rows of a batch, as a new array.

    Args:
        rows: Shape (batch, …).
        places: Indices, a list or a NumPy array.
    """
    places = np.asarray(places, dtype=np.int64)
    if is_numpy(rows):
        return rows[places]
    if is_torch(rows):
        return rows[places.tolist()]
    xp = namespace(rows)
    indices = xp.asarray(places, device=array_api_compat.device(rows))
    return xp.take(rows, indices, axis=0)


def put_rows(full: Any, places: Sequence[int] | Any, rows: Any) -> Any:
    """A copy of ``full`` with ``rows`` at ``places``; for libraries with constant arrays too.

    >>> put_rows(np.zeros((3, 1)), [2], np.ones((1, 1))).ravel()
    array([0., 0., 1.])
    """
    places = np.asarray(places, dtype=np.int64)
    if is_numpy(full) or is_torch(full):
        copy = copy_of(full)
        copy[places.tolist()] = rows
        return copy
    if places.size == 0:
        return copy_of(full)
    sources = np.zeros(full.shape[0], dtype=np.int64)
    sources[places] = np.arange(places.size)
    replaced = np.zeros((full.shape[0], *[1] * (full.ndim - 1)), dtype=np.bool_)
    replaced[places] = True
    xp = namespace(full)
    mask = xp.asarray(replaced, device=array_api_compat.device(full))
    return xp.where(mask, take(rows, sources), full)


def row_put(full: Any, place: int, row: Any) -> Any:
    """``full`` with a row at ``place``: written into it, or a copy where arrays are constant."""
    if array_api_compat.is_jax_array(full):
        return full.at[place].set(row)
    full[place, ...] = row
    return full


def all_finite(x: Any) -> bool:
    """Whether no entry is NaN or infinite; one read from the device.

    >>> all_finite(np.array([1.0, np.nan]))
    False
    """
    if is_numpy(x):
        # A finite sum has finite terms: one pass at the memory's speed, and no flags.
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(np.isfinite(x.sum())) or bool(np.isfinite(x).all())
    xp = namespace(x)
    return bool(xp.all(xp.isfinite(x)))


def largest_entry(x: Any) -> float:
    """Largest absolute value of an entry, NaN if one is; one read from the device.

    >>> largest_entry(np.array([1.0, -3.0]))
    3.0
    """
    xp = namespace(x)
    return float(xp.max(xp.abs(x)))


def row_dots(u: Any, v: Any) -> FloatArray:
    """Real part of the inner product of two vectors, shape (1,), or of rows, shape (batch,).

    Sums of halves are in single precision; long sums of singles keep seven digits.

    >>> row_dots(np.array([1j, 2.0]), np.array([1j, 1.0]))
    array([3.])
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if is_numpy(u):
            return _numpy_row_dots(u, v)
        if is_torch(u):
            return _torch_row_dots(u.detach(), v.detach())
        u, v = at_least_single(u), at_least_single(v)
        xp = namespace(u)
        if dtype_kind(u.dtype) == "c":
            products = xp.real(u) * xp.real(v) + xp.imag(u) * xp.imag(v)
        else:
            products = u * v
        return _on_host(xp.sum(products, axis=-1))


def dot(u: Any, v: Any) -> float:
    """Real part of the inner product of two vectors.

    >>> dot(np.array([1j, 2.0]), np.array([1j, 1.0]))
    3.0
    """
    if is_numpy(u) and u.dtype.char in "dD":
        return float(np.vdot(u, v).real)
    return float(row_dots(u, v)[0])


def gram_matrix(vectors: Sequence[Any]) -> FloatArray:
    """Real parts of the inner products of k arrays of one shape, shape (k, k), on the host.

    In double precision where the device has it; one read.

    >>> gram_matrix([np.array([1j, 0.0]), np.array([2j, 1.0])])
    array([[1., 2.],
           [2., 5.]])
    """
    rows = namespace(vectors[0]).stack([reshaped(vector, (-1,)) for vector in vectors])
    if has_double(rows):
        rows = cast(rows, "complex128" if dtype_kind(rows.dtype) == "c" else "float64")
    gram: FloatArray = to_host(conjugate(rows) @ rows.T).real.astype(np.float64, copy=False)
    return gram


def _torch_row_dots(u: Any, v: Any) -> FloatArray:
    u, v = at_least_single(u), at_least_single(v)
    products = (u.conj() * v).real if u.is_complex() else u * v
    wide = sys.modules["torch"].float64 if has_double(u) else products.dtype
    return _on_host(products.sum(-1, dtype=wide))


def _numpy_row_dots(u: Any, v: Any) -> FloatArray:
    u, v = at_least_single(u), at_least_single(v)
    length = u.shape[-1]
    if u.dtype.char not in "fF" or length <= _PIECE:
        return _sums_of_products(u, v)
    total = np.zeros(u.shape[0] if u.ndim > 1 else 1)
    for at in range(0, length, _PIECE):
        total += _sums_of_products(u[..., at : at + _PIECE], v[..., at : at + _PIECE])
    return total


def _sums_of_products(u: Any, v: Any) -> FloatArray:
    if u.ndim == 1:
        if u.size <= _BLAS_PIECE:
            return np.array([np.vdot(u, v).real], dtype=np.float64)
        pieces = range(0, u.size, _BLAS_PIECE)
        sums = [np.vdot(u[at : at + _BLAS_PIECE], v[at : at + _BLAS_PIECE]).real for at in pieces]
        return np.array([np.sum(sums, dtype=np.float64)])
    # By BLAS, in the rows' own precision; NumPy 1 has no `vecdot`.
    sums = np.vecdot(u, v) if hasattr(np, "vecdot") else np.einsum("ij,ij->i", u.conj(), v)
    dots: FloatArray = sums.real.astype(np.float64, copy=False)
    return dots


def _on_host(numbers: Any) -> FloatArray:
    """A few real numbers as a float64 NumPy array with one axis."""
    return np.atleast_1d(to_host(numbers)).astype(np.float64, copy=False)


def norms(rows: Any) -> FloatArray:
    """Euclidean norm of a vector, shape (1,), or of each row of a batch, shape (batch,).

    Squares neither overflow nor underflow; rows in which one would are scaled by a power of two. A
    batch costs one read from the device, or two if such a row is in it.

    >>> norms(np.array([[3e200, 4e200], [3e-200, 4e-200]]))
    array([5.e+200, 5.e-200])
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return _norms(rows)


def _norms(rows: Any) -> FloatArray:
    if is_numpy(rows):
        low, high = _SAFE[4 if rows.dtype.char in "efF" else 8]
        squares = _numpy_row_dots(rows, rows)
        found = np.sqrt(squares)
    elif is_torch(rows) and has_double(rows):
        return _checked_norms(rows, _on_host(_torch_norms(rows)))
    else:
        rows = at_least_single(rows)
        low, high = _SAFE[_width(rows)]
        squares = row_dots(rows, rows)
        found = np.sqrt(squares)
    if ((squares > low) & (squares < high)).all():
        return found
    return _scaled_norms(rows)


def norms_together(*arrays: Any) -> tuple[FloatArray, ...]:
    """`norms` of several arrays of as many rows, in one read from the device for all of them.

    >>> norms_together(np.array([3.0, 4.0]), np.array([1.0]))
    (array([5.]), array([1.]))
    """
    return tuple(numbers_and_norms([], list(arrays))[1])


def numbers_and_norms(
    values: list[Any], arrays: list[Any]
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Numbers, one for each row, and norms of rows, in one read from the device for all of them.

    Args:
        values: Arrays of real numbers of shape (), or (batch,).
        arrays: Vectors, or batches of as many rows.
    """
    if not all(is_torch(each) and has_double(each) for each in (*values, *arrays)):
        numbers = [np.array(each.tolist(), dtype=np.float64, ndmin=1) for each in values]
        return numbers, [norms(rows) for rows in arrays]
    torch = sys.modules["torch"]
    stacked = [each.detach().to(torch.float64) for each in values]
    found = to_host(torch.stack([*stacked, *(_torch_norms(rows) for rows in arrays)]))
    found = found.reshape(len(found), -1)
    sizes = zip(arrays, found[len(values) :], strict=True)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return list(found[: len(values)]), [_checked_norms(rows, each) for rows, each in sizes]


def _torch_norms(rows: Any) -> Any:
    torch = sys.modules["torch"]
    rows = rows.detach()
    parts = torch.view_as_real(rows.resolve_conj()).flatten(-2) if rows.is_complex() else rows
    return torch.linalg.vector_norm(parts, dim=-1, dtype=torch.float64)


def _checked_norms(rows: Any, found: FloatArray) -> FloatArray:
    """Norms in double precision, computed again where their squares left its range."""
    # It holds the squares of all narrower numbers.
    if _name(rows.dtype) not in ("float64", "complex128"):
        return found
    low, high = _SAFE[8]
    squares = found * found
    return found if ((squares > low) & (squares < high)).all() else _scaled_norms(rows)


def at_least_single(rows: Any) -> Any:
    """Halves as singles: their sums overflow at 65504, or have eight bits."""
    return cast(rows, "float32") if getattr(rows.dtype, "itemsize", 8) == 2 else rows


def _width(rows: Any) -> int:
    """Bytes of a real number of the array's dtype, 8 for long doubles."""
    name = _name(rows.dtype)
    name = _REAL_NAMES.get(name, name)
    return 4 if name == "float32" else 8


def _scaled_norms(rows: Any) -> FloatArray:
    xp = namespace(rows)
    sizes = xp.abs(at_least_single(rows))
    if sizes.ndim == 1:
        sizes = sizes[None, :]
    peaks = _on_host(xp.max(sizes, axis=-1))
    if not peaks.any():
        return peaks
    largest = _MAX_EXPONENT[_width(sizes)]
    # `frexp` says 0 of NaN and of infinity, whose norms are NaN and infinity in any scale.
    exponents = np.clip(np.frexp(peaks)[1], -largest, largest)
    scaled = sizes * column(np.ldexp(1.0, -exponents), sizes)
    found: FloatArray = np.ldexp(np.sqrt(row_dots(scaled, scaled)), exponents)
    return found


def requires_derivatives(x: Any) -> bool:
    """Whether its library would record what is computed from it, to take derivatives."""
    if not getattr(x, "requires_grad", False):
        return False
    return bool(sys.modules["torch"].is_grad_enabled())


def sigmoid(x: Any) -> Any:
    """``1/(1 + exp(−x))``, to full relative precision and without overflow."""
    if is_torch(x):
        return x.sigmoid()  # its derivative at 0 is right, that of the formula is not
    xp = namespace(x)
    small = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, xp.ones_like(x), small) / (1 + small)


def solve_triangular(triangle: Any, columns: Any, *, lower: bool) -> Any:
    """Solution X of ``triangle @ X = columns``, of shape (n, k); entries outside are zeros."""
    if is_numpy(columns):
        from scipy.linalg import solve_triangular as solve

        return solve(triangle, columns, lower=lower, check_finite=False)
    if is_torch(columns):
        linalg = sys.modules["torch"].linalg
        return linalg.solve_triangular(triangle, columns, upper=not lower)
    return namespace(columns).linalg.solve(triangle, columns)


def derivative_along(function: Callable[[Any], Any], x: Any, direction: Any) -> Any:
    """Derivative of ``function`` at ``x`` along ``direction``, by differentiating forwards.

    Returns:
        An array of the shape of ``function(x)``; None if the library cannot differentiate.

    Raises:
        RuntimeError: If the library can, but not through this function; NotImplementedError and
            TypeError mean the same.
    """
    if is_torch(x):
        with warnings.catch_warnings():
            # What torch imports for its first product uses what torch deprecates.
            warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
            return sys.modules["torch"].func.jvp(function, (x,), (direction,))[1].detach()
    if array_api_compat.is_jax_array(x):
        return sys.modules["jax"].jvp(function, (x,), (direction,))[1]
    return None


def add_scaled(y: Any, factor: Any, x: Any) -> Any:
    """``y + factor·x``, in the memory of ``y`` where that is a vector of NumPy: one pass by BLAS.

    Args:
        y: May be written to.
        factor: A number, or one for each row as `column` makes them.
        x: Of the shape of ``y``.

    >>> add_scaled(np.ones(2), 2.0, np.array([1.0, 3.0]))
    array([3., 7.])
    """
    if _blas_takes(y) and _blas_takes(x) and x.dtype == y.dtype and isinstance(factor, float):
        axpy = _blas("axpy", y)
        for at in range(0, y.size, _BLAS_PIECE):
            axpy(x[at : at + _BLAS_PIECE], y[at : at + _BLAS_PIECE], a=factor)
        return y
    return y + factor * x


def scaled(x: Any, factor: Any) -> Any:
    """``factor·x``, in the memory of ``x`` where that is a vector of NumPy."""
    if _blas_takes(x) and isinstance(factor, float):
        x *= x.dtype.type(factor)  # without BLAS's threads
        return x
    return factor * x


def _blas_takes(x: Any) -> bool:
    if not isinstance(x, np.ndarray) or x.ndim != 1 or x.dtype.char not in "fdFD":
        return False
    return bool(x.flags.c_contiguous and x.flags.writeable)


@functools.lru_cache(maxsize=16)
def _blas_routine(name: str, char: str) -> Any:
    from scipy.linalg.blas import get_blas_funcs

    return get_blas_funcs(name, dtype=np.dtype(char))


def _blas(name: str, x: Any) -> Any:
    return _blas_routine(name, x.dtype.char)
