"""Names that every doctest may use."""

from typing import Any

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _numpy_in_doctests(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace["np"] = np
    np.set_printoptions(legacy=False)  # as before ODL was imported
