"""Stepfold beside pyproximal: its proximal operators as penalties of a `Composite`.

pyproximal's ``prox(x, tau)`` is the ``prox(v, step)`` of a penalty. Its indicator functions return
True inside their set, which here is 0, and False outside, which here is infinity. Written for
pyproximal 0.9 and later.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from stepfold._arrays import epsilon, is_numpy
from stepfold._extras import check_version, not_installed
from stepfold._typing import ArrayT
from stepfold.problems.penalties.base import Penalty, check_step

NEED = "`stepfold.interop.pyproximal` needs pyproximal >= 0.9"
try:
    import pyproximal
except ModuleNotFoundError as error:
    raise not_installed(NEED, "pyproximal", error) from error
check_version(pyproximal, NEED, "pyproximal")

_NOT_CONVEX = (
    *("ETP", "Geman", "L0", "L01Ball", "L0Ball", "L10Ball", "Log", "Log1", "Nonlinear", "RED"),
    *("QuadraticEnvelopeCard", "QuadraticEnvelopeCardIndicator", "QuadraticEnvelopeRankL2"),
    *("RelaxedMumfordShah", "SCAD"),
)
# Its `prox` takes the branch by |v| > alpha, where |v| > alpha + tau decides: it is not that of its
# value, and its fixed points are no minimisers (pyproximal 0.13).
_WRONG = ("Huber",)
# Those whose value and proximal operator are right for complex numbers too.
_COMPLEX = ("Euclidean", "EuclideanBall", "L1", "L21")
# Units of rounding by which a projection may move a point that counts as in the set.
_SLACK = 1000


def penalty(operator: Any) -> Penalty:
    """A penalty whose value and proximal operator are those of an operator of pyproximal.

    Rows of a batch go through one by one. There is no duality gap: the conjugate is not known.

    Args:
        operator: An instance of ``pyproximal.ProxOperator`` that stands for a convex function.

    Raises:
        TypeError: If it is no such object; later, if vectors are not of NumPy.
        ValueError: If its function is not convex, or holds one that is not; or if its ``prox`` is
            known not to belong to its value (``Huber``).

    >>> import pyproximal
    >>> penalty(pyproximal.L1(sigma=2.0)).prox(np.array([3.0, 1.5, -4.0]), 0.5).tolist()
    [2.0, 0.5, -3.0]
    """
    if not isinstance(operator, pyproximal.ProxOperator):
        raise TypeError(
            f"`operator` must be a pyproximal.ProxOperator, got {type(operator).__name__}; give an "
            "instance such as `pyproximal.L1(sigma=0.1)`"
        )
    _check_convex(operator)
    kind = _Complex if type(operator).__name__ in _COMPLEX else _Real
    return kind(operator)


def _check_convex(operator: Any) -> None:
    name = type(operator).__name__
    if name in _NOT_CONVEX:
        raise ValueError(
            f"`operator` must stand for a convex function, got {name}, which does not; no step "
            "size is known to be safe for it, so run it in pyproximal"
        )
    if name in _WRONG:
        raise ValueError(
            f"`operator` must have the proximal operator of its own value, got {name}, which does "
            "not in pyproximal 0.13; write the function as a `Penalty` of your own"
        )
    inner = [getattr(operator, each, None) for each in ("f", "penalty")]
    for each in (*inner, *(getattr(operator, "ops", None) or ())):
        if isinstance(each, pyproximal.ProxOperator):
            _check_convex(each)


class _Real(Penalty):
    """A convex function of pyproximal, of real vectors."""

    def __init__(self, operator: Any) -> None:
        self.operator = operator

    def value(self, x: Any) -> Any:
        """The function at a vector, or at each row of a batch, shape (batch,)."""
        _check_numpy(x)
        return np.array([self._one(row) for row in x]) if x.ndim > 1 else self._one(x)

    def _one(self, x: Any) -> Any:
        found = self.operator(x.copy())
        if not isinstance(found, bool | np.bool_):
            return np.float64(found)
        # A projected point is often outside by a rounding, which pyproximal does not allow for.
        moved = np.linalg.norm(np.asarray(self.operator.prox(x.copy(), 1.0)) - x)
        is_inside = found or moved <= _SLACK * epsilon(x) * max(1.0, float(np.linalg.norm(x)))
        return np.float64(0.0 if is_inside else math.inf)

    def prox(self, v: ArrayT, step: Any) -> ArrayT:
        """``argmin_x g(x) + ‖x − v‖²/(2·step)``, with one step, or one for each row."""
        check_step(step)
        _check_numpy(v)
        found: ArrayT = self._rows(v, step)
        return found

    def _rows(self, v: Any, step: Any) -> Any:
        if v.ndim == 1:
            return self._proximal(v, float(np.asarray(step).item()))
        steps = np.broadcast_to(np.ravel(np.asarray(step)), v.shape[0])
        pairs = zip(v, steps, strict=True)
        return np.stack([self._proximal(row, float(each)) for row, each in pairs])

    def _proximal(self, v: Any, step: float) -> Any:
        if step == 0:
            step = float(np.finfo(np.float64).tiny)  # pyproximal refuses 0; the limit is meant
        return np.asarray(self.operator.prox(v.copy(), step)).astype(v.dtype, copy=False)


class _Complex(_Real):
    """A convex function of pyproximal, of real or complex vectors."""

    takes_complex: ClassVar[bool] = True


def _check_numpy(x: Any) -> None:
    if not is_numpy(x):
        raise TypeError(
            f"pyproximal's operators take arrays of NumPy, got {type(x).__module__}."
            f"{type(x).__name__}; pose the problem with arrays of NumPy, or use a penalty of "
            "`stepfold.problems.penalties`"
        )
