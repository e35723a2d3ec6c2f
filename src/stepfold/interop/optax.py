"""Stepfold beside optax: a schedule as a function of the step's count, also under ``jax.jit``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepfold._extras import check_version, not_installed
from stepfold.schedules import Schedule
from stepfold.schedules.base import check_schedule

NEED = "`stepfold.interop.optax` needs optax >= 0.2"
try:
    import jax.numpy as jnp
    import optax
except ModuleNotFoundError as error:
    raise not_installed(f"`stepfold.interop.optax` needs {error.name}", "optax", error) from error
check_version(optax, NEED, "optax")

__all__ = ["learning_rate"]


def learning_rate(schedule: Schedule) -> Callable[[Any], Any]:
    """What optax takes as ``learning_rate``: the steps in turn, from the beginning after T of them.

    The guarantees of a schedule are for ``optax.sgd`` without momentum.

    Args:
        schedule: Positive steps, in units of 1 / Hessian of the loss as it is differentiated.

    Returns:
        A function from a count 0, 1, … to a JAX scalar, in double precision where
        ``jax_enable_x64`` is set, in single precision otherwise. The count may be traced.

    Raises:
        TypeError: If it is not a `Schedule`.
        ValueError: If a step is not positive.

    >>> optimizer = optax.sgd(learning_rate(Schedule([0.5, 0.25])))
    >>> [float(learning_rate(Schedule([0.5, 0.25]))(count)) for count in range(3)]
    [0.5, 0.25, 0.5]
    """
    check_schedule(schedule, or_none=False)
    steps = schedule.steps

    def step(count: Any) -> Any:
        # Made here and not before: the precision is what JAX is set to when it is asked.
        return jnp.asarray(steps)[jnp.asarray(count) % steps.size]

    return step
