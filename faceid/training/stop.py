"""Stopping well: a signal sets a flag; all ranks agree on it at a step's end, save, and leave with exit code 75.

Nothing is saved inside the signal handler. A file STOP in the run folder does the same for people without signals.
"""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

STOPPED_EXIT_CODE = 75
"""Checkpointed, please run the same command again (EX_TEMPFAIL)."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


class StopFlag:
    """Whether this run was asked to stop."""

    def __init__(self, run_folder: Path, is_main: bool) -> None:
        self.file, self.is_main = run_folder / "STOP", is_main
        self.is_set = False
        for number in SIGNALS:
            signal.signal(number, self._set)

    def is_asked(self) -> bool:
        """Whether this process was asked. A STOP file is used up by this, by the main process."""
        if self.is_main and self.file.exists():
            self.file.unlink()
            self.is_set = True
        return self.is_set

    def _set(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True


def ignore_stop_signals(worker: int) -> None:
    """For a reader process: launchers signal the whole group, and a reader that ends takes the run with it.

    The readers end when the run closes them. worker: its number.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
