"""Problems: what is minimised, on NumPy, SciPy and torch alike."""

from stepfold.problems.base import Problem
from stepfold.problems.preconditioned import Preconditioned, jacobi
from stepfold.problems.quadratic import LeastSquares, Quadratic

__all__ = ["LeastSquares", "Preconditioned", "Problem", "Quadratic", "jacobi"]
