"""Fixed points ``x = f(x)`` of any map: what is iterated is ``x ← x + ω(f(x) − x)``.

With J the Jacobian of f at the fixed point and ``B = I − J``, errors are multiplied by
``I − ωB`` near it, so B stands where the Hessian stands in a quadratic problem, and the residual
``f(x) − x ≈ −B(x − x*)`` where minus the gradient does.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Generic

import numpy as np

from stepfold._arrays import (
    copy_of,
    detached,
    epsilon,
    largest_entry,
    namespace,
    requires_derivatives,
    without_graph,
    without_labels,
)
from stepfold._checks import check_numbers
from stepfold._show import as_call
from stepfold._typing import ArrayT

# `first_residual` evaluates the map twice at one point.
EVALUATIONS_AT_START = 2
# Two evaluations at one point may differ by the order in which threads add.
REPEATABLE = 100


class StochasticMapWarning(UserWarning):
    """The map returned two different values at one point."""


class GradientWarning(UserWarning):
    """The map depends on tensors that require gradients, and its fixed point carries none."""


class FixedPoint(Generic[ArrayT]):
    """The equation ``x = f(x)``.

    Args:
        map: f, from arrays of NumPy or torch, of any shape, to arrays of the same shape and dtype.
            It must not change its argument.

    Raises:
        TypeError: If ``map`` is not callable.

    >>> problem = FixedPoint(np.cos)
    >>> problem.residual(np.array([0.0]))
    array([1.])
    """

    def __repr__(self) -> str:
        return as_call(self)

    def __init__(self, map: Callable[[ArrayT], ArrayT]) -> None:  # noqa: A002 (the field's word)
        if isinstance(map, FixedPoint):
            raise TypeError("`map` must be the map itself, got a FixedPoint; give its `map`")
        if not callable(map):
            raise TypeError(f"`map` must be callable, got {type(map).__name__}")
        self.map = map
        self._differentiates = False

    @property
    def clock(self) -> Callable[[], float]:
        """What tells a run the seconds."""
        return time.perf_counter

    def agree(self, **settings: Any) -> None:
        """Called by `solve` with what it was asked for, before anything else; does nothing here."""

    @property
    def products_per_gradient(self) -> int:
        """Evaluations that one residual costs: 1."""
        return 1

    def rows_of(self, places: Sequence[int]) -> None:
        """None: f is asked about all rows of a batch."""
        del places

    def residual(self, x: ArrayT) -> ArrayT:
        """``f(x) − x``, of the shape of ``x``; one evaluation.

        Raises:
            TypeError: If what f returns is not an array of the kind and dtype of ``x``.
            ValueError: If it has another shape.
        """
        image: Any = self.image(x)
        residual: ArrayT = image - x
        return residual

    def relaxation_step(self, x: ArrayT, omega: Any) -> ArrayT:
        """``x + omega·(f(x) − x)``; one evaluation."""
        return relaxed(x, omega, self.residual(x))

    def image(self, x: ArrayT) -> ArrayT:
        """``f(x)``, checked to be such an array as ``x``; one evaluation."""
        # NumPy's arithmetic makes scalars of arrays without axes.
        given: Any = np.asarray(x) if isinstance(x, np.generic) else x
        image: Any = self.map(given)
        if isinstance(given, np.ndarray) and isinstance(image, np.generic):
            image = np.asarray(image)
        if not isinstance(image, type(given)):
            raise TypeError(
                f"`map` must return such an array as it is given, {type(given).__name__}, "
                f"got {type(image).__name__}"
            )
        if image.shape != given.shape:
            raise ValueError(
                f"`map` must keep the shape, got {tuple(image.shape)} "
                f"for an argument of shape {tuple(given.shape)}"
            )
        if image.dtype != given.dtype:
            raise TypeError(
                f"`map` must keep the dtype, got {image.dtype} for an argument of {given.dtype}; "
                "convert the start or what the map returns"
            )
        checked: ArrayT = image
        return checked


def relaxed(x: ArrayT, omega: Any, residual: ArrayT) -> ArrayT:
    """``x + omega·(f(x) − x)``, from a residual that is known."""
    moved: ArrayT = x + omega * residual
    return moved


def start_of(x0: Any) -> Any:
    """Return a start as a new array of floats that belongs to nobody else.

    Raises:
        TypeError: If ``x0`` is no array of numbers.
        ValueError: If it is empty or not finite.
    """
    x0 = without_labels("x0", x0)
    if isinstance(x0, (list, tuple, float, int, np.generic)):
        x0 = np.asarray(x0)
    if not hasattr(x0, "ndim") or not hasattr(x0, "dtype"):
        raise TypeError(f"`x0` must be an array, got {type(x0).__name__}")
    if 0 in x0.shape:
        raise ValueError(f"`x0` must hold at least one number, got shape {tuple(x0.shape)}")
    # Not `1 * x0`, which makes a scalar of an array without axes.
    return copy_of(check_numbers("x0", detached(x0), allow_complex=True))


def first_residual(
    problem: FixedPoint[Any], x: Any, *, differentiable: bool = False
) -> tuple[Any, bool]:
    """The residual at the start, from two evaluations, and whether they differ.

    Only the first is made as the caller would make it: of the others nothing is recorded, unless
    the map cannot do without.

    Raises:
        ValueError: If the map changes its argument, or is not finite at the start.

    Warns:
        StochasticMapWarning: If the two evaluations differ.
        GradientWarning: If the first requires a gradient, and ``differentiable`` is false.
    """
    given = copy_of(x)
    argument = detached(x)
    recorded = problem.residual(argument)
    # A map may ask for the gradient of its argument, to take a derivative on the way.
    if requires_derivatives(recorded) and not argument.requires_grad and not differentiable:
        warnings.warn(
            "The map depends on tensors that require gradients, and the fixed point carries none. "
            "If they are wanted, call `accelerate(..., differentiable=True)` or "
            "`stepfold.unfolded.fixed_point`; if not, call this under `torch.no_grad()`.",
            GradientWarning,
            stacklevel=3,
        )
    residual = copy_of(detached(recorded))
    del recorded
    try:
        again = bare_residual(problem, x)
    except RuntimeError:
        problem._differentiates = True
        again = bare_residual(problem, x)
    if not bool(namespace(x).all(given == x)):
        raise ValueError("`map` changed its input array in place; return a new array")
    size = largest_entry(residual)
    if not np.isfinite(size):
        raise ValueError(
            "`map` must be finite at the start, got NaN or infinity in f(x0); "
            "start where the map is defined"
        )
    eps = epsilon(x)
    difference = largest_entry(residual - again)
    is_stochastic = difference > REPEATABLE * eps * (size + largest_entry(x))
    if is_stochastic:
        warnings.warn(
            f"The map is stochastic: two evaluations at x0 differ by {difference:.3g}. The "
            "residual cannot fall below the noise, and nothing said about rates holds; fix the "
            "map's random numbers.",
            StochasticMapWarning,
            stacklevel=3,
        )
    return residual, is_stochastic


def bare_residual(problem: FixedPoint[Any], x: Any) -> Any:
    """The residual at ``x``, of which nothing is recorded; see `first_residual`."""
    point = detached(x)
    if problem._differentiates:
        return detached(problem.residual(point))
    with without_graph(x):
        return problem.residual(point)
