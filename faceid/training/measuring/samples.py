"""Log which samples each step took, a line a step.

The log shows that none was missed and none taken twice.
"""

from __future__ import annotations

import json
from pathlib import Path

from faceid.files.documents import DocumentError, read_json_lines
from faceid.training.measuring.metrics import cut_lines_after


class SampleLog:
    """Appends to logs/samples_rankNNNN.jsonl. It does nothing unless the user asked for it."""

    def __init__(self, log_dir: Path, rank: int, start_step: int, is_asked: bool) -> None:
        """start_step: lines after it came from an attempt that was lost."""
        self._path = log_dir / f"samples_rank{rank:04d}.jsonl" if is_asked else None
        if self._path is not None:
            cut_lines_after(self._path, start_step)

    def add(self, step: int, samples: list[tuple[int, str]]) -> None:
        """This rank's samples of a step: global index and key of each."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "samples": samples}) + "\n")


def read_samples(log_dir: Path) -> dict[int, list[tuple[int, str]]]:
    """Samples by step, those of all ranks, by global index."""
    by_step: dict[int, list[tuple[int, str]]] = {}
    for path in sorted(log_dir.glob("samples_rank*.jsonl")):
        for _, record in read_json_lines(path):
            if isinstance(record, DocumentError):
                raise record
            by_step.setdefault(record["step"], []).extend((g, key) for g, key in record["samples"])
    return {step: sorted(samples) for step, samples in sorted(by_step.items())}
