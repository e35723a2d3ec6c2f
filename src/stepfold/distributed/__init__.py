"""Problems whose data lie in several processes, and the processes.

Each process holds some rows; the run is the one of `stepfold.solve`. Processes are linked by
torchrun (`processes`), by MPI (`stepfold.interop.mpi4py`), or there is one.
"""

from stepfold.distributed.checkpoint import resumable_solve
from stepfold.distributed.exchange import PeerError
from stepfold.distributed.group import Alone, Group, current_group, processes
from stepfold.distributed.parts import Parts, list_parts, write_parts
from stepfold.distributed.rows import ShardedFixedPoint, ShardedLeastSquares

__all__ = [
    "Alone",
    "Group",
    "Parts",
    "PeerError",
    "ShardedFixedPoint",
    "ShardedLeastSquares",
    "current_group",
    "list_parts",
    "processes",
    "resumable_solve",
    "write_parts",
]
