"""Everything that an evaluation found, in the form that the report and the files need."""

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
    """The results of one evaluation. All dictionaries are by recogniser first, then by arm."""

    compared: ComparedArms
    report: ReportSettings
    notes: list[str]
    gallery: list[Reference]
    instruments: Instruments
    videos: dict[str, dict[str, Videos]]
    numbers: dict[str, dict[str, dict[str, Any]]]
    """The numbers of each arm, from arms.summarise_arm."""
    comparisons: dict[str, dict[str, Any]]
    """The comparisons, from summary.compare_arms."""
    summary: dict[str, Any]
    pose_reader: str
    """The reader of poses, as written in --pose_reader."""
    are_photos_checked: bool
    """Whether it was checked that no reference is a conditioning photo."""
    is_encoder_checked: bool
    """Whether it was checked that no recogniser is the conditioning encoder."""

    @property
    def primary(self) -> str:
        """The recogniser whose numbers are shown first."""
        return next(iter(self.videos))
