"""Step sizes of iterative methods: computed from the spectrum, learned by unfolding, explained.

The pipeline: a `Problem` gives `SpectralBounds` or a `SpectralMeasure`; these give a `Schedule`;
and `solve` runs it. What is here is what most programs need first; the rest is in the modules.
`stepfold.unfolded` learns schedules and needs torch; `stepfold.lab` draws and reports and needs
matplotlib.
"""

from stepfold.accelerate import accelerate
from stepfold.measure import SpectralMeasure, lanczos_measure
from stepfold.planner import plan
from stepfold.problems import (
    Composite,
    FixedPoint,
    LeastSquares,
    Logistic,
    Problem,
    Quadratic,
    lasso,
)
from stepfold.problems.penalties import L1
from stepfold.result import Result, Status
from stepfold.run.period import period
from stepfold.schedules import (
    Schedule,
    chebyshev_steps,
    constant_steps,
    optimal_steps,
    silver_steps,
)
from stepfold.solve import Guard, solve
from stepfold.spectrum import Gram, SpectralBounds, estimate_bounds

__version__ = "0.2.0"

__all__ = [
    "L1",
    "Composite",
    "FixedPoint",
    "Gram",
    "Guard",
    "LeastSquares",
    "Logistic",
    "Problem",
    "Quadratic",
    "Result",
    "Schedule",
    "SpectralBounds",
    "SpectralMeasure",
    "Status",
    "accelerate",
    "chebyshev_steps",
    "constant_steps",
    "estimate_bounds",
    "lanczos_measure",
    "lasso",
    "optimal_steps",
    "period",
    "plan",
    "silver_steps",
    "solve",
]
