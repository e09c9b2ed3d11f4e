"""Read the output of `sample.py --batch`.

An arm's `jobs.jsonl` records its rendered videos. An arm is one folder of renders made in one way (one adapter, one
face_scale). Nothing is decoded here. The sha256 shows that a file is still the rendered one. The arm of real clips is a
folder of clips. The dancer of each driving clip is recorded too, so that the driver's share in a render can be
measured.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from faceid.data.clips.pairs import POSE_ENDING
from faceid.data.dancers import dancer_of, read_dancers
from faceid.data.video_files import VIDEO_SUFFIXES
from faceid.errors import DataError
from faceid.files.documents import DocumentError, read_json_lines
from faceid.files.provenance import sha256_file
from faceid.media.listing import entries_of

log = logging.getLogger(__name__)

JOBS_NAME = "jobs.jsonl"
# No video has as many frames. A number from a file is not used for an allocation.
MOST_FRAMES = 1 << 24
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "pose": str,
    "output": str,
    "identity": str,
    "face_scale": (int, float),
    "seed": int,
    "sha256": str,
}


@dataclass(frozen=True)
class Render:
    """One rendered video."""

    path: Path
    clip: str
    """Stem of the driving clip: the pose video's stem without its ending _pose."""
    identity: str
    """The requested person; empty when there was none, or at face_scale 0."""
    face_scale: float
    seed: int
    sha256: str
    pose_frames: tuple[int, ...] | None = None
    """The frame of the pose, and so of the clip, that each frame follows; None: the first ones, one by one."""

    def clip_frames(self, count: int) -> Sequence[int]:
        """The clip's frame for each of the render's `count` frames. Raises: DataError when there are too few."""
        if self.pose_frames is None:
            return range(count)
        if len(self.pose_frames) != count:
            raise DataError(
                f"{self.path}: {count} frames, its {JOBS_NAME} says pose_frames for {len(self.pose_frames)}; render "
                "it again"
            )
        return self.pose_frames


@dataclass(frozen=True)
class Arm:
    """All renders of one arm, by identity, clip and seed."""

    name: str
    renders: list[Render]
    num_failed: int

    @property
    def num_noises(self) -> int:
        """How many noises its videos were made from. Videos of one noise are one sample of it."""
        return len({render.seed for render in self.renders})

    @property
    def face_scales(self) -> list[float]:
        """The face scales of its renders, ascending; usually one."""
        return sorted({render.face_scale for render in self.renders})


def read_arm(name: str, folders: Sequence[Path]) -> Arm:
    """Read the jobs.jsonl of an arm's folders (one per seed, usually) and check its videos.

    Raises: DataError when one is missing, written by an older sample.py, empty, or a video was changed since.
    """
    renders: dict[tuple[str, str, int], Render] = {}
    num_failed = 0
    for folder in folders:
        found, failed = _read_folder(name, folder)
        num_failed += failed
        for key, render in found.items():
            if key in renders:
                _refuse_second(folder / JOBS_NAME, renders[key], render)
            renders.setdefault(key, render)
    return Arm(name, [renders[key] for key in sorted(renders)], num_failed)


def read_real_clips(name: str, folders: Sequence[Path], drivers_csv: Path | None) -> Arm:
    """The clips of folders as an arm, in place of perfect renders. The dancer is the person shown.

    Raises: DataError when a folder is missing or has no clip, or when a clip's dancer is unknown.
    """
    clips = [path for folder in folders for path in _clips_of(name, folder)]
    dancers = find_drivers([path.stem for path in clips], drivers_csv)
    for path in clips:
        if path.stem not in dancers:
            raise DataError(f"{path}: nobody knows who dances in it; name it as AIST does, or give --drivers_csv")
    renders = [Render(path, path.stem, dancers[path.stem], 1.0, 0, sha256_file(path)) for path in clips]
    return Arm(name, sorted(renders, key=lambda render: (render.identity, render.clip)), 0)


