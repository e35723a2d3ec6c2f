"""The fractal order: Lebedev's with the largest step first.

Both interleave an order of T with its mirror image into one of 2T; the paper on fractal learning
rates numbers its steps downwards where we number them upwards. The same factors then come mirrored:
the iterate may first grow by as much as κ, and in exchange no tail of factors exceeds 1, so that an
error made on the way is never multiplied. With inexact gradients that is the order to take; on
nonlinear problems, which a first step of 1/a leaves, it is not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stepfold._typing import FloatArray
from stepfold.schedules.ordering import ORDERS, lebedev_order


@ORDERS.register("fractal")
def fractal_order(steps: FloatArray) -> NDArray[np.intp]:
    """Lebedev order counted from the largest step.

    Args:
        steps: Any T ascending numbers; only T is looked at.

    References:
        Agarwal, Goel and Zhang, Acceleration via Fractal Learning Rate Schedules (ICML 2021;
        arXiv:2103.01338).

    >>> fractal_order(np.arange(8)) + 1
    array([8, 1, 5, 4, 7, 2, 6, 3])
    """
    mirrored: NDArray[np.intp] = steps.size - 1 - lebedev_order(steps)
    return mirrored
