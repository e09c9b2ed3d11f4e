"""Say whether an ended training job should be tried again: exit code 0 for yes, 1 for no.

For slurm/train.sbatch. It takes the run folder from train.py's flags and files, and ignores the rest. It knows
RUN/attempts.jsonl and RUN/checkpoints/.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import flags_of, parse_sections
from faceid.errors import run_entry_point
from faceid.limits import CountFrom1
from faceid.training.world.attempts import judge_attempt, read_attempt


@dataclass(frozen=True)
class JudgeSettings:
    """How it ended, and how much patience there is."""

    output_dir: str
    """The run folder."""
    exit_code: Annotated[int, Field(ge=-255, le=255)]
    """Exit code of the step, as srun gave it."""
    most_attempts: CountFrom1 = 3
    """Attempts in a row that may end without a newer checkpoint."""


def main(argv: list[str] | None = None) -> int:
    """Parse, judge, print the reason."""
    words = sys.argv[1:] if argv is None else argv
    words = flags_of([JudgeSettings], words)
    (settings,) = parse_sections("tools/judge_attempt.py", __doc__ or "", [JudgeSettings], words)
    attempt = read_attempt()
    verdict = judge_attempt(Path(settings.output_dir), attempt, settings.exit_code, settings.most_attempts)
    print(f"attempt {attempt}: {verdict.why}", flush=True)
    return 0 if verdict.goes_on else 1


if __name__ == "__main__":
    run_entry_point(main)
