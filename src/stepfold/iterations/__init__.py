"""Iterations: what a step size does.

A method is a pair of a schedule and an iteration; `heavy_ball`, `nesterov`, `semi_iteration` and
`barzilai_borwein` make both from bounds.
"""

from stepfold.iterations.barzilai_borwein import BarzilaiBorwein, barzilai_borwein
from stepfold.iterations.base import Iteration
from stepfold.iterations.fista import Fista
from stepfold.iterations.gradient import GradientDescent
from stepfold.iterations.momentum import HeavyBall, Nesterov, heavy_ball, nesterov
from stepfold.iterations.proximal import ProximalGradient
from stepfold.iterations.relaxation import Relaxation
from stepfold.iterations.semi_iteration import SemiIteration, semi_iteration

__all__ = [
    "BarzilaiBorwein",
    "Fista",
    "GradientDescent",
    "HeavyBall",
    "Iteration",
    "Nesterov",
    "ProximalGradient",
    "Relaxation",
    "SemiIteration",
    "barzilai_borwein",
    "heavy_ball",
    "nesterov",
    "semi_iteration",
]
