"""Train a face adapter on Wan2.1-VACE: `accelerate launch train.py ...`, or `python train.py ...` for one process."""

from __future__ import annotations

import sys

from faceid.config import parse_sections
from faceid.errors import run_entry_point
from faceid.training.checks.run_sections import SECTIONS, RunSections


def main(argv: list[str] | None = None) -> int:
    """Parse and run."""
    words = sys.argv[1:] if argv is None else argv
    sections = RunSections(*parse_sections("train.py", __doc__ or "", SECTIONS, words))
    # Heavy imports come only once the command line is known to be good.
    from faceid.training.training_run import run_training

    return run_training(sections)


if __name__ == "__main__":
    run_entry_point(main)
