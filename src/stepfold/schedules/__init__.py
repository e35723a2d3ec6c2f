"""Step sizes: the record, the families that make them, and the orders to take them in."""

from stepfold.schedules.arcsine import arcsine_steps
from stepfold.schedules.base import SCHEDULES, Schedule, ScheduleBuilder
from stepfold.schedules.chebyshev import chebyshev_steps
from stepfold.schedules.composed import (
    anytime_steps,
    composed_period_rate,
    obs_f_steps,
    obs_g_steps,
    obs_s_steps,
)
from stepfold.schedules.constant import constant_steps, inverse_upper_bound_steps
from stepfold.schedules.intervals import (
    chebyshev_steps_for_intervals,
    minimax_period_rate,
    spectral_intervals,
    worst_case_period_rate_on_intervals,
)
from stepfold.schedules.noisy import (
    RidgeSteps,
    noise_aware_ridge,
    noise_aware_steps,
    noisy_mean_squared_error,
)
from stepfold.schedules.optimal import optimal_steps
from stepfold.schedules.ordering import ORDERS, roundoff_amplification, safe_order
from stepfold.schedules.silver import (
    silver_convex_period_rate,
    silver_convex_steps,
    silver_period_rate,
    silver_steps,
)
from stepfold.schedules.smoothing import optimised_fourth_kind_steps, smoothing_constant

__all__ = [
    "ORDERS",
    "SCHEDULES",
    "RidgeSteps",
    "Schedule",
    "ScheduleBuilder",
    "anytime_steps",
    "arcsine_steps",
    "chebyshev_steps",
    "chebyshev_steps_for_intervals",
    "composed_period_rate",
    "constant_steps",
    "inverse_upper_bound_steps",
    "minimax_period_rate",
    "noise_aware_ridge",
    "noise_aware_steps",
    "noisy_mean_squared_error",
    "obs_f_steps",
    "obs_g_steps",
    "obs_s_steps",
    "optimal_steps",
    "optimised_fourth_kind_steps",
    "roundoff_amplification",
    "safe_order",
    "silver_convex_period_rate",
    "silver_convex_steps",
    "silver_period_rate",
    "silver_steps",
    "smoothing_constant",
    "spectral_intervals",
    "worst_case_period_rate_on_intervals",
]
