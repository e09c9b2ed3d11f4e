"""Settings of the report: what is written, where, and how intervals are drawn.

Field names are flag names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.limits import MOST_AT_ONCE, NaturalSeed


@dataclass(frozen=True)
class ReportSettings:
    """The report."""

    output_dir: Path
    """Folder for report.html, summary.json, scores.json and videos.csv. An older evaluation there is replaced."""
    shared: bool = False
    """Let others on this machine look into the report, which shows faces. By default only you can."""
    bootstrap_samples: Annotated[int, Field(ge=100, le=1_000_000)] = 2000
    """Resamplings of the people behind each 95 % interval."""
    seed: NaturalSeed = 0
    """Seed of the resampling."""
    num_shown: Annotated[int, Field(ge=0, le=MOST_AT_ONCE)] = 6
    """People shown with pictures in the report, the target first."""
    title: str = "Evaluation"
    """Heading of the report."""
    notes: Path | None = None
    """Text file whose lines are shown at the top of the report."""
    dry_run: bool = False
    """Check the inputs, say what would be scored and stop."""
