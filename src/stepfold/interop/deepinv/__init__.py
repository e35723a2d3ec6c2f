"""Stepfold beside deepinv: its physics and priors in our methods, our steps in its optimisers.

deepinv holds images as tensors of shape (batch, channel, height, width), we hold vectors as rows.
A complex entry is two real ones here, so that every map is real and its adjoint is its transpose.
deepinv itself is not imported: what is asked of its objects are the methods ``A`` and ``A_adjoint``
of a ``LinearPhysics``, ``prox`` and ``fn`` of a ``Prior`` and the call of a ``Denoiser``. Written
for deepinv 0.5.
"""

from __future__ import annotations

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "`stepfold.interop.deepinv` needs torch, which is not installed; "
        "install it with `pip install 'stepfold[unfolded]'`",
        name=error.name,
    ) from error

from stepfold.interop.deepinv.data_step import ChebyshevL2
from stepfold.interop.deepinv.physics import PhysicsOperator
from stepfold.interop.deepinv.priors import PriorPenalty
from stepfold.interop.deepinv.steps import schedule_of, stepsizes

__all__ = ["ChebyshevL2", "PhysicsOperator", "PriorPenalty", "schedule_of", "stepsizes"]
