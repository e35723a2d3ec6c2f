"""Experiments, figures and reports. Drawing needs matplotlib: ``pip install 'stepfold[lab]'``."""

from stepfold.lab.figure import Axis, Curve, Figure
from stepfold.lab.outcome import Check, Outcome, Section, Table

__all__ = ["Axis", "Check", "Curve", "Figure", "Outcome", "Section", "Table"]
