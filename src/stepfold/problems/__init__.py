"""Problems: what is minimised, on NumPy, SciPy and torch alike."""

from stepfold.problems.base import Problem
from stepfold.problems.fixed_point import FixedPoint
from stepfold.problems.preconditioned import Preconditioned, jacobi
from stepfold.problems.quadratic import LeastSquares, Quadratic

__all__ = ["FixedPoint", "LeastSquares", "Preconditioned", "Problem", "Quadratic", "jacobi"]
