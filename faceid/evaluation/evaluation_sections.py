"""Hold all options of one call of evaluate.py: a section for each decision, in the room that it concerns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from faceid.config import Reason, section_types, sections_in
from faceid.evaluation.report.report_settings import ReportSettings
from faceid.evaluation.videos.arm_settings import ArmSettings
from faceid.evaluation.videos.judge_settings import PeopleSettings, PoseReaderSettings, RecogniserSettings


@dataclass(frozen=True)
class EvaluationSections:
    """One evaluation."""

    arms: ArmSettings
    people: PeopleSettings
    recognisers: RecogniserSettings
    pose: PoseReaderSettings
    report: ReportSettings

    @property
    def every(self) -> list[Any]:
        """The sections, in order."""
        return sections_in(self)

    def unused(self, is_table_needed: bool) -> Iterator[Reason]:
        """Options that change nothing, by each section. is_table_needed: as in `ArmSettings.unused`."""
        yield from self.recognisers.unused(self.pose.pose_reader)
        yield from self.pose.unused()
        yield from self.people.unused(self.arms.real is not None)
        yield from self.arms.unused(is_table_needed)


SECTIONS = section_types(EvaluationSections)
