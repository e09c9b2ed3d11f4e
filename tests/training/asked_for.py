"""The sections of a run of whose options a test names those that it is about."""

from __future__ import annotations

from typing import Any

from faceid.config import build_sections
from faceid.training.checks.run_sections import SECTIONS, RunSections

# Without these no run can be asked for.
NEEDED = {
    "model_path": "toy",
    "output_dir": "o",
    "face_images_dir": "f",
    "dance_videos_dir": "d",
    "pose_videos_dir": "p",
}


def asked_for(**options: Any) -> RunSections:
    """The options, each in its section."""
    return RunSections(*build_sections(SECTIONS, {**NEEDED, **options}))
