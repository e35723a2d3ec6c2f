"""Step sizes: the record, the families that make them, and the orders to take them in."""

from stepfold.schedules.base import SCHEDULES, Schedule, ScheduleBuilder
from stepfold.schedules.chebyshev import chebyshev_steps
from stepfold.schedules.constant import constant_steps
from stepfold.schedules.optimal import optimal_steps
from stepfold.schedules.ordering import ORDERS, roundoff_amplification, safe_order

__all__ = [
    "ORDERS",
    "SCHEDULES",
    "Schedule",
    "ScheduleBuilder",
    "chebyshev_steps",
    "constant_steps",
    "optimal_steps",
    "roundoff_amplification",
    "safe_order",
]