def find_drivers(clips: Iterable[str], drivers_csv: Path | None) -> dict[str, str]:
    """Dancer by clip, for clips of one known dancer: from the table, else from AIST names.

    Raises: DataError when the table is missing or has no columns clip,dancer.
    """
    table = read_dancers(drivers_csv, "drivers_csv") if drivers_csv is not None else {}
    found = {clip: dancer_of(clip, table) for clip in sorted(set(clips))}
    return {clip: dancer for clip, dancer in found.items() if dancer is not None}


def clip_stem(pose: str) -> str:
    """`X_pose.mp4` to `X`: the clip from which a pose video was drawn."""
    return Path(pose).stem.removesuffix(POSE_ENDING)


def _clips_of(name: str, folder: Path) -> list[Path]:
    files = [f for f in entries_of(folder, f"renders: {name}={folder}") if f.is_file()] if folder.is_dir() else []
    clips = [f for f in files if f.suffix.lower() in VIDEO_SUFFIXES and not f.stem.endswith(POSE_ENDING)]
    if not clips:
        raise DataError(f"renders: {name}={folder}: no clips in it; give the folder of the real clips")
    return clips


def _read_folder(name: str, folder: Path) -> tuple[dict[tuple[str, str, int], Render], int]:
    """Renders of one folder by identity, clip and seed, and how many failed."""
    path = folder / JOBS_NAME
    if not path.is_file():
        raise DataError(f"renders: {name}={folder}: no {JOBS_NAME} in it; render with sample.py --batch")
    rows = list(read_json_lines(path))
    renders: dict[tuple[str, str, int], Render] = {}
    num_failed = 0
    for number, row in rows:
        if isinstance(row, DocumentError):
            raise DataError(f"{row}; render again with sample.py --batch") from row
        if row.get("error"):
            num_failed += 1
            continue
        render = _render(folder, path, number, row)
        key = (render.identity, render.clip, render.seed)
        if key in renders:
            _refuse_second(path, renders[key], render)
        renders.setdefault(key, render)
    if num_failed:
        log.warning("%s: %d of %d renders failed and are not scored", path, num_failed, len(rows))
    if not renders:
        raise DataError(f"{path}: holds no rendered video; render with sample.py --batch")
    return renders, num_failed


def _refuse_second(path: Path, first: Render, second: Render) -> None:
    # Without an identity, the same video is rendered once per folder of people.
    if second.identity or first.sha256 != second.sha256:
        raise DataError(
            f"{path}: {second.path.name} is another render of {second.clip}, identity {second.identity or 'none'}, "
            f"seed {second.seed}, than {first.path}; make each face_scale an arm of its own"
        )


def _render(folder: Path, path: Path, number: int, row: dict[str, Any]) -> Render:
    for field, kind in _FIELDS.items():
        if not isinstance(row.get(field), kind) or isinstance(row.get(field), bool):
            raise DataError(
                f"{path}: line {number} has no {field}, as rows of an older sample.py; render again with "
                "sample.py --batch into an empty folder"
            )
    inside = PurePosixPath(row["output"])
    if inside.is_absolute() or ".." in inside.parts:
        raise DataError(f"{path}: line {number}: output={row['output']!r} is outside the folder; render again")
    video = folder / inside
    if not video.is_file():
        raise DataError(f"{video}: missing, {path} names it; render it again")
    if sha256_file(video) != row["sha256"]:
        raise DataError(f"{video}: is not the file that was rendered (its sha256 is not that of {path}); render again")
    return Render(
        video,
        clip_stem(row["pose"]),
        row["identity"],
        float(row["face_scale"]),
        row["seed"],
        str(row["sha256"]),
        pose_frames_of(row, f"{path}: line {number}"),
    )


def pose_frames_of(row: Mapping[str, Any], where: str) -> tuple[int, ...] | None:
    """The pose frames that a row of jobs.jsonl records. Raises: DataError when it is no list of places."""
    listed = row.get("pose_frames")
    if listed is None:
        return None
    is_list = isinstance(listed, list) and all(type(place) is int and 0 <= place < MOST_FRAMES for place in listed)
    if not is_list or not listed or listed != sorted(listed):
        raise DataError(f"{where}: pose_frames is no list of places in a video, ascending; render again")
    return tuple(listed)
