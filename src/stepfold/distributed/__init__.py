"""Problems whose data lie in several processes, and the processes.

Each process holds some rows, or owns some unknowns; the run is the one of `stepfold.solve`.
Processes are linked by torchrun (`processes`), by MPI
(`stepfold.interop.mpi4py`), or there is one.
"""

from stepfold.distributed.checkpoint import resumable_solve
from stepfold.distributed.exchange import PeerError
from stepfold.distributed.group import Alone, Group, current_group, processes
from stepfold.distributed.layout import Layout
from stepfold.distributed.parts import Parts, list_parts, write_parts
from stepfold.distributed.rows import ShardedFixedPoint, ShardedLeastSquares
from stepfold.distributed.spread import Spread, gathered
from stepfold.distributed.unknowns import ShardedQuadratic

__all__ = [
    "Alone",
    "Group",
    "Layout",
    "Parts",
    "PeerError",
    "ShardedFixedPoint",
    "ShardedLeastSquares",
    "ShardedQuadratic",
    "Spread",
    "current_group",
    "gathered",
    "list_parts",
    "processes",
    "resumable_solve",
    "write_parts",
]
