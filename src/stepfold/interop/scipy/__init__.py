"""Stepfold beside SciPy: its solvers on our problems, and our methods behind its interfaces.

`chebyshev` takes the place of ``cg``, `lsq_chebyshev` stands beside ``lsqr``, `as_preconditioner`
makes a schedule the ``M`` of SciPy's solvers, and `solve_with` runs those on our problems.
"""

from stepfold.interop.scipy.adapter import solve_with
from stepfold.interop.scipy.least_squares import LsqResult, lsq_chebyshev
from stepfold.interop.scipy.linear import chebyshev
from stepfold.interop.scipy.preconditioner import as_preconditioner

__all__ = ["LsqResult", "as_preconditioner", "chebyshev", "lsq_chebyshev", "solve_with"]
