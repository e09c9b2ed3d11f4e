"""Verify that a face encoder tells people apart, on folders of labelled photos: ROC, equal error rate, histogram."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import parse_sections
from faceid.errors import run_entry_point
from faceid.evaluation.places import VERIFICATION, refuse_output_among_photos
from faceid.faces.identity_settings import FaceSettings
from faceid.files.outputs import refuse_replacing
from faceid.limits import NaturalSeed
from faceid.logs import set_up_logging


@dataclass(frozen=True)
class VerificationPaths:
    """Whose photos, and where the report goes."""

    faces_dir: str
    """A folder of folders of photos, one for each person. 10 people with 5 photos each are a beginning."""
    output_dir: str
    """Folder for report.html, verification.json and verification.png. An older verification there is replaced."""
    bootstrap_samples: Annotated[int, Field(ge=100, le=1_000_000)] = 1000
    """Resamplings of the people behind each 95 % interval."""
    seed: NaturalSeed = 0
    """Seed of the resampling."""


def main(argv: list[str] | None = None) -> int:
    """Parse, verify."""
    words = sys.argv[1:] if argv is None else argv
    sections = parse_sections("tools/verify_encoder.py", __doc__ or "", [VerificationPaths, FaceSettings], words)
    paths: VerificationPaths = sections[0]
    settings: FaceSettings = sections[1]
    set_up_logging()

    output_dir = Path(paths.output_dir).resolve()
    refuse_output_among_photos(output_dir, Path(paths.faces_dir))
    refuse_replacing(output_dir, VERIFICATION)

    # Importing these takes seconds, so it comes after the cheap checks.
    from faceid.evaluation.verification.verify_encoder import verify_encoder

    verify_encoder(Path(paths.faces_dir), Path(paths.output_dir), settings, paths.bootstrap_samples, paths.seed)
    return 0


if __name__ == "__main__":
    run_entry_point(main)
