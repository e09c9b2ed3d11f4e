"""Stop well: a signal sets a flag.

All ranks agree on it at a step's end, save, and leave with exit code 75. Nothing is saved inside the signal handler. A
file STOP in the run folder does the same for people without signals.
"""

from __future__ import annotations

import logging
import signal
import time
from pathlib import Path
from types import FrameType

from faceid.training.world.attempts import BY_FILE

log = logging.getLogger(__name__)

STOPPED_EXIT_CODE = 75
"""EX_TEMPFAIL: the state is saved, please run the same command again."""
STOP_FILE = "STOP"
SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


class StopFlag:
    """Whether this run was asked to stop."""

    def __init__(self, run_folder: Path, is_main: bool) -> None:
        self.file, self.is_main = run_folder / STOP_FILE, is_main
        self.is_set = self._is_stuck = False
        self.by = "a signal to another process"
        self._since: float | None = None
        for number in SIGNALS:
            signal.signal(number, self._set)

    def is_asked(self) -> bool:
        """Whether this process was asked to stop. The main process removes a STOP file when it sees it."""
        if self.is_main and not self._is_stuck and self.file.exists():
            self._take(BY_FILE)
            try:
                self.file.unlink()
            except OSError as error:
                self._is_stuck = True
                # There is a folder of that name, or the file cannot be removed. The wish is plain all the same.
                log.warning("%s: cannot be removed (%s); do so before the run is started again", self.file, error)
        return self.is_set

    def asked_for_s(self) -> float | None:
        """Seconds since this process was first asked; None when another process was asked."""
        return None if self._since is None else round(time.monotonic() - self._since, 3)

    def _set(self, number: int, frame: FrameType | None) -> None:
        self._take(signal.Signals(number).name)

    def _take(self, by: str) -> None:
        if not self.is_set:
            self.by, self._since = by, time.monotonic()
        self.is_set = True


def ignore_stop_signals(worker: int) -> None:
    """Ignore signals in a reader process. Launchers signal the whole group, and a dying reader takes the run with it.

    The readers end when the run closes them. worker: the reader's number.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
