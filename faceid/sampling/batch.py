"""Every pose video of a folder, one after the other, on one process: a bad one is reported and the rest goes on."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from faceid.data.pairs import VIDEO_SUFFIXES
from faceid.errors import DataError, FaceidError
from faceid.logs import progress
from faceid.provenance import sha256_file, write_atomic, write_provenance
from faceid.sampling.renderer import Renderer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RenderedJob:
    """One pose video's outcome. error is empty when it was rendered."""

    pose: str
    output: str
    seconds: float
    sha256: str = ""
    error: str = ""


def find_pose_videos(folder: Path) -> list[Path]:
    """All videos of a folder, sorted. Raises: DataError when there are none."""
    if not folder.is_dir():
        raise DataError(f"pose_videos_dir={folder}: no such folder")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES and not p.name.startswith("."))
    if not found:
        raise DataError(f"pose_videos_dir={folder}: holds no videos ({', '.join(sorted(VIDEO_SUFFIXES))})")
    return found


def plan_jobs(poses_dir: Path, output_dir: Path) -> dict[Path, Path]:
    """Pose video to `output_dir/<stem>.mp4`, for all of a folder.

    Raises: DataError when there are none, when two would have one name, or when one would overwrite a pose video.
    """
    poses = find_pose_videos(poses_dir)
    if output_dir.resolve() == poses_dir.resolve():
        raise DataError(f"output_dir={output_dir}: holds the pose videos, which would be overwritten; choose another")
    stems = [pose.stem for pose in poses]
    doubled = sorted({stem for stem in stems if stems.count(stem) > 1})
    if doubled:
        raise DataError(
            f"pose_videos_dir={poses_dir}: several videos named {doubled[0]}.*; they would overwrite each other: "
            "rename all but one"
        )
    return {pose: output_dir / f"{pose.stem}.mp4" for pose in poses}


def render_folder(renderer: Renderer, jobs: dict[Path, Path], output_dir: Path) -> list[RenderedJob]:
    """Render each pose video to its output; writes jobs.jsonl and provenance.json into a folder the caller holds."""
    rendered = [_render_one(renderer, pose, jobs[pose]) for pose in progress(jobs, "videos")]
    write_atomic(output_dir / "jobs.jsonl", "".join(json.dumps(vars(job)) + "\n" for job in rendered))
    write_provenance(output_dir, {"videos": len(rendered), "failed": sum(bool(job.error) for job in rendered)})
    return rendered


def _render_one(renderer: Renderer, pose: Path, output: Path) -> RenderedJob:
    began = time.perf_counter()
    try:
        renderer.render(pose, output)
    except FaceidError as error:
        log.error("%s: %s", pose.name, error)
        return RenderedJob(pose.name, output.name, time.perf_counter() - began, error=str(error))
    seconds = time.perf_counter() - began
    log.info("%s in %.1f s", output, seconds)
    return RenderedJob(pose.name, output.name, seconds, sha256=sha256_file(output))
