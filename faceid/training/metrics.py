"""What a run measures: metrics.jsonl is the truth, TensorBoard a view of it. Written by the main process only."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from faceid.provenance import write_atomic

log = logging.getLogger(__name__)


class Metrics:
    """Appends to metrics.jsonl and TensorBoard. On other ranks, and after `close`, it does nothing."""

    def __init__(self, run_folder: Path, is_main: bool, start_step: int, tensorboard: bool) -> None:
        """start_step: the step a resumed run goes on from; lines after it came from an attempt that was lost."""
        self.is_main = is_main
        self._writer: Any = None
        if not is_main:
            return
        self.path = run_folder / "metrics.jsonl"
        _cut(self.path, start_step)
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            # Purges from this step on, itself included: what was logged at start_step stays.
            self._writer = SummaryWriter(str(run_folder / "tensorboard"), purge_step=start_step + 1)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Record values named group/name_unit after `step` optimizer steps."""
        if not self.is_main:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def log_text(self, name: str, text: str) -> None:
        """Show a text (the config) in TensorBoard."""
        if self._writer is not None:
            self._writer.add_text(name, f"```\n{text}\n```")

    def log_picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """Show a uint8 RGB picture [H, W, 3] in TensorBoard."""
        if self._writer is not None:
            self._writer.add_image(name, picture, step, dataformats="HWC")
            self._writer.flush()

    def close(self) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def read_metrics(path: Path) -> list[dict[str, float]]:
    """All lines of a metrics.jsonl; a half-written last line (a kill) is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    records = []
    for number, line in enumerate(lines):
        try:
            records.append(json.loads(line))
        except ValueError:
            if line and number < len(lines) - 1:
                log.warning("%s: line %d is damaged and left out", path, number + 1)
    return records


def _cut(path: Path, start_step: int) -> None:
    records = read_metrics(path)
    kept = [record for record in records if record["step"] <= start_step]
    if records != kept or (path.is_file() and not path.read_text(encoding="utf-8").endswith("\n")):
        write_atomic(path, "".join(json.dumps(record) + "\n" for record in kept))
