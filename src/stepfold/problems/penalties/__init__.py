"""Penalties g of a composite objective f + g, and their proximal operators."""

from stepfold.problems.penalties.ball import Ball
from stepfold.problems.penalties.base import (
    PENALTIES,
    ConjugatePenalty,
    Face,
    Penalty,
    SeparablePenalty,
)
from stepfold.problems.penalties.box import Box, nonnegative
from stepfold.problems.penalties.elastic_net import ElasticNet
from stepfold.problems.penalties.group_l1 import GroupL1
from stepfold.problems.penalties.l1 import L1
from stepfold.problems.penalties.nuclear_norm import NuclearNorm
from stepfold.problems.penalties.simplex import Simplex
from stepfold.problems.penalties.total_variation import TotalVariation

__all__ = [
    "L1",
    "PENALTIES",
    "Ball",
    "Box",
    "ConjugatePenalty",
    "ElasticNet",
    "Face",
    "GroupL1",
    "NuclearNorm",
    "Penalty",
    "SeparablePenalty",
    "Simplex",
    "TotalVariation",
    "nonnegative",
]
