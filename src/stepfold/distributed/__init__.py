"""Problems whose data lie in several processes, and the processes.

Each process holds some rows; the run is the one of `stepfold.solve`. Processes are linked by
torchrun (`processes`), by MPI (`stepfold.interop.mpi4py`), or there is one.
"""

from stepfold.distributed.exchange import PeerError
from stepfold.distributed.group import Alone, Group, current_group, processes
from stepfold.distributed.rows import ShardedFixedPoint, ShardedLeastSquares

__all__ = [
    "Alone",
    "Group",
    "PeerError",
    "ShardedFixedPoint",
    "ShardedLeastSquares",
    "current_group",
    "processes",
]
