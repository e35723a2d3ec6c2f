"""Networks of the literature, each ready to be trained: `NETWORKS` finds them by name."""

from stepfold.unfolded.networks.base import NETWORKS, Task, TrainingSettings

__all__ = ["NETWORKS", "Task", "TrainingSettings"]
