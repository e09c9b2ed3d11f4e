"""Stopping well: a signal sets a flag; all ranks agree on it at a step's end, save, and leave with exit code 75.

Nothing is saved inside the signal handler. A file STOP in the run folder does the same for people without signals.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import torch
from accelerate import Accelerator

log = logging.getLogger(__name__)

STOPPED_EXIT_CODE = 75
"""Checkpointed, please run the same command again (EX_TEMPFAIL)."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


class StopFlag:
    """Whether this run was asked to stop."""

    def __init__(self, run_folder: Path) -> None:
        self.file = run_folder / "STOP"
        self.is_set = False
        for number in SIGNALS:
            signal.signal(number, self._set)

    def agreed(self, accelerator: Accelerator, counts: Sequence[float] = ()) -> tuple[bool, list[float]]:
        """Whether any rank was asked, and `counts` summed over the ranks: all call, and get the same answer.

        One message for both, once a step. A STOP file is used up by this.
        """
        asked = self.is_set
        if accelerator.is_main_process and self.file.exists():
            self.file.unlink()
            asked = True
        values = torch.tensor([float(asked), *counts], device=accelerator.device)
        flag, *sums = accelerator.reduce(values, reduction="sum").tolist()
        return flag > 0, sums

    def _set(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True


def ignore_stop_signals(worker: int) -> None:
    """For a reader process: launchers signal the whole group, and a reader that ends takes the run with it.

    The readers end when the run closes them. worker: its number.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
