"""Pack clips and their poses into clip shards: one size, one rate, one length, checked pair by pair.

Frames are paired by index, never by time, because pose files carry wrong rates. The video's rate (or its time stamps,
where the rate varies) decides which frames are taken. The pose gives the frames of the same indices. A clip that cannot
be used is dropped with its reason.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from faceid.data.aist import camera_of
from faceid.data.body.crop_boxes import fit_points
from faceid.data.body.head_boxes import face_boxes, frontalness
from faceid.data.body.keypoints import belong_together, read_film_keypoints
from faceid.data.body.sidecars import joints_content, read_heads, refuse_of_another_clip, rounded_boxes
from faceid.data.clip_selection import log_left_out
from faceid.data.clip_settings import CaptionFiles, ClipSettings
from faceid.data.clips.captions import read_caption, read_captions, say_captions, say_strangers
from faceid.data.clips.pairs import ClipPair, FoundPairs, find_pairs
from faceid.data.disk_space import check_space
from faceid.data.made_files import refuse_pose_of_another_clip, warn_of_replaced
from faceid.data.selection_settings import SelectionSettings
from faceid.data.shards.shard_work import ShardUnit, is_done, make_shards_together, one_plan, plan_units
from faceid.data.shards.shard_writer import (
    Dropped,
    Entry,
    ShardRecord,
    claim_shards,
    read_record,
    refuse_losing,
    write_index,
)
from faceid.data.waiting import discard_waiting
from faceid.errors import ConfigError, DataError
from faceid.files.provenance import sha256_file, sha256_json, sizes_and_times
from faceid.geometry import Geometry
from faceid.logs import progress
from faceid.media.pixels.fit import Fit, fit_sizes
from faceid.media.pixels.motion import ENERGY_WIDTH_PX, LOWEST_CORRELATION, energy_correlation
from faceid.media.video import Measured, encode_video_bytes, measure_video, read_frames

log = logging.getLogger(__name__)

# Increased when the bytes of a clip change for the same inputs and settings.
RECIPE = 4
ASPECT_TOLERANCE = 0.02
# For a clip and its pose together, as they are encoded: 0.45 and 0.47 in two real pairs of 480x832.
BITS_PER_PIXEL = 0.6


def write_clip_shards(
    videos_dir: Path,
    poses_dir: Path,
    output_dir: Path,
    settings: ClipSettings,
    geometry: Geometry | None = None,
    selection: SelectionSettings | None = None,
    caption_files: CaptionFiles = "read",
    replace: bool = False,
) -> dict[str, Any]:
    """Write clip shards and their index. Returns the index. A finished folder costs a look at sizes and times.

    geometry: of the model for which the clips are made; size and length are checked by it before any work.
    selection: which clips take part. replace: whether clips of an earlier run may be removed that take no part in this
    one, or have other settings.
    Raises: ConfigError for an illegal size or length. Raises DataError when no clip can be used (with the
    reasons), clips would be lost, a caption is unreadable, or the folder is not ours.
    """
    if geometry:
        geometry.check_num_frames(settings.num_frames)
        geometry.check_size(settings.height, settings.width)
    for name, value in (("height", settings.height), ("width", settings.width)):
        if value % 2:
            raise ConfigError(
                f"{name}={value}: clips are H.264, which needs even sizes; use {value - 1} or {value + 1}"
            )
    selection = selection or SelectionSettings()
    found = find_pairs(videos_dir, poses_dir, selection)
    pairs = captioned(found.pairs, caption_files)
    if caption_files == "read":
        say_strangers(videos_dir)
    log_left_out(found.left_out + found.not_chosen, "clips")
    claim_shards(output_dir, "clips", [videos_dir, poses_dir])
    chosen = asdict(settings)
    units = plan_units(
        output_dir,
        "clips",
        pairs,
        settings.clips_per_shard,
        lambda group: [RECIPE, chosen, [_describe_inputs(pair, sizes_and_times) for pair in group]],
    )
    left = sum(len(unit.parts) for unit in units if not _is_there(unit, settings))
    check_space(output_dir, left * bytes_per_clip(settings), "the shards")
    keys = {pair.key for pair in pairs}
    with (
        one_plan(output_dir, units, lambda: refuse_losing(output_dir, "clips", keys, replace, chosen)),
        ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool,
    ):

        def entries_of(unit: ShardUnit) -> Iterable[Entry | Dropped]:
            tries = pool.map(lambda pair: _try_clip(pair, settings), unit.parts)
            return progress(tries, unit.path.stem, len(unit.parts), "clip", leave=False)

        def inputs_of(unit: ShardUnit) -> str:
            described = pool.map(lambda pair: _describe_inputs(pair, _hashes), unit.parts)
            return sha256_json([RECIPE, chosen, list(described)])

        records = make_shards_together(output_dir, units, entries_of, chosen, inputs_of)
        index = _write_clips_index(output_dir, videos_dir, settings, found, records)
    log.info(
        "%s: %d clips in %d shards, %d left out",
        output_dir,
        len(index["samples"]),
        len(index["shards"]),
        len(index["dropped"]),
    )
    return index


def _write_clips_index(
    output_dir: Path, videos_dir: Path, settings: ClipSettings, found: FoundPairs, records: list[ShardRecord]
) -> dict[str, Any]:
    for record in records:
        for drop in record.dropped:
            log.warning("%s: left out: %s", drop["video"], drop["reason"])
    if not any(record.shard for record in records):
        reasons = [f"{drop['video']}: {drop['reason']}" for record in records for drop in record.dropped]
        discard_waiting(output_dir)
        raise DataError(f"{videos_dir}: none of {len(reasons)} clips can be used: {'; '.join(reasons[:5])}")
    header = {
        "settings": asdict(settings),
        "dropped": [{"key": None, "video": entry.name, "reason": entry.reason} for entry in found.left_out],
        "not_chosen": dict(sorted(Counter(entry.kind for entry in found.not_chosen).items())),
    }
    return write_index(output_dir, "clips", header, records)


def captioned(pairs: list[ClipPair], caption_files: CaptionFiles) -> list[ClipPair]:
    """The pairs with the captions that are used. Every caption is read once and counted.

    Raises: DataError when a caption cannot be used. The error comes before an hour's work, and no clip is left out.
    """
    files = {pair.key: pair.caption for pair in pairs}
    if caption_files == "ignore":
        own = sum(file is not None for file in files.values())
        if own:
            log.warning("%d captions beside clips are not read: --caption_files ignore", own)
        return [replace(pair, caption=None) for pair in pairs]
    say_captions(len(read_captions(files)), len(pairs), "clips")
    return pairs


def bytes_per_clip(settings: ClipSettings) -> int:
    """Approximate bytes of a clip and its pose."""
    return round(settings.num_frames * settings.height * settings.width * BITS_PER_PIXEL / 8)


def _is_there(unit: ShardUnit, settings: ClipSettings) -> bool:
    """Whether a shard takes no more room: its tar is there, and was made with the same settings."""
    if is_done(unit.path.parent, unit):
        return True
    known = read_record(unit.path) if unit.path.is_file() else None
    return known is not None and known.settings == asdict(settings)


def _describe_inputs(pair: ClipPair, describe: Callable[[list[Path]], Any]) -> list[Any]:
    """What decides a clip. describe: of its files, by their content, or cheaply."""
    files = [file for file in (pair.video, pair.pose, pair.head_boxes, pair.joints, pair.caption) if file]
    return [pair.key, pair.dancer, pair.genre, pair.camera, describe(files)]


def _hashes(files: list[Path]) -> list[list[str]]:
    return [[file.name, sha256_file(file)] for file in files]


def _try_clip(pair: ClipPair, settings: ClipSettings) -> Entry | Dropped:
    """Make one clip, or return why it was dropped."""
    try:
        return make_clip(pair, settings)
    except DataError as error:
        # Names come without folders, so the index and its checksum do not depend on where the clips lie.
        reason = str(error).replace(f"{pair.video}: ", "").replace(str(pair.pose), pair.pose.name)
        return {"key": pair.key, "video": pair.video.name, "reason": reason}


def make_clip(pair: ClipPair, settings: ClipSettings) -> Entry:
    """Cut, fit and encode one clip and its pose. Raises: DataError with the reason why it cannot be used."""
    replaced = warn_of_replaced((pair.video, pair.pose))
    video, pose = (measure_video(path, ENERGY_WIDTH_PX) for path in (pair.video, pair.pose))
    common = _common_frames(pair, video.frames, pose.frames, settings.uneven_pairs)
    indices = video.timeline.indices(settings.fps, settings.num_frames)
    if indices[-1] >= common:
        raise DataError(
            f"{common} frames at {float(video.fps):g} fps; {settings.num_frames} at {settings.fps:g} fps "
            f"need {indices[-1] + 1}: use a lower --num_frames or a longer clip"
        )
    _warn_of_poor_fit(pair, video, pose, settings)
    fits = [fit_sizes(m.size_hw, settings.height, settings.width, settings.fit).on_even_pixels() for m in (video, pose)]
    video_frames, pose_frames = (
        read_frames(path, indices, fit) for path, fit in zip((pair.video, pair.pose), fits, strict=True)
    )
    caption = {"caption": read_caption(pair.caption)} if pair.caption is not None else {}
    details = {
        "key": pair.key,
        "dancer": pair.dancer,
        "genre": pair.genre,
        "camera": pair.camera,
        "frames": settings.num_frames,
        "fps": settings.fps,
        "size_hw": [settings.height, settings.width],
        "source": {"video": pair.video.name, "pose": pair.pose.name, "fps": float(video.fps), "frames": common},
        "pairing_correlation": _check_pairing(pair, video, pose),
        "head_boxes": _head_boxes(pair, indices, fits[0], video.size_hw),
        **_joints(pair, indices, fits[0], video),
        **caption,
    }
    # This check is last, because errors of lengths and sidecars say more. A pose that somebody put there is theirs.
    if pair.pose not in replaced:
        refuse_pose_of_another_clip(pair.pose, pair.video)
    members = {
        "video.mp4": encode_video_bytes(video_frames, settings.fps),
        "pose.mp4": encode_video_bytes(pose_frames, settings.fps),
        "json": json.dumps(details, sort_keys=True).encode(),
    }
    labels = {name: details[name] for name in ("frames", "dancer", "genre", "camera")}
    return Entry(pair.key, members, {**labels, **caption})


def _common_frames(pair: ClipPair, video_frames: int, pose_frames: int, uneven_pairs: str) -> int:
    if uneven_pairs == "refuse" and not belong_together(video_frames, pose_frames):
        raise DataError(
            f"the video has {video_frames} frames, its pose {pair.pose.name} has {pose_frames}; "
            "they must show the same frames: render the pose again from this video, or use --uneven_pairs cut where "
            "the first frames of both belong together"
        )
    if video_frames != pose_frames:
        log.warning(
            "%s: %d frames, its pose %d; the common %d are used",
            pair.video.name,
            video_frames,
            pose_frames,
            min(video_frames, pose_frames),
        )
    return min(video_frames, pose_frames)


def _warn_of_poor_fit(pair: ClipPair, video: Measured, pose: Measured, settings: ClipSettings) -> None:
    name = pair.video.name
    aspect, pose_aspect = (m.size_hw[1] / m.size_hw[0] for m in (video, pose))
    if abs(aspect / pose_aspect - 1) > ASPECT_TOLERANCE:
        log.warning(
            "%s: aspect %.3f, its pose %.3f; after fitting, the figure may lie beside the dancer: look at one clip",
            name,
            aspect,
            pose_aspect,
        )
    if video.timeline.warning:
        log.warning("%s: %s", name, video.timeline.warning)
    if video.fps < settings.fps:
        log.warning("%s: %g fps, a clip has %g; frames are repeated", name, float(video.fps), settings.fps)
    if video.size_hw[0] < settings.height and video.size_hw[1] < settings.width:
        size = f"{video.size_hw[1]}x{video.size_hw[0]}"
        log.warning("%s: %s is enlarged to %dx%d", name, size, settings.width, settings.height)


def _check_pairing(pair: ClipPair, video: Measured, pose: Measured) -> float | None:
    """Compare the motion over the whole files, because a clip's few frames would say little."""
    correlation = energy_correlation(video.energy, pose.energy)
    if math.isnan(correlation):
        log.warning(
            "%s: cannot tell whether %s belongs to it: one stands still, or they are too short",
            pair.video.name,
            pair.pose.name,
        )
        return None
    if correlation < LOWEST_CORRELATION:
        log.warning(
            "%s: its pose %s moves differently (correlation %.2f, below %.1f); is it the pose of another clip?",
            pair.video.name,
            pair.pose.name,
            correlation,
            LOWEST_CORRELATION,
        )
    return round(correlation, 4)


