"""What a batch is, and what is made of its videos when all are rendered. Field names are flag names."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic.dataclasses import dataclass

from faceid.config import Reason


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
    """With --batch: the folder to write to: POSE.mp4 each, or NAME/POSE.mp4 with --identities_dir."""
    static: bool = False
    """With --batch: share the jobs out by rank beforehand, without claims; a dead worker's are left undone."""


@dataclass(frozen=True)
class GallerySettings:
    """With --batch: what is shown and scored when all is rendered."""

    gallery: bool = True
    """With --batch: write gallery.html into the folder when all is rendered, to look at it in a browser."""
    references_dir: str | None = None
    """With --batch: a folder of photos of each person, by name, to be shown in the gallery beside the videos."""
    score: str | None = None
    """With --batch: who judges the likeness to --references_dir when all is rendered, as in tools/evaluate.py:
    clip:PATH, dinov3:PATH, dinov2:PATH or onnx:PATH. Not the encoder the faces were made with."""
    heads_dir: str | None = None
    """With --score: folder of CLIP.heads.json, where the heads are. Default: the detector looks."""

    def unused(self) -> Iterator[Reason]:
        """Options that change nothing."""
        if self.score is None:
            yield "heads_dir", "without --score"
            if not self.gallery:
                yield "references_dir", "without --gallery or --score"
