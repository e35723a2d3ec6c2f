"""Experiments, figures and reports. Drawing needs matplotlib, which the extra ``lab`` brings."""

from stepfold.lab.figure import Axis, Curve, Figure, Level
from stepfold.lab.formula import Formula
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.picture import Image, Pictures

__all__ = [
    "Axis",
    "Check",
    "Curve",
    "Figure",
    "Formula",
    "Image",
    "Level",
    "Outcome",
    "Pictures",
    "Section",
    "Table",
]
