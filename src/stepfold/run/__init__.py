"""The engine: a ledger, a loop, measures and policies, behind `solve` and `accelerate`."""

from stepfold.run.ledger import Budgets, Ledger, Seen, Terms
from stepfold.run.loop import Loop, Policy
from stepfold.run.measures import GradientNorm, Measure, ProximalStep

__all__ = [
    "Budgets",
    "GradientNorm",
    "Ledger",
    "Loop",
    "Measure",
    "Policy",
    "ProximalStep",
    "Seen",
    "Terms",
]
