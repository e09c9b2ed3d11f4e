"""A worker that is told to stop (SIGTERM) leaves as from an error: what it holds and has lying about goes with it."""

from __future__ import annotations

import signal
import sys
from types import FrameType

# As a shell says it.
TOLD_TO_STOP = 128 + signal.SIGTERM


def stop_when_told() -> None:
    """From now on SIGTERM ends this process by SystemExit, so that every `with` and `finally` on the way is left."""
    signal.signal(signal.SIGTERM, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    # A second one ends it at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.exit(TOLD_TO_STOP)
