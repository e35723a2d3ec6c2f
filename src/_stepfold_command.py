"""The program `stepfold`, apart from the package: importing that takes a moment.

Ctrl-C in that moment would end in a traceback from the middle of some import.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130


def main() -> None:
    """Load the command line and run it."""
    # A shell that starts a program in the background has it ignore Ctrl-C; so it stays.
    is_watched = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_watched:
        signal.signal(signal.SIGINT, _leave)
    from stepfold.cli import main as run

    try:
        if is_watched:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    except KeyboardInterrupt:
        _leave()
    finally:
        if is_watched:  # all is said: the exit code stays what it is
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _leave(_number: int = signal.SIGINT, _frame: FrameType | None = None) -> None:
    sys.stderr.write("Interrupted.\n")
    sys.stderr.flush()
    os._exit(INTERRUPTED)
