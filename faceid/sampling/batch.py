"""Every pose video of a folder as every person given, on one process: a bad one is reported and the rest goes on."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from torch import Tensor

from faceid.data.video_files import list_videos
from faceid.errors import DataError, FaceidError
from faceid.logs import progress
from faceid.provenance import sha256_file, write_atomic, write_provenance
from faceid.sampling.identities import Face
from faceid.sampling.renderer import Renderer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One video to render. person: whose folder it goes to, empty without --identities_dir."""

    pose: Path
    person: str
    seed: int
    suffix: str = ""
    """Of its name: which seed, where there are several."""

    @property
    def output(self) -> str:
        """The video's path in the output folder."""
        name = f"{self.pose.stem}{self.suffix}.mp4"
        return f"{self.person}/{name}" if self.person else name


@dataclass(frozen=True)
class RenderedJob:
    """One job's outcome, a line of jobs.jsonl. error is empty when it was rendered."""

    pose: str
    identity: str
    output: str
    face_scale: float
    seed: int
    seconds: float
    sha256: str = ""
    error: str = ""


def seed_suffix(seed: int, seeds: Sequence[int]) -> str:
    """What tells a seed's video from those of others: nothing where there is one."""
    return f"_seed{seed}" if len(seeds) > 1 else ""


def plan_jobs(poses_dir: Path, output_dir: Path, people: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """Every pose video of a folder as every person with every seed, pose by pose: what does not depend on the face is
    then shared.

    Raises: DataError when there are none, when two would have one name, or when one would overwrite a pose video.
    """
    poses = list_videos(poses_dir, "pose_videos_dir")
    for folder in {output_dir / person for person in people}:
        if folder.resolve() == poses_dir.resolve():
            raise DataError(f"output_dir={folder}: holds the pose videos, which would be overwritten; choose another")
    stems = [pose.stem for pose in poses]
    doubled = sorted({stem for stem in stems if stems.count(stem) > 1})
    if doubled:
        raise DataError(
            f"pose_videos_dir={poses_dir}: several videos named {doubled[0]}.*; they would overwrite each other: "
            "rename all but one"
        )
    return [Job(pose, person, seed, seed_suffix(seed, seeds)) for pose in poses for person in people for seed in seeds]


def render_folder(
    renderer: Renderer, jobs: Sequence[Job], faces: Mapping[str, Face], output_dir: Path
) -> list[RenderedJob]:
    """Render each job; writes jobs.jsonl and provenance.json into a folder the caller holds.

    jobs: those of one pose together, as planned. faces: by the jobs' person.
    """
    outcomes = (
        outcome
        for pose, of_pose in groupby(jobs, key=lambda job: job.pose)
        for outcome in _render_pose(renderer, pose, of_pose, faces, output_dir)
    )
    rendered = list(progress(outcomes, "videos", total=len(jobs), unit="video"))
    write_atomic(output_dir / "jobs.jsonl", "".join(json.dumps(vars(job)) + "\n" for job in rendered))
    write_provenance(output_dir, {"videos": len(rendered), "failed": sum(bool(job.error) for job in rendered)})
    return rendered


def _render_pose(
    renderer: Renderer, pose: Path, jobs: Iterable[Job], faces: Mapping[str, Face], output_dir: Path
) -> Iterator[RenderedJob]:
    """One pose video as everyone. Its preparation is done once, and counted in the first job's seconds."""
    began = time.perf_counter()
    control, unusable = None, ""
    try:
        control = renderer.prepare(pose)
    except FaceidError as error:
        log.error("%s: %s", pose.name, error)
        unusable = str(error)
    for job in jobs:
        face, output = faces[job.person], output_dir / job.output
        failure = unusable if control is None else _render(renderer, control, face, output, job.seed)
        ended = time.perf_counter()
        if not failure:
            log.info("%s in %.1f s", output, ended - began)
        yield RenderedJob(
            pose=pose.name,
            identity=face.name,
            output=job.output,
            face_scale=renderer.face_scale,
            seed=job.seed,
            seconds=ended - began,
            sha256="" if failure else sha256_file(output),
            error=failure,
        )
        began = ended


def _render(renderer: Renderer, control: Tensor, face: Face, output: Path, seed: int) -> str:
    """Render one video; returns why it could not be, or nothing."""
    try:
        renderer.render(control, face, output, seed)
    except FaceidError as error:
        log.error("%s: %s", output, error)
        return str(error)
    return ""
