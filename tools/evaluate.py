"""Score rendered videos and write a report: identity by reference photos, pose by the control, steadiness."""

from __future__ import annotations

import sys

from faceid.config import parse_sections
from faceid.errors import run_entry_point
from faceid.evaluation.evaluation_sections import SECTIONS, EvaluationSections
from faceid.evaluation.places import EVALUATION
from faceid.files.outputs import refuse_replacing
from faceid.logs import set_up_logging


def main(argv: list[str] | None = None) -> int:
    """Parse, evaluate."""
    words = sys.argv[1:] if argv is None else argv
    sections = EvaluationSections(*parse_sections("tools/evaluate.py", __doc__ or "", SECTIONS, words))
    set_up_logging()

    refuse_replacing(sections.report.output_dir, EVALUATION)

    # Importing these takes seconds, so it comes after the cheap checks.
    from faceid.evaluation.evaluation_run import evaluate

    evaluate(sections)
    return 0


if __name__ == "__main__":
    run_entry_point(main)
