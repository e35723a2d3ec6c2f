"""What differs between array libraries, in one place.

The rest of the package uses ``+ - * @``, `abs` and indexing, and asks this module for everything
that NumPy, torch, CuPy, JAX and other libraries of the array API standard spell differently. No
library is imported to find out: whoever holds one of its arrays has imported it.

Vectors are rows: one of shape (n,), or a batch of shape (batch, n). Numbers that decide something
(norms, inner products) come to the host as float64 NumPy arrays, in one read for a whole batch.
"""

from __future__ import annotations

from stepfold._arrays.frames import without_labels
from stepfold._arrays.kinds import (
    dtype_kind,
    epsilon,
    has_double,
    is_array,
    is_foreign,
    is_numpy,
    is_sparse_tensor,
    is_torch,
    library,
    namespace,
    same_kind_and_dtype,
    tiny,
)
from stepfold._arrays.making import (
    cast,
    column,
    computed,
    conjugate,
    copy_of,
    derivative_along,
    detached,
    empty_rows,
    from_host,
    put_rows,
    requires_derivatives,
    reshaped,
    row_put,
    sigmoid,
    solve_triangular,
    take,
    to_host,
    without_graph,
    zeros_like,
)
from stepfold._arrays.sums import (
    add_scaled,
    all_finite,
    at_least_single,
    dot,
    dots_together,
    gram_matrix,
    largest_entry,
    norms,
    norms_together,
    numbers_and_norms,
    row_dots,
    scaled,
)

__all__ = [
    "add_scaled",
    "all_finite",
    "at_least_single",
    "cast",
    "column",
    "computed",
    "conjugate",
    "copy_of",
    "derivative_along",
    "detached",
    "dot",
    "dots_together",
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
    "without_labels",
    "zeros_like",
]
