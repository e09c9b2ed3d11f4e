"""Read what is to be rendered: a folder of pose videos, or a list of jobs whose lists expand.

A row of a list has `pose` and, where it differs from the command line, `identity`, `seed`, `prompt`,
`negative_prompt`, `face_lora_path`. `output` names its video. In jsonl a value may be a list, and in csv a cell may
hold a list in JSON. Such a row stands for every combination. A bad row also becomes a requested job, with its problem.
It ends as the record of a failed job, and the other jobs are rendered. A list may come from anywhere: the files that it
names are read, and nothing is written outside the output folder.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from faceid.data.video_files import list_videos
from faceid.errors import DataError
from faceid.files.documents import is_text
from faceid.limits import MOST_SEED
from faceid.sampling.jobs.job_folder import our_name_in
from faceid.sampling.jobs.job_rows import KEYS, read_rows, shown, unknown_key
from faceid.sampling.one_video.video_settings import PER_VIDEO, ContentSettings, Noise

log = logging.getLogger(__name__)

# Jobs in one list. A slip, such as two lists of ten thousand in one row, is reported and not begun.
MOST_JOBS = 1_000_000
# The most bytes that file systems take for one name, and for a whole path.
MOST_NAME_BYTES, MOST_PATH_BYTES = 255, 4000


@dataclass(frozen=True)
class RequestedJob:
    """One requested video. identity: as --identity; empty for the face of the command line."""

    pose: Path
    identity: str
    seed: int
    prompt: str
    negative_prompt: str
    adapter: str | None
    output: str = ""
    """The video's path in the output folder, if the row gives one."""
    noise: int | None = None
    """Which of its pose's and identity's own noises, from 1; 0: the only one. None: the seed was given."""
    problem: str = ""
    """Why the job is impossible. The other fields are then empty."""


def read_pose_folder(
    poses_dir: Path, people: Sequence[str], content: ContentSettings, adapter: str | None
) -> list[RequestedJob]:
    """Every pose video of a folder, as every person, with every seed. Raises: DataError."""
    poses = list_videos(poses_dir, "pose_videos_dir", any_name=True)
    doubled = sorted(stem for stem, count in Counter(pose.stem for pose in poses).items() if count > 1)
    if doubled:
        raise DataError(
            f"pose_videos_dir={poses_dir}: several videos named {doubled[0]}.*; they would overwrite each other: "
            "rename all but one"
        )
    words = (content.prompt, content.negative_prompt, adapter)
    jobs = []
    for pose in poses:
        if problem := _problem_of_name(pose):
            jobs.append(RequestedJob(Path(), "", 0, "", "", None, problem=problem))
        else:
            jobs += [
                RequestedJob(pose, person, noise.seed, *words, noise=noise.number)
                for person in people
                for noise in content.noises(pose.stem, person)
            ]
    return jobs


def _problem_of_name(pose: Path) -> str:
    """Why a file's name cannot be recorded: it is no text in any encoding that is used here."""
    return "" if is_text(pose.name) else f"{shown(pose.name)}: a pose video whose name is not UTF-8; rename it"


def read_job_list(
    path: Path, poses_dir: str | None, content: ContentSettings, adapter: str | None
) -> list[RequestedJob]:
    """Read a .jsonl or .csv list. Poses are looked for in a folder, or else beside the list.

    content, adapter: from the command line, for what a row leaves out.
    A bad row is a job with its problem, which names file and line.
    Raises: DataError for a file that is no list, and when every row of it is bad.
    """
    folder = Path(poses_dir) if poses_dir is not None else path.parent
    jobs: dict[RequestedJob, str] = {}
    for line, row in read_rows(path):
        where = f"jobs={path}, line {line}"
        try:
            if isinstance(row, DataError):
                raise row
            combined = _combinations(where, row, len(jobs))
            found = [job for values in combined for job in _jobs(where, values, folder, content, adapter)]
        except DataError as error:
            found = [RequestedJob(Path(), "", 0, "", "", None, problem=str(error))]
        for job in found:
            if job in jobs:
                log.warning("%s: the same as %s; rendered once", where, jobs[job])
            jobs.setdefault(job, f"line {line}")
    if not jobs:
        raise DataError(f"jobs={path}: holds no jobs")
    bad = [job.problem for job in jobs if job.problem]
    if len(bad) == len(jobs):
        raise DataError(bad[0] + (f"; nor can any other of {len(bad)} rows be rendered" if len(bad) > 1 else ""))
    return list(jobs)


