"""Pair each clip with its pose video, and find its dancer, by name alone.

Nothing is decoded here. `dance_001.mp4` pairs with `dance_001_pose.mp4`, or with `dance_001.mp4` in a pose folder of
its own.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from faceid.data.aist import parse_aist_name
from faceid.data.body.sidecars import heads_path, joints_path
from faceid.data.clip_selection import LeftOut, list_no_files, select
from faceid.data.clips.captions import find_caption
from faceid.data.dancers import dancer_of, dancers_beside, why_left_out
from faceid.data.selection_settings import SelectionSettings
from faceid.data.video_files import list_videos
from faceid.errors import DataError

POSE_ENDING = "_pose"
# The name under which clips without a pose video are counted.
NO_POSE = "without a pose video"
# A tar member's name holds 100 bytes. The member's ending needs some of them.
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
    joints: Path | None = None
    caption: Path | None = None

    @property
    def stem(self) -> str:
        """The clip's name without its ending."""
        return self.video.stem


@dataclass(frozen=True)
class FoundPairs:
    """The clips that take part, ordered by key, and those that cannot or were not chosen, with reasons."""

    pairs: list[ClipPair]
    left_out: list[LeftOut]
    not_chosen: list[LeftOut]


def find_pairs(videos_dir: Path, poses_dir: Path, selection: SelectionSettings | None = None) -> FoundPairs:
    """Find every clip with its pose. The folders may be one.

    The dancer is read from `dancers.csv` (columns clip,dancer) in the videos folder, else from an AIST name. Else every
    clip counts as a dancer of its own. `<stem>.heads.json` beside a video gives its head boxes. `<stem>.joints.json`
    beside it, or beside its pose, gives the joints. `<stem>.txt` beside it gives its caption.
    Raises: DataError when a folder is missing or empty, no video has a pose, or `dancers.csv` has another form.
    """
    one_folder = videos_dir.resolve() == poses_dir.resolve()
    videos = [v for v in list_videos(videos_dir) if not (one_folder and v.stem.endswith(POSE_ENDING))]
    poses = {pose.stem: pose for pose in list_videos(poses_dir, may_be_none=True)}
    table = dancers_beside(videos_dir, {video.stem for video in videos})
    pairs, left_out = [], list_no_files(videos_dir)
    for video in videos:
        pose = poses.get(video.stem + POSE_ENDING) or (None if one_folder else poses.get(video.stem))
        reason = why_left_out(video.stem, table)
        if reason:
            left_out.append(LeftOut(video.name, reason, "with several people"))
        elif pose is None:
            expected = f"no pose video (expected {video.stem}{POSE_ENDING}.mp4 in {poses_dir.name})"
            left_out.append(LeftOut(video.name, expected, NO_POSE))
        else:
            pairs.append(_describe(video, pose, table))
    if not pairs and not any(entry.kind == NO_POSE for entry in left_out):
        raise DataError(
            f"{videos_dir}: none of {len(videos)} clips can be used; {left_out[0].name}: {left_out[0].reason}"
        )
    if not pairs:
        raise DataError(
            f"{poses_dir}: no pose video for any of the {len(videos)} videos of {videos_dir}; "
            f"{videos[0].name} needs {videos[0].stem}{POSE_ENDING}.mp4"
        )
    pairs = sorted(_unique_keys(pairs), key=lambda pair: pair.key)
    chosen, not_chosen = select(pairs, selection or SelectionSettings())
    if not chosen:
        example = not_chosen[0]
        raise DataError(f"{videos_dir}: none of {len(pairs)} clips takes part; {example.name}: {example.reason}")
    return FoundPairs(chosen, left_out, not_chosen)


def _describe(video: Path, pose: Path, table: dict[str, str]) -> ClipPair:
    name = parse_aist_name(video.stem)
    key = key_of(video.stem)
    heads = heads_path(video)
    joints = [joints_path(video), joints_path(pose.with_name(video.name))]
    return ClipPair(
        key=key,
        video=video,
        pose=pose,
        dancer=dancer_of(video.stem, table) or key,
        genre=name.genre if name else None,
        camera=name.camera if name else None,
        head_boxes=heads if heads.is_file() else None,
        joints=next((file for file in joints if file.is_file()), None),
        caption=find_caption(video),
    )


def key_of(stem: str) -> str:
    """A name as the key of a sample: [a-z0-9_-]+, short enough for a tar."""
    key = re.sub(r"[^a-z0-9_-]+", "-", stem.lower()).strip("-")
    return key if key and len(key) <= LONGEST_KEY else f"{key[: LONGEST_KEY - 13]}-{_short_hash(stem)}".strip("-")


def _unique_keys(pairs: list[ClipPair]) -> list[ClipPair]:
    """Tell names apart that share a key, because they differ only in case, accents or suffix, by a hash of the name."""
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
