"""Penalties g of a composite objective f + g, and their proximal operators."""

from stepfold.problems.penalties.base import PENALTIES, Penalty
from stepfold.problems.penalties.l1 import L1

__all__ = ["L1", "PENALTIES", "Penalty"]
