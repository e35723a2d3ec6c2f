"""Our methods behind SciPy's interfaces.

`chebyshev` takes the place of ``cg``, `lsq_chebyshev` stands beside ``lsqr``, and
`as_preconditioner` makes a schedule the ``M`` of SciPy's solvers.
"""

from stepfold.interop.scipy.least_squares import LsqResult, lsq_chebyshev
from stepfold.interop.scipy.linear import chebyshev
from stepfold.interop.scipy.preconditioner import as_preconditioner

__all__ = ["LsqResult", "as_preconditioner", "chebyshev", "lsq_chebyshev"]
