"""Schedules as the step sizes of deepinv's optimisers and networks, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepfold._checks import check_count
from stepfold.schedules import Schedule
from stepfold.schedules.base import check_schedule


def stepsizes(schedule: Schedule, max_iter: int) -> list[float]:
    """The steps of ``max_iter`` iterations, which deepinv's optimisers take as ``stepsize``.

    deepinv does not repeat a list: it holds a single step for all iterations, and refuses a list
    that is shorter than ``max_iter``. With ``unfold=True`` each entry is trained by itself.

    Args:
        schedule: T steps, which repeat; a longer one is cut.
        max_iter: The optimiser's.

    >>> stepsizes(Schedule([0.5, 0.25]), 5)
    [0.5, 0.25, 0.5, 0.25, 0.5]
    """
    check_schedule(schedule, or_none=False, signed=True)
    return [schedule(count) for count in range(check_count("max_iter", max_iter))]


def schedule_of(model: Any) -> Schedule:
    """The steps of an optimiser or an unfolded network of deepinv, learned or given.

    Args:
        model: What has ``params_algo`` with "stepsize", one entry or one for each iteration.

    Raises:
        TypeError: If there are none.
        ValueError: If one is not positive; deepinv does not keep them so.

    >>> import torch
    >>> class Model:
    ...     params_algo = {"stepsize": [torch.tensor(0.5), torch.tensor(0.25)]}
    >>> schedule_of(Model()).steps.tolist()
    [0.5, 0.25]
    """
    parameters = getattr(model, "params_algo", None)
    if parameters is None or "stepsize" not in parameters:
        raise TypeError(
            f"`model` must be an optimiser of deepinv with a `stepsize`, got {type(model).__name__}"
        )
    steps: Sequence[Any] = parameters["stepsize"]
    return Schedule(np.array([float(step) for step in steps]), "deepinv's")
