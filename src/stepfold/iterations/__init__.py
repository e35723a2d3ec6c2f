"""Iterations: what a step size does."""

from stepfold.iterations.base import Iteration
from stepfold.iterations.gradient import GradientDescent

__all__ = ["GradientDescent", "Iteration"]
