"""Linear maps that are known by their products: functions, modules, objects of other packages.

A problem takes them as they are: it calls `linear_map` itself. Call it where something must be
said that the object does not tell: its adjoint, its shape, the shape of its images, or what its
vectors are.

Vectors are arrays of one library, precision and device. A problem knows them from its right-hand
side. Where nothing tells, a first product is tried with a vector of NumPy in double precision, and
if that fails with tensors of torch: double precision before single, real before complex. For a
function or an object that holds tensors, in its closure or its attributes, tensors on their device
are tried first.
"""

from __future__ import annotations

from stepfold.operators.columns import column_squares
from stepfold.operators.indices import check_indices
from stepfold.operators.making import linear_map, map_named
from stepfold.operators.maps import (
    LinearMap,
    OwnOperator,
    adjoint_of,
    apply,
    check_adjoint,
    flipped,
)
from stepfold.operators.products import without_derivatives
from stepfold.operators.sparse import stored_by_rows

__all__ = [
    "LinearMap",
    "OwnOperator",
    "adjoint_of",
    "apply",
    "check_adjoint",
    "check_indices",
    "column_squares",
    "flipped",
    "linear_map",
    "map_named",
    "stored_by_rows",
    "without_derivatives",
]
