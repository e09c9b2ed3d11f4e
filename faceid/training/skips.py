"""Count steps whose gradient was not finite.

They teach nothing, and too many of them end the run.
"""

from __future__ import annotations

import logging
from pathlib import Path

from faceid.errors import FaceidError
from faceid.training.checkpoints import checkpoint

log = logging.getLogger(__name__)

MOST_IN_A_ROW = 10


class DivergedError(FaceidError):
    """The loss or its gradient stays NaN or infinite."""


class Skips:
    """Counts skipped steps. The counts are the same on all ranks."""

    def __init__(self) -> None:
        self.total = self.in_a_row = self.last = 0

    def add(self, step: int, was_skipped: bool) -> None:
        """Note whether step `step` (from 1) was skipped."""
        if not was_skipped:
            self.in_a_row = 0
            return
        self.total, self.in_a_row, self.last = self.total + 1, self.in_a_row + 1, step
        log.warning("step %d: the gradient is not finite, nothing was learnt from it (%d so far)", step, self.total)

    def metrics(self) -> dict[str, float]:
        """The values for the log."""
        return {"optimizer/skipped_steps": float(self.total)}

    def refuse_nothing_learnt(self, steps: int) -> None:
        """Raises: DivergedError when all of a run's steps were skipped. It would save what it began with."""
        if self.total == steps > 0:
            raise DivergedError(
                f"steps 1 to {steps}: the loss or its gradient was not finite, in all of them; nothing was learnt, so "
                "no final adapter is written; lower learning_rate, or look for inputs that are not finite"
            )

    def check(self, checkpoints: Path) -> None:
        """Raises: DivergedError after MOST_IN_A_ROW in a row. checkpoints: their folder, for the message."""
        if self.in_a_row < MOST_IN_A_ROW:
            return
        newest = next(checkpoint.newest_first(checkpoints), None)
        kept = f"the last checkpoint is {newest}" if newest else "there is no checkpoint yet"
        raise DivergedError(
            f"steps {self.last - self.in_a_row + 1} to {self.last}: the loss or its gradient was not finite, "
            f"{self.in_a_row} in a row; stopped, {kept}; lower learning_rate, or look for inputs that are not finite"
        )
