"""One proof from its beginning to its record: what is measured, and the tests whose promises it shows.

What a proof measures beside tests are its looks. They come first and one after the other: nothing of the proof runs
beside them. Its tests are those that say so: `@pytest.mark.promise(..., proof="main")`, see tests/promises.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from benchmarks import REPOSITORY
from benchmarks.proofs.rows import Row, Seen, conclude, memory_folder, rows_of

Sizes = TypeVar("Sizes")


@dataclass(frozen=True)
class Work:
    """What a look is given. folder: its own. shared: that of all looks. details: of the record, to add to."""

    folder: Path
    shared: Path
    is_full: bool
    details: dict[str, Any]

    def choose(self, small: Sizes, full: Sizes) -> Sizes:
        """The sizes to take."""
        return full if self.is_full else small


Look = Callable[[Work], Sequence[Seen | Row]]


@dataclass(frozen=True)
class Proof:
    """longest_s: at its default size. processes: that share its tests. must_be_shown: a row that is not shown fails."""

    name: str
    looks: tuple[Look, ...] = ()
    has_tests: bool = True
    longest_s: float | None = 600
    processes: int = 1
    must_be_shown: bool = False
    details: dict[str, Any] = field(default_factory=dict)


def prove(proof: Proof, is_full: bool) -> int:
    """Measure, run the tests, print and record; 1 when a promise falls short."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    details = {"load_average_at_start": os.getloadavg(), **proof.details}
    rows = _look(proof.looks, is_full, details)
    if proof.has_tests:
        rows += tested(proof.name, is_full, proof.processes)
    seconds = time.perf_counter() - began
    if proof.longest_s is not None and not is_full:
        in_time = seconds <= proof.longest_s
        bar, measured = f"<= {proof.longest_s:g} s", f"{seconds:.0f} s"
        rows += rows_of([("this proof at its default size", bar, measured, in_time)], 0)
    falls_short = conclude(proof.name, rows, is_full, seconds, details)
    return falls_short or int(proof.must_be_shown and any(row.verdict == "not shown" for row in rows))


def _look(looks: Sequence[Look], is_full: bool, details: dict[str, Any]) -> list[Row]:
    """Each look's rows; its data lies in memory where there is /dev/shm."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=memory_folder()) as name:
        for number, look in enumerate(looks):
            work = Work(Path(name) / f"look_{number}", Path(name), is_full, details)
            work.folder.mkdir()
            began = time.perf_counter()
            seen = look(work)
            rows += rows_of(seen, time.perf_counter() - began)
    return rows


def tested(name: str, is_full: bool, processes: int = 1) -> list[Row]:
    """A row for each promise of the tests. Raises: RuntimeError when they cannot be run at all."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FACEID_SIZES": "full" if is_full else "small"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "pytest", "tests", "-v", "--proof", name, "--proof_rows", str(file)]
        if processes > 1:
            command += ["-n", str(processes), "--dist", "loadgroup"]
        code = subprocess.run(command, cwd=REPOSITORY, env=environment, check=False).returncode
        # 1: some tests fail, which their rows say.
        if code not in (0, 1):
            raise RuntimeError(f"{' '.join(command)}: exit code {code}")
        return [Row(**row) for row in json.loads(file.read_text(encoding="utf-8"))]
