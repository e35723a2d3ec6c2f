"""What is said of a training, or of a network, that does not do what it seems to do."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator


class TrainingWarning(UserWarning):
    """A training runs, and will not learn what it should; or raw values are not those in use."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Say nothing meanwhile."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        yield
