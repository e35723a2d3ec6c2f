"""Step sizes of iterative methods: computed from the spectrum, learned by unfolding, explained.

The pipeline: a `Problem` gives `SpectralBounds` or a `SpectralMeasure`; these give a `Schedule`;
and `solve` runs it, or `solve_composite` where there is a penalty. `stepfold.unfolded` learns
schedules and needs torch; `stepfold.lab` draws and reports and needs matplotlib.
"""

from stepfold.accelerate import accelerate
from stepfold.iterations import GradientDescent, Iteration
from stepfold.measure import SpectralMeasure, lanczos_measure
from stepfold.planner import Plan, plan
from stepfold.polynomial import (
    chebyshev_period_rate,
    chebyshev_rate,
    constant_rate,
    first_order_lower_bound,
    marchenko_pastur_mean_squared_error,
    mean_squared_error,
    mean_squared_error_path,
    num_steps_to,
    optimal_mean_squared_error,
    residual_polynomial,
    spectral_radius,
    worst_case_period_rate,
)
from stepfold.problems import (
    Composite,
    FixedPoint,
    LeastSquares,
    Preconditioned,
    Problem,
    Quadratic,
    lasso,
)
from stepfold.result import History, Result, Status
from stepfold.schedules import (
    Schedule,
    chebyshev_steps,
    constant_steps,
    optimal_steps,
    roundoff_amplification,
)
from stepfold.solve import Guard, solve, solve_composite
from stepfold.spectrum import Certainty, Gram, SpectralBounds, estimate_bounds, exact_eigenvalues

__version__ = "0.1.0"

__all__ = [
    "Certainty",
    "Composite",
    "FixedPoint",
    "GradientDescent",
    "Gram",
    "Guard",
    "History",
    "Iteration",
    "LeastSquares",
    "Plan",
    "Preconditioned",
    "Problem",
    "Quadratic",
    "Result",
    "Schedule",
    "SpectralBounds",
    "SpectralMeasure",
    "Status",
    "accelerate",
    "chebyshev_period_rate",
    "chebyshev_rate",
    "chebyshev_steps",
    "constant_rate",
    "constant_steps",
    "estimate_bounds",
    "exact_eigenvalues",
    "first_order_lower_bound",
    "lanczos_measure",
    "lasso",
    "marchenko_pastur_mean_squared_error",
    "mean_squared_error",
    "mean_squared_error_path",
    "num_steps_to",
    "optimal_mean_squared_error",
    "optimal_steps",
    "plan",
    "residual_polynomial",
    "roundoff_amplification",
    "solve",
    "solve_composite",
    "spectral_radius",
    "worst_case_period_rate",
]
