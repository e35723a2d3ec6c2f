"""Problems: what is minimised, on NumPy, SciPy and torch alike."""

from stepfold.problems.base import Problem, QuadraticProblem
from stepfold.problems.composite import Composite, landweber, lasso
from stepfold.problems.fixed_point import FixedPoint
from stepfold.problems.images import ImageProblem
from stepfold.problems.logistic import Logistic
from stepfold.problems.preconditioned import Preconditioned, jacobi_preconditioner
from stepfold.problems.quadratic import LeastSquares, Quadratic
from stepfold.problems.splittings import gauss_seidel, jacobi_iteration, sor

__all__ = [
    "Composite",
    "FixedPoint",
    "ImageProblem",
    "LeastSquares",
    "Logistic",
    "Preconditioned",
    "Problem",
    "Quadratic",
    "QuadraticProblem",
    "gauss_seidel",
    "jacobi_iteration",
    "jacobi_preconditioner",
    "landweber",
    "lasso",
    "sor",
]
