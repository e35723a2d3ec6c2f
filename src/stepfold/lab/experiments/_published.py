"""The published setting, which experiments share: the matrix and the length of a training."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.parameters import Between

Seed = Annotated[int, Between(0, 2**32 - 1)]

NUM_ITERATIONS = 500


def published_matrix(seed: int = 12, num_unknowns: int = 300, num_rows: int = 600) -> FloatArray:
    """The published random H, of shape (rows, unknowns), entries of variance 1/unknowns."""
    # The published draw is this generator's; nothing else here uses it.
    legacy = np.random.RandomState(seed)
    shape = (num_unknowns, num_rows)
    matrix: FloatArray = legacy.normal(0, 1 / np.sqrt(num_unknowns), shape).T
    return matrix
