"""Draw keypoints as pose videos, with hands and without face landmarks.

Each frame of a clip gets one skeleton, at the clip's size and rate. A clip's joints may come from `NAME.joints.json`
beside it, which `split_clips` writes in the clip's own crop. Or they come from a folder of keypoints, or from a pose
model that looks at the clip. Keypoints without clips are drawn at their own size and rate. Frames are drawn and written
one by one, so no film is held whole.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceid.claims import CLAIMS_NAME, Claims, hold_plan, share_work
from faceid.data.aist import camera_of, parse_aist_name
from faceid.data.body.head_boxes import head_boxes
from faceid.data.body.keypoints import LEAST_CONFIDENCE, Keypoints, find_keypoints, read_keypoints
from faceid.data.body.sidecars import (
    is_of_another_clip,
    refuse_of_another_clip,
    sidecars_of,
    write_heads,
    write_joints,
)
from faceid.data.clips.pairs import POSE_ENDING
from faceid.data.made_files import POSE_RECORDS_NAME, describe_made, is_as_made, say_replaced
from faceid.data.video_files import list_videos
from faceid.data.waiting import (
    discard_waiting,
    place_for,
    record_in,
    refuse_changed,
    refuse_other_settings,
    take_places,
)
from faceid.errors import DataError, OutputError
from faceid.files.documents import find_json
from faceid.files.given_paths import why_no_folder
from faceid.files.outputs import claim_folder, is_ours, remove_output, write_bookkeeping
from faceid.files.provenance import made_by, sha256_json, sizes_and_times, write_provenance
from faceid.files.records import sha256_file
from faceid.files.writing import json_text, write_json
from faceid.media.listing import entries_of, say_passed_over
from faceid.media.pixels.motion import ENERGY_WIDTH_PX, LOWEST_CORRELATION, EnergyMeter, energy_correlation
from faceid.media.pixels.skeleton import draw_skeletons
from faceid.media.video import Measured, measure_video, stream_frames, write_video

log = logging.getLogger(__name__)

# Increased when a pose video changes for the same joints.
RECIPE = 3
RECORDS_NAME, SUMMARY_NAME = POSE_RECORDS_NAME, "poses.json"

# A pose model sees at most this many frames of a film at a time, and at most this many bytes of them.
FRAMES_BYTES, MOST_FRAMES = 64_000_000, 64

# Function from uint8 RGB [T, H, W, 3] to [T, 17, 3]: x, y in pixels, confidence.
PoseModel = Callable[[np.ndarray], np.ndarray]
# A clip, and the file with its joints.
Unit = tuple[Path | None, Path | None]


@dataclass(frozen=True)
class PoseSource:
    """The source from which poses are drawn.

    videos_dir: clips whose poses are drawn; None draws keypoints alone, at `fps`. keypoints_dir: None looks beside the
    clips. model: estimates joints from the clips' pictures; model_name is its name.
    """

    videos_dir: Path | None
    keypoints_dir: Path | None
    fps: float
    camera: str
    model: PoseModel | None = None
    model_name: str = ""

    @property
    def chosen(self) -> dict[str, Any]:
        """The settings that decide how poses are drawn, by their flags."""
        chosen: dict[str, Any] = {
            "videos_dir": "none" if self.videos_dir is None else "given",
            "keypoints_dir": "none" if self.keypoints_dir is None else "given",
            "pose_model": self.model_name or "none",
        }
        return chosen | ({"fps": self.fps, "camera": self.camera} if self.videos_dir is None else {})


def render_poses(
    source: PoseSource, output_dir: Path, claims: Claims | None = None, replace: bool = False
) -> dict[str, Any]:
    """Write `NAME_pose.mp4` for every clip (or every keypoints file). Returns the summary, which is written last.

    Estimated joints are kept beside the clip as NAME.joints.json and NAME.heads.json, unless those exist.
    replace: whether pose videos that an earlier run drew from something else may be removed.
    Raises: DataError when no pose video can be made, or some would be lost. Raises OutputError when one that would be
    replaced is not as we wrote it.
    """
    units = _find_units(source)
    inputs = [folder for folder in (source.videos_dir, source.keypoints_dir) if folder is not None]
    claim_folder(output_dir, "pose videos", inputs, is_known=made_by(output_dir, "render_poses.py"))
    claims = claims or Claims(output_dir / CLAIMS_NAME)

    def ask() -> None:
        if not replace:
            _refuse_losing(output_dir, units, source)
        # Without joints and without a model there is nothing to draw, and nothing is replaced.
        drawn = [name for name, (_, file) in units.items() if (file or source.model) and not is_done(name)]
        refuse_changed((_pose_path(output_dir, name) for name in drawn), "is drawn anew")

    def before_another() -> None:
        ask()
        discard_waiting(output_dir)

    def is_done(name: str) -> bool:
        return _newest_record(output_dir, name, units[name], source) is not None

    summary: dict[str, Any] = {}
    plan = sha256_json([[name, _inputs(unit, source)] for name, unit in units.items()])
    with hold_plan(claims, plan, before_another):
        # Asked again: the same run may have been killed. What may go was decided then.
        ask()
        for name in share_work(list(units), is_done, claims, "poses", "video"):
            place = place_for(output_dir, SUMMARY_NAME, RECORDS_NAME)
            record = {
                "inputs": _inputs(units[name], source),
                "settings": source.chosen,
                **_render_one(name, units[name], source, place),
            }
            write_json(_record_path(place, name), record)
        for _ in share_work([SUMMARY_NAME], lambda _: False, claims, "summary"):
            records = {name: _newest_record(output_dir, name, units[name], source) or {} for name in units}
            summary = _finish(output_dir, records, source)
    return summary


def estimate(model: PoseModel, frames: Iterable[np.ndarray]) -> Keypoints:
    """One person's joints by a pose model, some frames at a time. frames: uint8 RGB [H, W, 3], all of one size."""
    points: list[np.ndarray] = []
    pictures = iter(frames)
    size_hw = (0, 0)
    while first := list(itertools.islice(pictures, 1)):
        size_hw = first[0].shape[:2]
        more = min(FRAMES_BYTES // first[0].nbytes, MOST_FRAMES) - 1
        points.append(model(np.stack([*first, *itertools.islice(pictures, max(more, 0))])).astype(np.float32))
    found = np.concatenate(points)
    known = found[..., 2] >= LEAST_CONFIDENCE
    body = np.where(known[..., None], found[..., :2], np.float32(np.nan))
    return Keypoints(body, None, known.any(-1).astype(int), None, size_hw)


def _find_units(source: PoseSource) -> dict[str, Unit]:
    """The units to draw, by name: the clip, and the file with its joints."""
    if source.keypoints_dir is not None and (reason := why_no_folder(source.keypoints_dir)) is not None:
        raise DataError(f"keypoints_dir={source.keypoints_dir}: {reason}")
    if source.videos_dir is None:
        assert source.keypoints_dir is not None
        named = f"keypoints_dir={source.keypoints_dir}"
        files = [f for f in entries_of(source.keypoints_dir, named) if f.suffix in (".pkl", ".json") and f.is_file()]
        say_passed_over(source.keypoints_dir, files, "whose endings are not keypoints'", lambda path, _: False)
        if not files:
            raise DataError(f"keypoints_dir={source.keypoints_dir}: holds no .pkl or .json of keypoints")
        return {_pose_stem(file, source.camera): (None, file) for file in files}
    folder = source.keypoints_dir or source.videos_dir
    videos = [v for v in list_videos(source.videos_dir, "videos_dir") if not v.stem.endswith(POSE_ENDING)]
    return {video.stem: (video, None if source.model else find_keypoints(folder, video.stem)) for video in videos}


def _pose_stem(file: Path, camera: str) -> str:
    """The name of the pose. `gBR_sBM_cAll_...` is drawn as one camera sees it, and named like that camera's film."""
    stem = file.name.removesuffix(file.suffix).removesuffix(".joints")
    name = parse_aist_name(stem)
    return stem.replace(f"_{name.camera}_", f"_{camera}_") if name and name.camera_number is None else stem


def _render_one(name: str, unit: Unit, source: PoseSource, output_dir: Path) -> dict[str, Any]:
    try:
        return _draw(name, unit, source, output_dir)
    except OutputError:
        raise
    except DataError as error:
        log.warning("%s: no pose video: %s", name, error)
        return {"frames": 0, "reason": str(error)}


def _draw(name: str, unit: Unit, source: PoseSource, output_dir: Path) -> dict[str, Any]:
    clip, file = unit
    target = _pose_path(output_dir, name)
    if clip is None:
        assert file is not None
        keypoints = read_keypoints(file, camera_of(name))
        if keypoints.size_hw is None:
            raise DataError(f"{file.name}: does not say how large its picture is; give the clips as --videos_dir")
        # Frames are drawn one by one: a minute of film at 1080p would take 20 GB.
        height, width = keypoints.size_hw
        one_by_one = draw_skeletons(keypoints.body, (height // 2 * 2, width // 2 * 2), "vace", keypoints.hands)
        write_video(target, one_by_one, float(keypoints.fps or source.fps))
        return {"frames": len(keypoints), "made": describe_made(target)}
    film = measure_video(clip, ENERGY_WIDTH_PX)
    keypoints = _joints_of(clip, file, film, source)
    known = np.isfinite(keypoints.body).all(-1)
    if not known.any():
        raise DataError(f"{clip.name}: no joint is known in any frame; its pose video would be black")
    meter = EnergyMeter()
    drawn = draw_skeletons(keypoints.body, film.size_hw, "vace", keypoints.hands)
    write_video(target, _metered(drawn, meter), float(film.fps))
    correlation = energy_correlation(film.energy, meter.energy)
    if correlation < LOWEST_CORRELATION:
        log.warning(
            "%s: its skeleton moves differently (correlation %.2f); look at it before training", name, correlation
        )
    said = None if math.isnan(correlation) else round(correlation, 4)
    return {
        "frames": len(keypoints),
        "made": describe_made(target),
        # The pose's reader compares this hash, because the clip of this name may be another one by then.
        "clip_sha256": sha256_file(clip),
        "pairing_correlation": said,
        "frames_without_person": int((~known.any(-1)).sum()),
    }


def _metered(frames: Iterable[np.ndarray], meter: EnergyMeter) -> Iterator[np.ndarray]:
    for frame in frames:
        meter.add(frame)
        yield frame


def _joints_of(clip: Path, file: Path | None, film: Measured, source: PoseSource) -> Keypoints:
    """One entry per frame of the clip, in its pixels."""
    if source.model is not None:
        keypoints = estimate(source.model, stream_frames(clip, range(film.frames)))
        _keep_estimate(clip, keypoints)
        return keypoints
    if file is None:
        place = source.keypoints_dir or clip.parent
        raise DataError(f"no keypoints in {place} ({clip.stem}.joints.json); make them, or use --pose_model")
    refuse_of_another_clip(file, clip)
    keypoints = read_keypoints(file, camera_of(clip.stem)).of_film(film.frames, film.fps)
    if keypoints.size_hw is not None and keypoints.size_hw != film.size_hw:
        raise DataError(
            f"{file.name}: in pixels of {keypoints.size_hw[1]}x{keypoints.size_hw[0]}, the clip is "
            f"{film.size_hw[1]}x{film.size_hw[0]}; draw poses of cropped clips from the joints beside them"
        )
    return keypoints


def _keep_estimate(clip: Path, keypoints: Keypoints) -> None:
    """Write joints beside the clip, for head masks and the audit. Existing files stay, but for our outdated ones."""
    assert keypoints.size_hw is not None
    joints, heads = (not path.exists() or _is_stale(path, clip) for path in sidecars_of(clip))
    if joints:
        write_joints(clip, keypoints)
    if heads:
        write_heads(clip, head_boxes(keypoints.body, keypoints.size_hw), keypoints.size_hw)


def _is_stale(sidecar: Path, clip: Path) -> bool:
    return is_ours(sidecar) and is_of_another_clip(sidecar, clip)


def _inputs(unit: Unit, source: PoseSource) -> str:
    seen = sizes_and_times(file for file in unit if file is not None)
    return sha256_json([RECIPE, seen, source.fps, source.camera, source.model_name])


def _pose_path(folder: Path, name: str) -> Path:
    return folder / f"{name}{POSE_ENDING}.mp4"


def _record_path(folder: Path, name: str) -> Path:
    return folder / RECORDS_NAME / f"{name}.json"


def _newest_record(output_dir: Path, name: str, unit: Unit, source: PoseSource) -> dict[str, Any] | None:
    """The record of a unit, if its pose video is in place or waiting."""

    def is_current(place: Path, record: dict[str, Any]) -> bool:
        is_there = not record.get("frames") or _pose_path(place, name).is_file()
        return is_there and record.get("inputs") == _inputs(unit, source)

    return record_in(output_dir, f"{RECORDS_NAME}/{name}.json", is_current)


def _refuse_losing(output_dir: Path, units: dict[str, Unit], source: PoseSource) -> None:
    """Raises: DataError when the folder holds poses of these clips that were drawn from something else."""
    for name in units:
        record = find_json(_record_path(output_dir, name))
        if record is not None and record.get("frames") and _pose_path(output_dir, name).is_file():
            refuse_other_settings(output_dir, "pose videos", record.get("settings", {}), source.chosen)


def _finish(output_dir: Path, records: dict[str, dict[str, Any]], source: PoseSource) -> dict[str, Any]:
    """Put new pose videos in place, and remove ours that could not be made again. One process does this at a time."""
    made = {name: record for name, record in records.items() if record.get("frames")}
    failed = {name: record.get("reason", "") for name, record in records.items() if not record.get("frames")}
    if not made:
        discard_waiting(output_dir)
        name, reason = next(iter(failed.items()))
        raise DataError(f"{output_dir}: no pose video could be made of {len(records)}; {name}: {reason}")
    take_places(output_dir, [_pose_path(output_dir, name).name for name in made], RECORDS_NAME)
    replaced = sorted(
        name
        for name, record in made.items()
        if not is_as_made(_pose_path(output_dir, name), record.get("made"), _record_path(output_dir, name))
    )
    say_replaced(output_dir, [_pose_path(output_dir, name).name for name in replaced], "render_poses.py", "pose videos")
    made = {name: record for name, record in made.items() if name not in replaced}
    for name in failed:
        # This pose belongs to an earlier clip or earlier joints. A reader would pair it with the new clip.
        pose = _pose_path(output_dir, name)
        if pose.exists() and remove_output(pose):
            log.warning("%s: of an earlier run, and not true any more; removed", pose)
    correlations = {
        name: r["pairing_correlation"] for name, r in made.items() if r.get("pairing_correlation") is not None
    }
    summary = {"made": len(made), "failed": failed, "replaced": replaced, "pairing_correlation": correlations}
    write_provenance(output_dir, {"model": source.model_name or None})
    write_bookkeeping(output_dir / SUMMARY_NAME, json_text(summary))
    log.info("%s: %d pose videos, %d could not be made", output_dir, len(made), len(failed))
    return summary
