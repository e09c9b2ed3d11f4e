"""What is to be rendered, as it was asked for: a folder of pose videos, or a list of jobs whose lists expand.

A row of a list has `pose` and, where it differs from the command line, `identity`, `seed`, `prompt`,
`negative_prompt`, `face_lora_path`; `output` names its video. In jsonl a value may be a list, in csv a cell may hold
one in JSON: a row then stands for every combination.
"""

from __future__ import annotations

import csv
import difflib
import itertools
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from faceid.data.video_files import list_videos
from faceid.errors import DataError
from faceid.sampling.settings import SampleSettings

log = logging.getLogger(__name__)

KEYS = ("pose", "identity", "seed", "prompt", "negative_prompt", "face_lora_path", "output")


@dataclass(frozen=True)
class Wish:
    """One video that was asked for. identity: as --identity; empty for whoever the command line names."""

    pose: Path
    identity: str
    seed: int
    prompt: str
    negative_prompt: str
    adapter: str | None
    output: str = ""
    """The video's path in the output folder, where it was given."""


def wishes_of_folder(poses_dir: Path, people: Sequence[str], settings: SampleSettings) -> list[Wish]:
    """Every pose video of a folder as every person with every seed. Raises: DataError."""
    poses = list_videos(poses_dir, "pose_videos_dir")
    stems = [pose.stem for pose in poses]
    doubled = sorted({stem for stem in stems if stems.count(stem) > 1})
    if doubled:
        raise DataError(
            f"pose_videos_dir={poses_dir}: several videos named {doubled[0]}.*; they would overwrite each other: "
            "rename all but one"
        )
    words = (settings.prompt, settings.negative_prompt, settings.face_lora_path)
    return [Wish(pose, person, seed, *words) for pose in poses for person in people for seed in settings.seeds]


def read_job_list(path: Path, settings: SampleSettings) -> list[Wish]:
    """A .jsonl or .csv list. Poses are looked for in --pose_videos_dir, or else beside the list.

    Raises: DataError naming file and line for what is none.
    """
    folder = Path(settings.pose_videos_dir) if settings.pose_videos_dir is not None else path.parent
    wishes: dict[Wish, str] = {}
    for line, row in _rows(path):
        where = f"jobs={path}, line {line}"
        for values in _combinations(where, row):
            wish = _wish(where, values, folder, settings)
            if wish in wishes:
                log.warning("%s: the same as %s; rendered once", where, wishes[wish])
            wishes.setdefault(wish, f"line {line}")
    if not wishes:
        raise DataError(f"jobs={path}: holds no jobs")
    return list(wishes)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"jobs={path}: cannot be read ({error})") from error
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(text.splitlines())
        for row in reader:
            if None in row:
                raise DataError(f"jobs={path}, line {reader.line_num}: more cells than the first line has names")
            yield reader.line_num, {key: _cell(cell) for key, cell in row.items() if cell not in (None, "")}
        return
    if path.suffix.lower() != ".jsonl":
        raise DataError(f"jobs={path}: is neither .jsonl nor .csv")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"jobs={path}, line {number}: is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(f'jobs={path}, line {number}: is not an object such as {{"pose": "a_pose.mp4"}}')
        yield number, row


def _cell(cell: str) -> Any:
    """A csv cell: a list where it is one in JSON, else its text."""
    if cell.startswith("[") and cell.endswith("]"):
        try:
            return json.loads(cell)
        except ValueError:
            return cell
    return cell


def _combinations(where: str, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key in row:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, 1)
            raise DataError(f"{where}: unknown key {key!r}" + (f"; did you mean {near[0]}?" if near else ""))
    if "pose" not in row:
        raise DataError(f"{where}: says no pose")
    lists = [value if isinstance(value, list) else [value] for value in row.values()]
    combined = [dict(zip(row, values, strict=True)) for values in itertools.product(*lists)]
    if "output" in row and len(combined) > 1:
        raise DataError(f"{where}: one output for {len(combined)} videos; leave it out, they get names of their own")
    yield from combined


def _wish(where: str, values: dict[str, Any], folder: Path, settings: SampleSettings) -> Wish:
    try:
        seed = int(values.get("seed", settings.seeds[0]))
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: seed={values['seed']!r} is not a whole number") from error
    for key, value in values.items():
        if key != "seed" and not isinstance(value, str):
            raise DataError(f"{where}: {key}={value!r} is not a text")
    output = values.get("output", "")
    inside = PurePosixPath(output)
    if output and (inside.is_absolute() or ".." in inside.parts or inside.suffix != ".mp4" or output.startswith(".")):
        raise DataError(f"{where}: output={output}: must be a path inside the output folder that ends with .mp4")
    return Wish(
        pose=folder / values["pose"],
        identity=values.get("identity", ""),
        seed=seed,
        prompt=values.get("prompt", settings.prompt),
        negative_prompt=values.get("negative_prompt", settings.negative_prompt),
        adapter=values.get("face_lora_path", settings.face_lora_path),
        output=output,
    )
