"""Record the attempts of a run, and judge whether to retry an ended job.

`attempts.jsonl` holds a JSON object a line. The main process writes when it starts, stops and finishes. After a Slurm
step has ended in any way, the batch script asks `judge_attempt` (tools/judge_attempt.py), which also writes its verdict
there. The lines show what a preemption cost: steps lost, seconds from signal to checkpoint, seconds to the next first
step.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceid.errors import USER_ERROR_EXIT_CODE
from faceid.files.documents import read_json_lines
from faceid.processes import number_in
from faceid.training.world.checkpoint_names import newest_first, step_of

log = logging.getLogger(__name__)

STARTED, STOPPED, FINISHED, ENDED = "started", "stopped", "finished", "ended"
BY_FILE = "file STOP"
# 128 + SIGINT: somebody ended it on purpose.
_INTERRUPTED = 130


@dataclass(frozen=True)
class Attempt:
    """One start of a Slurm job: the job, and how often it was requeued before. Without Slurm there is no job."""

    job: str = ""
    restarts: int = 0

    def __str__(self) -> str:
        return f"{self.job}.{self.restarts}" if self.job else "local"

    def supersedes(self, other: str) -> bool:
        """Whether Slurm took `other` (in the form of `str`) for dead and started this attempt: both are one job."""
        job, _, restarts = other.partition(".")
        return bool(self.job) and job == self.job and restarts.isdigit() and int(restarts) < self.restarts


def read_attempt(environment: Mapping[str, str] = os.environ) -> Attempt:
    """Read which start of which Slurm job this is."""
    # SLURM_RESTART_COUNT is not set before the first requeue.
    return Attempt(environment.get("SLURM_JOB_ID", ""), number_in(environment, "SLURM_RESTART_COUNT", 0))


class Attempts:
    """The file of attempts, as used by one attempt."""

    def __init__(self, run_folder: Path, attempt: Attempt) -> None:
        self.path, self.attempt = run_folder / "attempts.jsonl", attempt

    def add(self, event: str, step: int, details: Mapping[str, Any] | None = None) -> None:
        """Append a line. step: optimizer steps that are safe in a checkpoint. details: further plain values."""
        line = {"attempt": str(self.attempt), "event": event, "step": step, "time_s": round(time.time(), 3)}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**line, **(details or {})}) + "\n")
        except OSError as error:
            # A disk that is full for a while ends no run.
            log.error("%s: could not be written (%s)", self.path, error)

    def read(self) -> list[dict[str, Any]]:
        """All lines of all attempts, in order. Lines that a kill cut short, or somebody spoilt, are left out."""
        if not self.path.is_file():
            return []
        return [line for _, line in read_json_lines(self.path) if _is_one(line)]


@dataclass(frozen=True)
class Verdict:
    """Whether to try again, and why."""

    goes_on: bool
    why: str


def judge_attempt(run_folder: Path, attempt: Attempt, exit_code: int, most_without_gain: int) -> Verdict:
    """Judge an attempt that has ended, and record the verdict. exit_code: of the whole step, as srun reports it.

    Retries must end where they gain nothing. So there is none after `most_without_gain` attempts of this job in a row
    that left no newer checkpoint than they began with.
    """
    attempts = Attempts(run_folder, attempt)
    lines = attempts.read()
    newest = next(iter(newest_first(run_folder / "checkpoints")), None)
    step = step_of(newest) if newest is not None else 0
    mine = [line for line in lines if line["attempt"] == str(attempt)]
    began = [line["step"] for line in mine if line["event"] == STARTED]
    gained = step - began[-1] if began else 0
    verdict = _verdict(lines, mine, attempt, exit_code, gained, step, most_without_gain)
    attempts.add(ENDED, step, {"exit_code": exit_code, "gained_steps": gained, "goes_on": verdict.goes_on})
    return verdict


def _is_one(line: Any) -> bool:
    """Whether a line has the form that `add` writes. A torn line is an error instead of an object."""
    if not isinstance(line, dict) or line.get("event") not in (STARTED, STOPPED, FINISHED, ENDED):
        return False
    counts = [line.get("step"), *([line.get("gained_steps")] if line["event"] == ENDED else [])]
    return isinstance(line.get("attempt"), str) and all(type(count) is int for count in counts)


def _verdict(
    lines: list[dict[str, Any]],
    mine: list[dict[str, Any]],
    attempt: Attempt,
    exit_code: int,
    gained: int,
    step: int,
    most_without_gain: int,
) -> Verdict:
    if exit_code == 0:
        return Verdict(False, "finished")
    if exit_code == USER_ERROR_EXIT_CODE:
        return Verdict(False, "refused: the line that begins with `error:` says what to change")
    if exit_code == _INTERRUPTED:
        return Verdict(False, "interrupted by hand (SIGINT)")
    if any(line["event"] == STOPPED and line.get("by") == BY_FILE for line in mine):
        return Verdict(False, f"stopped at step {step} by the file STOP; submit the same command to go on")
    if gained > 0:
        return Verdict(True, f"{gained} steps gained, {step} done")
    ended = [line for line in lines if line["event"] == ENDED and line["attempt"].split(".")[0] == attempt.job]
    without = 1
    for line in reversed(ended):
        if line["gained_steps"] > 0:
            break
        without += 1
    if without < most_without_gain:
        return Verdict(True, f"exit code {exit_code} and no step gained; attempt {without} of {most_without_gain} so")
    return Verdict(
        False,
        f"{without} attempts in a row ended (now with exit code {exit_code}) and left no checkpoint beyond step "
        f"{step}; not tried again: mend what the lines above say and submit the same command",
    )
