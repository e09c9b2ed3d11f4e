"""Let a worker that is told to stop (SIGTERM) leave as from an error.

It cleans up what it holds on the way.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

# The exit code that a shell reports.
TOLD_TO_STOP = 128 + signal.SIGTERM


def stop_when_told() -> None:
    """Make SIGTERM end this process by SystemExit from now on, so that every `with` and `finally` is left properly."""
    signal.signal(signal.SIGTERM, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    # A second SIGTERM ends the process at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.exit(TOLD_TO_STOP)
