"""Everything an evaluation found, as the report and the files need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from faceid.evaluation.report.report_settings import ReportSettings
from faceid.evaluation.videos.comparisons import Videos
from faceid.evaluation.videos.measure import Instruments
from faceid.evaluation.videos.reference_people import Reference
from faceid.evaluation.videos.summary import ComparedArms


@dataclass(frozen=True)
class Results:
    """Found by one evaluation. All dictionaries are by recogniser first, then by arm."""

    compared: ComparedArms
    report: ReportSettings
    notes: list[str]
    gallery: list[Reference]
    instruments: Instruments
    videos: dict[str, dict[str, Videos]]
    numbers: dict[str, dict[str, dict[str, Any]]]
    """What arms.summarise_arm says of each arm."""
    comparisons: dict[str, dict[str, Any]]
    """What summary.compare_arms found."""
    summary: dict[str, Any]
    pose_reader: str
    """Who read poses, as written in --pose_reader."""
    are_photos_checked: bool
    """Whether no reference is known to be a conditioning photo."""
    is_encoder_checked: bool
    """Whether no recogniser is known to be the conditioning encoder."""

    @property
    def primary(self) -> str:
        """The recogniser whose numbers are shown first."""
        return next(iter(self.videos))