def _head_boxes(
    pair: ClipPair, indices: list[int], fit: Fit, size_hw: tuple[int, int]
) -> list[list[float] | None] | None:
    """The sidecar's boxes for the frames in the clip, in pixels of the fitted clip; None without a sidecar.

    size_hw: size of the source clip. Where the sidecar states a size, it must be this one.
    """
    if pair.head_boxes is None:
        return None
    refuse_of_another_clip(pair.head_boxes, pair.video)
    boxes = read_heads(pair.head_boxes, size_hw)
    if indices[-1] >= len(boxes):
        raise DataError(
            f"{pair.head_boxes.name}: {len(boxes)} boxes, frame {indices[-1]} is needed; one box or null per frame"
        )
    return rounded_boxes(fit.boxes(boxes[index] for index in indices))


def _joints(pair: ClipPair, indices: list[int], fit: Fit, video: Measured) -> dict[str, Any]:
    """The joints for the frames in the clip, in pixels of the fitted clip, and what they say of the face.

    The result is empty without joints. Joints beside the clip were measured in it, and say where its face is. Joints
    beside its pose may belong to the drawing.
    """
    if pair.joints is None:
        return {}
    refuse_of_another_clip(pair.joints, pair.video)
    taken = read_film_keypoints(pair.joints, camera_of(pair.stem), video).at(np.array(indices))
    found: dict[str, Any] = {"joints": joints_content(taken.moved(lambda points: fit_points(points, fit), fit.size_hw))}
    if pair.joints.parent == pair.video.parent:
        found["face_boxes"] = rounded_boxes(fit.boxes(face_boxes(taken.body)))
        found["frontal"] = frontalness(taken.body).round(3).tolist()
    return found
