"""Which pose video belongs to which clip, and whose clip it is: by name alone, nothing is decoded here.

`dance_001.mp4` pairs with `dance_001_pose.mp4`, or with `dance_001.mp4` in a pose folder of its own.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from faceid.data.aist_names import parse_aist_name
from faceid.errors import DataError

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"})
POSE_ENDING = "_pose"
# A tar member's name holds 100 bytes; the member's ending needs some of them.
LONGEST_KEY = 80


@dataclass(frozen=True)
class ClipPair:
    """One clip's files and what its name says. key: [a-z0-9_-]+, unique in its folder."""

    key: str
    video: Path
    pose: Path
    dancer: str
    genre: str | None = None
    camera: str | None = None
    head_boxes: Path | None = None


def find_pairs(videos_dir: Path, poses_dir: Path) -> tuple[list[ClipPair], list[Path]]:
    """Find every clip with its pose, ordered by key, and the videos that have no pose. The folders may be one.

    The dancer is read from `dancers.csv` (columns clip,dancer) in the videos folder, else from an AIST name, else
    every clip is taken for a dancer of its own. `<stem>.heads.json` beside a video gives its head boxes.
    Raises: DataError when a folder is missing or empty, no video has a pose, or `dancers.csv` is not as said.
    """
    for folder in (videos_dir, poses_dir):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; give the folder with the videos")
    one_folder = videos_dir.resolve() == poses_dir.resolve()
    videos = [v for v in _video_files(videos_dir) if not (one_folder and v.stem.endswith(POSE_ENDING))]
    if not videos:
        raise DataError(
            f"{videos_dir}: no video in it (looked for {', '.join(sorted(VIDEO_SUFFIXES))}, not in subfolders)"
        )
    poses = {pose.stem: pose for pose in _video_files(poses_dir)}
    dancers = _read_dancers(videos_dir / "dancers.csv", {video.stem for video in videos})
    pairs, missing = [], []
    for video in videos:
        pose = poses.get(video.stem + POSE_ENDING) or (None if one_folder else poses.get(video.stem))
        if pose is None:
            missing.append(video)
        elif pair := _describe(video, pose, dancers):
            pairs.append(pair)
    if not pairs:
        raise DataError(
            f"{poses_dir}: no pose video for any of the {len(videos)} videos of {videos_dir}; "
            f"{videos[0].name} needs {videos[0].stem}{POSE_ENDING}.mp4"
        )
    return sorted(_unique_keys(pairs), key=lambda pair: pair.key), missing


def _video_files(folder: Path) -> list[Path]:
    files = (f for f in folder.iterdir() if f.suffix.lower() in VIDEO_SUFFIXES and not f.name.startswith("."))
    return sorted(f for f in files if f.is_file())


def _describe(video: Path, pose: Path, dancers: dict[str, str]) -> ClipPair | None:
    name = parse_aist_name(video.stem)
    dancer = dancers.get(video.stem)
    if name and len(name.dancers) > 1 and not dancer:
        # A face embedding stands for one person; with several in the picture it would teach the wrong one.
        log.warning("%s: left out, %d dancers in one clip", video.name, len(name.dancers))
        return None
    key = _key(video.stem)
    heads = video.with_name(f"{video.stem}.heads.json")
    return ClipPair(
        key=key,
        video=video,
        pose=pose,
        dancer=dancer or (name.dancers[0] if name else key),
        genre=name.genre if name else None,
        camera=name.camera if name else None,
        head_boxes=heads if heads.is_file() else None,
    )


def _key(stem: str) -> str:
    key = re.sub(r"[^a-z0-9_-]+", "-", stem.lower()).strip("-")
    return key if key and len(key) <= LONGEST_KEY else f"{key[: LONGEST_KEY - 13]}-{_short_hash(stem)}".strip("-")


def _unique_keys(pairs: list[ClipPair]) -> list[ClipPair]:
    """Names that differ only in case, accents or suffix share a key: tell them apart by a hash of the whole name."""
    counts = Counter(pair.key for pair in pairs)
    unique = []
    for pair in pairs:
        if counts[pair.key] > 1:
            key = f"{pair.key[: LONGEST_KEY - 13]}-{_short_hash(pair.video.name)}"
            pair = replace(pair, key=key, dancer=key if pair.dancer == pair.key else pair.dancer)
        unique.append(pair)
    return unique


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _read_dancers(path: Path, stems: set[str]) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8: {error}") from error
    dancers = {}
    for number, row in enumerate(rows, start=2):
        clip, dancer = ((row.get(name) or "").strip() for name in ("clip", "dancer"))
        if not clip or not dancer:
            raise DataError(f"{path}: line {number} has no clip or no dancer; the first line must be `clip,dancer`")
        dancers[Path(clip).stem if Path(clip).suffix.lower() in VIDEO_SUFFIXES else clip] = dancer
    unknown = sorted(set(dancers) - stems)
    if unknown:
        log.warning("%s: names %d clips that are not in the folder, such as %s", path, len(unknown), unknown[0])
    return dancers