def _combinations(where: str, row: dict[str, Any], known: int) -> Iterator[dict[str, Any]]:
    """Every combination of a row's lists. known: number of videos that the list asks for already."""
    for key in row:
        if key not in KEYS:
            raise DataError(f"{where}: {unknown_key(key)}")
    if "pose" not in row:
        raise DataError(f"{where}: says no pose")
    lists = [value if isinstance(value, list) else [value] for value in row.values()]
    for key, values in zip(row, lists, strict=True):
        if not values:
            raise DataError(f"{where}: {key}=[] is an empty list: the row asks for nothing; fill it, or leave it out")
    count = math.prod(len(values) for values in lists)
    if known + count > MOST_JOBS:
        raise DataError(f"{where}: {known + count:,} videos with this row, {MOST_JOBS:,} at most; split the list")
    if "output" in row and count > 1:
        raise DataError(f"{where}: one output for {count} videos; leave it out, they get names of their own")
    return (dict(zip(row, values, strict=True)) for values in itertools.product(*lists))


def _jobs(
    where: str, values: dict[str, Any], folder: Path, content: ContentSettings, adapter: str | None
) -> list[RequestedJob]:
    """The video of a row without lists; with several noises per video, as many."""
    for key, value in values.items():
        if key != "seed":
            _check_text(f"{where}: {key}", key, value)
    output = values.get("output", "")
    inside = PurePosixPath(output)
    if output and (inside.is_absolute() or ".." in inside.parts or inside.suffix != ".mp4" or output.startswith(".")):
        raise DataError(f"{where}: output={output}: must be a path inside the output folder that ends with .mp4")
    if output and (name := our_name_in(inside)):
        raise DataError(f"{where}: output={output}: {name} is a name that the batch itself uses there; give another")
    pose, identity = folder / values["pose"], values.get("identity", "")
    seed = values.get("seed", PER_VIDEO if content.seed == PER_VIDEO else content.seeds[0])
    noises = (
        replace(content, seed=PER_VIDEO).noises(pose.stem, identity) if seed == PER_VIDEO else [_noise(where, seed)]
    )
    if output and len(noises) > 1:
        raise DataError(f"{where}: one output for {len(noises)} noises; leave it out, they get names of their own")
    return [
        RequestedJob(
            pose=pose,
            identity=identity,
            seed=noise.seed,
            prompt=values.get("prompt", content.prompt),
            negative_prompt=values.get("negative_prompt", content.negative_prompt),
            adapter=values.get("face_lora_path", adapter),
            output=output,
            noise=noise.number,
        )
        for noise in noises
    ]


def _noise(where: str, seed: Any) -> Noise:
    # True counts as an int in Python. A value such as 1.9 would be cut to 1.
    if type(seed) is not int:
        raise DataError(f"{where}: seed={shown(seed)} is not a whole number, nor {PER_VIDEO}")
    if abs(seed) > MOST_SEED:
        raise DataError(f"{where}: seed={shown(seed)} is not from {-MOST_SEED} to {MOST_SEED}")
    return Noise(seed)


def _check_text(where: str, key: str, value: Any) -> None:
    """Raises: DataError for a value that is no text, cannot be stored as text, or cannot be a path where one is due."""
    if not isinstance(value, str):
        raise DataError(f"{where}={shown(value)} is not a text")
    if "\0" in value:
        raise DataError(f"{where}={shown(value)} holds a NUL character; take it out")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}={shown(value)} holds half a character (a lone surrogate); write all of it") from error
    if key in ("prompt", "negative_prompt"):
        return
    # A blend consists of several names.
    for name in value.split(",") if key == "identity" else [value]:
        longest = max(len(os.fsencode(part)) for part in name.split("/"))
        if longest > MOST_NAME_BYTES or len(os.fsencode(name)) > MOST_PATH_BYTES:
            said = f"a name of {longest} bytes, {MOST_NAME_BYTES} are what file systems take; give a shorter one"
            raise DataError(f"{where}={shown(value)}: {said}")
