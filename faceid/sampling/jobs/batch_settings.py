"""Settings of a batch, and of its gallery and scores when all is rendered.

Field names are flag names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic.dataclasses import dataclass

from faceid.config import Reason
from faceid.faces.encoders.encoder_kinds import RECOGNISERS


@dataclass(frozen=True)
class BatchSettings:
    """With --batch: many videos."""

    batch: bool = False
    """Render every pose video of --pose_videos_dir into --output_dir."""
    pose_videos_dir: str | None = None
    """With --batch: the folder of skeleton videos."""
    jobs: str | None = None
    """With --batch: a list of jobs, .jsonl or .csv, in place of every pose video of a folder (docs/data_formats.md)."""
    output_dir: str | None = None
    """With --batch: the folder to write to. Videos are POSE.mp4, or NAME/POSE.mp4 with --identities_dir."""
    static: bool = False
    """With --batch: share the jobs out by rank beforehand, without claims. A dead worker's jobs are left undone."""


@dataclass(frozen=True)
class GallerySettings:
    """With --batch: what is shown and scored when all is rendered."""

    IN_HELP: ClassVar[dict[str, str]] = {"recognisers": ", ".join(RECOGNISERS)}

    gallery: bool = True
    """With --batch: write gallery.html into the folder when all is rendered, to look at it in a browser."""
    references_dir: str | None = None
    """With --batch: a folder of photos of each person, by name, to be shown in the gallery beside the videos."""
    score: str | None = None
    """With --batch: who judges the likeness to --references_dir when all is rendered, as in tools/evaluate.py: one of
    {recognisers}. Not the encoder that made the faces."""
    heads_dir: str | None = None
    """With --score: folder of CLIP.heads.json, where the heads are. Default: the detector looks for them."""

    def unused(self) -> Iterator[Reason]:
        """Options that change nothing."""
        if self.score is None:
            yield "heads_dir", "without --score"
            if not self.gallery:
                yield "references_dir", "without --gallery or --score"
