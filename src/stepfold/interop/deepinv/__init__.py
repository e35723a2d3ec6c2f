"""Stepfold beside deepinv: its physics and priors in our methods, our steps in its optimisers.

deepinv holds images as tensors of shape (batch, channel, height, width), we hold vectors as rows.
A complex entry is two real ones here, so that every map is real and its adjoint is its transpose.
deepinv itself is not imported: what is asked of its objects are the methods ``A`` and ``A_adjoint``
of a ``LinearPhysics``, ``prox`` and ``fn`` of a ``Prior`` and the call of a ``Denoiser``. Written
for deepinv 0.5.
"""

from __future__ import annotations

from stepfold._extras import not_installed

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    raise not_installed("`stepfold.interop.deepinv` needs torch", "unfolded", error) from error

from stepfold.interop.deepinv.data_step import ChebyshevL2
from stepfold.interop.deepinv.physics import PhysicsOperator
from stepfold.interop.deepinv.priors import PriorPenalty
from stepfold.interop.deepinv.steps import schedule_of, stepsizes

__all__ = ["ChebyshevL2", "PhysicsOperator", "PriorPenalty", "schedule_of", "stepsizes"]
