"""What is to be rendered, as it was asked for: a folder of pose videos, or a list of jobs whose lists expand.

A row of a list has `pose` and, where it differs from the command line, `identity`, `seed`, `prompt`,
`negative_prompt`, `face_lora_path`; `output` names its video. In jsonl a value may be a list, in csv a cell may hold
one in JSON: a row then stands for every combination. A row that cannot be is a requested job as well, with its problem,
and becomes the record of a job that failed: the others are rendered. Such a list may come from anywhere: what it names
is read, and nothing is written but inside the output folder.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from faceid.data.video_files import list_videos
from faceid.errors import DataError
from faceid.files.documents import is_text
from faceid.limits import MOST_SEED
from faceid.sampling.jobs.job_folder import our_name_in
from faceid.sampling.jobs.job_rows import KEYS, read_rows, shown, unknown_key
from faceid.sampling.one_video.video_settings import ContentSettings

log = logging.getLogger(__name__)

# In one list: a slip such as two lists of ten thousand in one row is told, not begun.
MOST_JOBS = 1_000_000
# What file systems take of one name, and of a whole path.
MOST_NAME_BYTES, MOST_PATH_BYTES = 255, 4000


@dataclass(frozen=True)
class RequestedJob:
    """One video that was asked for. identity: as --identity; empty for whoever the command line names."""

    pose: Path
    identity: str
    seed: int
    prompt: str
    negative_prompt: str
    adapter: str | None
    output: str = ""
    """The video's path in the output folder, where it was given."""
    problem: str = ""
    """Why it cannot be asked for so; the rest is then empty."""


def read_pose_folder(
    poses_dir: Path, people: Sequence[str], content: ContentSettings, adapter: str | None
) -> list[RequestedJob]:
    """Every pose video of a folder as every person with every seed. Raises: DataError."""
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
            jobs += [RequestedJob(pose, person, seed, *words) for person in people for seed in content.seeds]
    return jobs


def _problem_of_name(pose: Path) -> str:
    """Why a file of a folder cannot be told to anybody: its name is no text in any encoding that is used here."""
    return "" if is_text(pose.name) else f"{shown(pose.name)}: a pose video whose name is not UTF-8; rename it"


def read_job_list(
    path: Path, poses_dir: str | None, content: ContentSettings, adapter: str | None
) -> list[RequestedJob]:
    """A .jsonl or .csv list. Poses are looked for in a folder, or else beside the list.

    content, adapter: of the command line, for what a row does not say.
    A row that cannot be is a job with its problem, which names file and line.
    Raises: DataError for a file that is no list, and when no row of it can be.
    """
    folder = Path(poses_dir) if poses_dir is not None else path.parent
    jobs: dict[RequestedJob, str] = {}
    for line, row in read_rows(path):
        where = f"jobs={path}, line {line}"
        try:
            if isinstance(row, DataError):
                raise row
            combined = _combinations(where, row, len(jobs))
            found = [_job(where, values, folder, content, adapter) for values in combined]
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
    """Every combination of a row's lists. known: how many videos the list asks for already."""
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


def _job(
    where: str, values: dict[str, Any], folder: Path, content: ContentSettings, adapter: str | None
) -> RequestedJob:
    seed = values.get("seed", content.seeds[0])
    # True is an int to Python, and 1.9 was one once it had been cut.
    if type(seed) is not int:
        raise DataError(f"{where}: seed={shown(seed)} is not a whole number")
    if abs(seed) > MOST_SEED:
        raise DataError(f"{where}: seed={shown(seed)} is not from {-MOST_SEED} to {MOST_SEED}")
    for key, value in values.items():
        if key != "seed":
            _check_text(f"{where}: {key}", key, value)
    output = values.get("output", "")
    inside = PurePosixPath(output)
    if output and (inside.is_absolute() or ".." in inside.parts or inside.suffix != ".mp4" or output.startswith(".")):
        raise DataError(f"{where}: output={output}: must be a path inside the output folder that ends with .mp4")
    if output and (name := our_name_in(inside)):
        raise DataError(f"{where}: output={output}: {name} is a name that the batch itself uses there; give another")
    return RequestedJob(
        pose=folder / values["pose"],
        identity=values.get("identity", ""),
        seed=seed,
        prompt=values.get("prompt", content.prompt),
        negative_prompt=values.get("negative_prompt", content.negative_prompt),
        adapter=values.get("face_lora_path", adapter),
        output=output,
    )


def _check_text(where: str, key: str, value: Any) -> None:
    """Raises: DataError for what is no text, cannot be stored as one, or cannot be a path where one is meant."""
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
    # A blend is several names.
    for name in value.split(",") if key == "identity" else [value]:
        longest = max(len(os.fsencode(part)) for part in name.split("/"))
        if longest > MOST_NAME_BYTES or len(os.fsencode(name)) > MOST_PATH_BYTES:
            said = f"a name of {longest} bytes, {MOST_NAME_BYTES} are what file systems take; give a shorter one"
            raise DataError(f"{where}={shown(value)}: {said}")
