"""Index arrays of sparse matrices, looked at once where a matrix enters.

Compiled loops, products and conversions trust them: a wrong one ends the process, or gives an
answer without a word. One pass over the integers, a tenth of a product or less.
"""

from __future__ import annotations

from typing import Any

from stepfold._arrays import is_sparse_tensor


def check_indices(name: str, matrix: Any) -> None:
    """Raise if a sparse matrix points outside itself, or one that an operator of SciPy holds does.

    Args:
        name: What messages call it.
        matrix: SciPy sparse array, sparse tensor of torch, or ``LinearOperator``; anything else
            passes.

    Raises:
        ValueError: If an index is outside, or pointers to rows or columns fall or overrun.
    """
    if is_sparse_tensor(matrix):
        _check_tensor(name, matrix)
    elif hasattr(matrix, "tocsr"):
        _check_array(name, matrix)
    elif type(matrix).__module__.startswith("scipy.sparse.linalg"):
        # `aslinearoperator(A)` holds its matrix, sums and products of operators hold theirs.
        for part in (getattr(matrix, "A", None), *getattr(matrix, "args", ())):
            check_indices(name, part)


def _check_array(name: str, matrix: Any) -> None:
    if matrix.format == "coo":
        _check_below(name, "row", matrix.row, matrix.shape[0])
        _check_below(name, "col", matrix.col, matrix.shape[1])
        _check_count(name, "row", matrix.row.size, matrix.data.size)
        _check_count(name, "col", matrix.col.size, matrix.data.size)
    if matrix.format not in ("bsr", "csc", "csr"):
        return
    outer, inner = matrix.shape[::-1] if matrix.format == "csc" else matrix.shape
    if matrix.format == "bsr":
        outer, inner = _in_blocks(name, matrix.shape, matrix.blocksize)
    pointers, indices = matrix.indptr, matrix.indices
    _check_count(name, "indptr", pointers.size, outer + 1)
    stored = min(indices.size, len(matrix.data))
    _check_pointers(name, "indptr", pointers, stored, matrix.format)
    _check_below(name, "indices", indices[: pointers[-1]], inner)


def _check_tensor(name: str, matrix: Any) -> None:
    layout = str(matrix.layout).removeprefix("torch.sparse_")
    if layout == "coo":
        places = matrix._indices()  # of one that is not coalesced, too
        for axis, length in enumerate(matrix.shape[: matrix.sparse_dim()]):
            _check_range(name, f"indices()[{axis}]", places[axis], length)
        return
    by_rows = layout in ("csr", "bsr")
    outer, inner = matrix.shape[-2:] if by_rows else tuple(matrix.shape[-2:])[::-1]
    if layout in ("bsr", "bsc"):
        shape = tuple(matrix.shape[-2:])
        outer, inner = _in_blocks(name, shape, tuple(matrix.values().shape[1:3]))
        outer, inner = (outer, inner) if by_rows else (inner, outer)
    names = ("crow_indices", "col_indices") if by_rows else ("ccol_indices", "row_indices")
    pointers, indices = (getattr(matrix, each)() for each in names)
    _check_count(name, f"{names[0]}()", pointers.shape[-1], outer + 1)
    stored = min(indices.shape[-1], matrix.values().shape[0])
    _check_pointers(name, f"{names[0]}()", pointers, stored, layout)
    _check_range(name, f"{names[1]}()", indices[: int(pointers[-1])], inner)


def _in_blocks(name: str, shape: Any, blocks: Any) -> tuple[int, int]:
    """Rows and columns of blocks."""
    if min(blocks) < 1 or shape[0] % blocks[0] or shape[1] % blocks[1]:
        raise ValueError(
            f"`{name}` must have a shape that is a multiple of its blocks, got shape "
            f"{shape} with blocks of {blocks[0]} by {blocks[1]}"
        )
    return shape[0] // blocks[0], shape[1] // blocks[1]


def _check_pointers(name: str, part: str, pointers: Any, stored: int, form: str) -> None:
    if pointers[0] != 0 or not bool((pointers[1:] >= pointers[:-1]).all()):
        raise ValueError(
            f"`{name}.{part}` must begin with 0 and never fall; build the {form} array "
            "anew from its rows, columns and values"
        )
    if pointers[-1] > stored:
        raise ValueError(
            f"`{name}.{part}` must end with the number of entries stored, {stored}, got "
            f"{int(pointers[-1])}; build the {form} array anew"
        )


def _check_count(name: str, part: str, size: int, expected: int) -> None:
    if size != expected:
        raise ValueError(
            f"`{name}.{part}` must have {expected} entries to fit the array, got {size}"
        )


def _check_below(name: str, part: str, indices: Any, limit: int) -> None:
    """As `_check_range`, for arrays, in one pass."""
    if indices.size == 0:
        return
    # Without their signs negative ones are large: one pass finds both kinds.
    unsigned = indices.view(indices.dtype.str.replace("i", "u"))
    if unsigned.max() >= limit:
        _check_range(name, part, indices, limit)


def _check_range(name: str, part: str, indices: Any, limit: int) -> None:
    if 0 in indices.shape:
        return
    is_wrong = (indices < 0) | (indices >= limit)
    if bool(is_wrong.any()):
        raise ValueError(
            f"`{name}.{part}` must lie between 0 and {limit - 1}, got {int(indices[is_wrong][0])}; "
            "build the array anew from its rows, columns and values"
        )
