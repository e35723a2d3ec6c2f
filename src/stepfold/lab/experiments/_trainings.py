"""What many trainings found, in numbers for words, tables and figures.

A training that diverged counts as one that ends at infinity; it is never left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._typing import FloatArray
from stepfold.lab.curves import whole
from stepfold.measure import SpectralMeasure
from stepfold.schedules import optimal_steps
from stepfold.schedules.ordering import outside_in_order

# Where the expected value of a check is from.
PAPER = "the paper"
THEORY = "theory"
EARLIER = "an earlier run"

# Of three numbers in random order the middle one is the largest or the smallest in two cases of
# three.
RANDOM_TURNS = 2 / 3


def spread(values: Any, digits: int = 2) -> str:
    """Median and range in words, or the value alone if all are the same to these digits.

    >>> spread([1.0, 3.0, 2.0]), spread([0.5, 0.5]), spread([2711.0, 2e-7])
    ('2 (1 to 3)', '0.5', '1,400 (2e-07 to 2,700)')
    """
    found = whole(values)
    median, low, high = (
        _shown(float(value), digits) for value in (np.median(found), found.min(), found.max())
    )
    return median if low == high else f"{median} ({low} to {high})"


def _shown(value: float, digits: int) -> str:
    text = f"{value:.{digits}g}"
    return f"{float(text):,.0f}" if 100 <= value < 1e5 else text


def counted(number: int, word: str, several: str = "") -> str:
    """A number with its noun.

    >>> counted(1, "training"), counted(2, "matrix", "matrices")
    ('1 training', '2 matrices')
    """
    return f"{number} {word if number == 1 else several or word + 's'}"


def share_of_turns(steps: FloatArray) -> FloatArray:
    """Share of inner layers that are longer, or shorter, than both neighbours; steps (R, T ≥ 3)."""
    rises = np.sign(np.diff(steps, axis=1))
    share: FloatArray = (rises[:, 1:] * rises[:, :-1] < 0).mean(axis=1)
    return share


def pairs_are_outside_in(steps: FloatArray) -> NDArray[np.bool_]:
    """Whether layers 1 and 2 hold the outermost steps, 3 and 4 the next two, …; steps (R, T)."""
    ascending = np.sort(steps, axis=1)
    expected = ascending[:, outside_in_order(ascending[0])]
    holds = np.ones(len(steps), dtype=bool)
    for k in range(0, steps.shape[1], 2):
        pair, wanted = (np.sort(each[:, k : k + 2], axis=1) for each in (steps, expected))
        holds &= (pair == wanted).all(axis=1)
    return holds


def ranks(steps: FloatArray) -> NDArray[np.intp]:
    """Place of each layer's step in ascending order, from 0; steps of shape (R, T)."""
    return np.argsort(np.argsort(steps, axis=1), axis=1)


def predicted_ranks(
    measures: Sequence[SpectralMeasure], period: int, initial_step: float
) -> NDArray[np.intp]:
    """Places of the layers if steps never overtake each other, for each measure, shape (M, T).

    A new layer enters among the optimal steps of the layers before it, and all keep their order.
    """
    found = np.empty((len(measures), period), dtype=np.intp)
    for row, measure in zip(found, measures, strict=True):
        layers: list[int] = []  # from the shortest step to the longest
        for layer in range(period):
            shorter = (optimal_steps(measure, layer).steps < initial_step).sum() if layer else 0
            layers.insert(int(shorter), layer)
        row[layers] = np.arange(period)
    return found
