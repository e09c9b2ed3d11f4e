"""Steps of a benchmark: each a process that is run once, with its log and its seconds; two beside each other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from benchmarks import REPOSITORY
from faceid.errors import ConfigError
from faceid.logs import progress


@dataclass(frozen=True)
class Steps:
    """The steps done in a folder: `done/STEP` holds the seconds that a step took, `logs/STEP.log` what it said."""

    folder: Path

    def once(self, step: str, words: Sequence[object], threads: int = 2) -> None:
        """Run Python with these words, unless the step is done. Raises: ConfigError when it fails."""
        if self.mark(step).is_file():
            return
        began, log_file = time.perf_counter(), self.folder / "logs" / f"{step}.log"
        for folder in (log_file.parent, self.mark(step).parent):
            folder.mkdir(exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        with log_file.open("w") as log:
            command = [sys.executable, *map(str, words)]
            done = subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log, check=False)
        if done.returncode:
            raise ConfigError(f"{step}: exit code {done.returncode}; {log_file} says why")
        self.mark(step).write_text(f"{time.perf_counter() - began:.1f}")

    def seconds_of(self, step: str) -> float:
        """What a step took."""
        return float(self.mark(step).read_text())

    def mark(self, step: str) -> Path:
        """The file that says that a step is done."""
        return self.folder / "done" / step


def two_at_once(description: str, steps: Sequence[Callable[[], object]]) -> None:
    """Do steps, each of which is a process of one thread, two beside each other. After a failure no other begins."""
    pool = ThreadPoolExecutor(2)
    try:
        waiting = [pool.submit(step) for step in steps]
        for done in progress(as_completed(waiting), description, total=len(waiting), unit="step"):
            done.result()
    finally:
        pool.shutdown(cancel_futures=True)
