"""Write TensorBoard files beside training without ever blocking it.

A thread of its own writes the values. Whatever happens to it (a full disk, a missing folder, a file server that hangs),
training goes on. Values that do not fit into its queue are left out and counted. The complete record is metrics.jsonl.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from faceid.files.writing import is_private, settle_modes

log = logging.getLogger(__name__)

QUEUE_SIZE = 4096
CLOSE_TIMEOUT_S = 20.0
# Metrics in the table of hyperparameters, beside a run's settings.
TABLE_METRICS = (
    "epoch/average_loss",
    "validation/swap_gap_target",
    "validation/swap_gap_training_dancers",
    "validation/swap_gap_heldout_clips",
    "validation/swap_gap_heldout_dancers",
    "validation/loss_training_dancers_right_face",
    "validation/loss_heldout_clips_right_face",
    "validation/loss_heldout_dancers_right_face",
)


class Board:
    """One run's TensorBoard files."""

    def __init__(self, folder: Path, start_step: int) -> None:
        """start_step: what earlier attempts logged after this step is removed."""
        self._queue: queue.Queue[Callable[[Any], None] | None] = queue.Queue(QUEUE_SIZE)
        self._left_out, self._is_over = 0, False
        self._thread = threading.Thread(target=self._write, args=(folder, start_step), name="tensorboard", daemon=True)
        self._thread.start()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log points of curves, by group/name_unit."""
        for name, value in values.items():
            self._put(functools.partial(_add_scalar, name, value, step))

    def text(self, name: str, text: str) -> None:
        """Log a text, shown unchanged."""
        self._put(lambda writer: writer.add_text(name, f"```\n{text}\n```"))

    def picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """Log a uint8 RGB picture [H, W, 3]."""
        self._put(lambda writer: writer.add_image(name, picture, step, dataformats="HWC"))

    def settings(self, settings: Mapping[str, Any]) -> None:
        """Write the run's row in the table of hyperparameters."""
        kinds = bool | int | float | str
        plain = {name: value if isinstance(value, kinds) else str(value) for name, value in settings.items()}
        self._put(lambda writer: _add_settings(writer, plain))

    def close(self) -> None:
        """Write what is left, for a limited time."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=0 if self._is_over else CLOSE_TIMEOUT_S)
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            log.warning("TensorBoard: its files could not be finished within %.0f s", CLOSE_TIMEOUT_S)

    def _put(self, write: Callable[[Any], None]) -> None:
        if self._is_over:
            return
        try:
            self._queue.put_nowait(write)
        except queue.Full:
            self._left_out += 1
            if self._left_out == 1:
                log.warning("TensorBoard: its files do not keep up; values are left out, metrics.jsonl has them")

    def _write(self, folder: Path, start_step: int) -> None:
        writer = None
        try:
            from torch.utils.tensorboard import SummaryWriter

            # TensorBoard purges from this step on, this step included. Values of start_step itself stay.
            writer = SummaryWriter(str(folder), purge_step=start_step + 1)
            writer.flush()
            # The file holds pictures of faces, and the library makes it as the umask says. Only its owner can close it.
            for file in folder.glob("events.out.*"):
                with contextlib.suppress(PermissionError):
                    settle_modes(file, is_private(folder))
            while (write := self._queue.get()) is not None:
                write(writer)
                if self._queue.empty():
                    writer.flush()
            writer.close()
        except OSError as error:
            log.warning("TensorBoard: no longer written (%s); metrics.jsonl has all", error)
        finally:
            self._is_over = True


def _add_scalar(name: str, value: float, step: int, writer: Any) -> None:
    writer.add_scalar(name, value, step)


def _add_settings(writer: Any, settings: dict[str, Any]) -> None:
    """Write the settings in the run itself. torch's own add_hparams would make a folder, and so a run, beside it."""
    from torch.utils.tensorboard.summary import hparams

    for summary in hparams(settings, dict.fromkeys(TABLE_METRICS, 0.0)):
        writer.file_writer.add_summary(summary)
