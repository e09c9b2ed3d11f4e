"""Record a run's measurements. metrics.jsonl is the record, and TensorBoard a view.

Only the main process writes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from faceid.files.documents import read_json_lines
from faceid.files.writing import write_atomic
from faceid.training.measuring.board import Board
from faceid.training.world.fence import Fence

log = logging.getLogger(__name__)


class Metrics:
    """Appends to metrics.jsonl and TensorBoard. On other ranks, and after `close`, it does nothing.

    A full disk does not end a run. Lines that could not be written are kept and tried again with the next one.
    """

    def __init__(
        self, run_folder: Path, is_main: bool, start_step: int, tensorboard: bool, fence: Fence | None = None
    ) -> None:
        """start_step: the step from which a run resumes. Lines after it came from an attempt that was lost.

        fence: checked before anything is written.
        """
        self.is_main, self._fence = is_main, fence
        self._board: Board | None = None
        self._unwritten: list[str] = []
        if not is_main:
            return
        self.path = run_folder / "metrics.jsonl"
        cut_lines_after(self.path, start_step)
        if tensorboard:
            self._board = Board(run_folder / "tensorboard", start_step)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Record values named group/name_unit after `step` optimizer steps."""
        if not self.is_main:
            return
        if self._fence is not None:
            self._fence.check()
        self._unwritten.append(json.dumps({"step": step, **values}) + "\n")
        self._write()
        if self._board is not None:
            self._board.scalars(values, step)

    def validation_at(self, step: int) -> dict[str, float] | None:
        """The values of a validation after `step` steps, also from an earlier attempt; None if there was none."""
        if not self.is_main:
            return None
        records = [record for record in read_metrics(self.path) if record["step"] == step]
        return next((record for record in records if any(name.startswith("validation/") for name in record)), None)

    def log_text(self, name: str, text: str) -> None:
        """Show a text (the config) in TensorBoard."""
        if self._board is not None:
            self._board.text(name, text)

    def log_picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """Show a uint8 RGB picture [H, W, 3] in TensorBoard."""
        if self._board is not None:
            self._board.picture(name, picture, step)

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Show the run's settings in TensorBoard's table of hyperparameters."""
        if self._board is not None:
            self._board.settings(settings)

    def close(self) -> None:
        """Flush and close."""
        if self._unwritten:
            self._write()
        if self._board is not None:
            self._board.close()
            self._board = None

    def _write(self) -> None:
        was_kept = len(self._unwritten) > 1
        try:
            with self.path.open("ab", buffering=0) as file:
                at = file.seek(0, 2)
                text = "".join(self._unwritten).encode()
                if file.write(text) != len(text):
                    file.truncate(at)  # a full disk takes a part of the line
                    raise OSError("no space left for all of it")
        except OSError as error:
            if not was_kept:
                log.error("%s: could not be written (%s); lines are kept and tried again", self.path, error)
            return
        if was_kept:
            log.info("%s: written again, %d lines that were kept", self.path, len(self._unwritten))
        self._unwritten.clear()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """All lines of a metrics.jsonl. A last line that a kill left half written is dropped."""
    if not path.is_file():
        return []
    is_cut = not path.read_bytes().endswith(b"\n")
    read = list(read_json_lines(path))
    records = []
    for number, record in read:
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
        elif not (is_cut and number == read[-1][0]):
            log.warning("%s: line %d is damaged and left out", path, number)
    return records


def cut_lines_after(path: Path, start_step: int) -> None:
    """Remove lines of steps after `start_step`, and a half-written line."""
    records = read_metrics(path)
    kept = [record for record in records if record["step"] <= start_step]
    if records != kept or (path.is_file() and not path.read_bytes().endswith(b"\n")):
        write_atomic(path, "".join(json.dumps(record) + "\n" for record in kept))
