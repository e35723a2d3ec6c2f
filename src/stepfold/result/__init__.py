"""What runs return: of `solve`, and of training."""

from stepfold.result.solving import GuardEvent, History, Result, Status
from stepfold.result.training import TrainingHistory, TrainingRun

__all__ = ["GuardEvent", "History", "Result", "Status", "TrainingHistory", "TrainingRun"]
