"""Report where a process stands still.

In a stuck collective, the process that stands elsewhere is the cause.
"""

from __future__ import annotations

import faulthandler
import logging
import threading
import time
from pathlib import Path

log = logging.getLogger(__name__)


class Watchdog:
    """Writes the stacks of all threads to this rank's log after a while without a report. It ends nothing."""

    def __init__(self, seconds: float, log_file: Path) -> None:
        """seconds: time without a report; 0 for never. log_file: where the stacks go."""
        self.seconds, self.log_file = seconds, log_file
        self._doing, self._since, self._may_take_long = "starting", time.monotonic(), False
        self._ended = threading.Event()
        if seconds:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def at(self, doing: str, may_take_long: bool = False) -> None:
        """Report progress: from now on this process is `doing` that.

        may_take_long: whether hours of it are no fault; the report then says so.
        """
        self._doing, self._since, self._may_take_long = doing, time.monotonic(), may_take_long

    def close(self) -> None:
        """Stop watching."""
        self._ended.set()

    def _watch(self) -> None:
        reported = 0.0
        while not self._ended.wait(min(self.seconds / 4, 10.0)):
            since, still_s = self._since, time.monotonic() - self._since
            # Report again after as long once more, while the process still stands.
            if still_s < self.seconds or (reported >= since and time.monotonic() - reported < self.seconds):
                continue
            reported = time.monotonic()
            if self._may_take_long:
                log.info("%s for %.0f s; where it stands is in %s", self._doing, still_s, self.log_file)
            else:
                log.error("no progress for %.0f s: %s; where it stands is in %s", still_s, self._doing, self.log_file)
            try:
                with self.log_file.open("a", encoding="utf-8") as file:
                    faulthandler.dump_traceback(file=file, all_threads=True)
            except OSError as error:
                log.error("%s: its stack could not be written (%s)", self.log_file, error)
