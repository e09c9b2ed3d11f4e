"""Films to clips: one length and rate, one box around the dancer, joints and head boxes carried along.

A film is one unit of work; many machines share a folder (`faceid.claims`). A film's clips are published first and its
record last (`films/<name>.json`), which says what became clips and what was left out, and why; a second run keeps the
films whose record fits. Frames are chosen by index: clip frame k is film frame start + round(k * film_fps / fps).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceid.claims import CLAIMS_NAME, Claims, share_work
from faceid.data.aist import camera_of
from faceid.data.crop_boxes import crop_fit, fit_points
from faceid.data.film_records import (
    RECORDS_NAME,
    current_record,
    finish_split,
    inputs_of,
    record_path,
    refuse_losing_films,
)
from faceid.data.films import Film, SplitSettings, find_films
from faceid.data.head_boxes import head_boxes
from faceid.data.keypoints import Keypoints, read_film_keypoints
from faceid.data.selection import SelectionSettings, log_left_out
from faceid.data.sidecars import write_heads, write_joints
from faceid.data.windows import LIMBS, NOBODY, UPPER_LIMBS, find_cuts, why_unusable, window_starts
from faceid.errors import DataError, OutputError
from faceid.media.fit import Fit, fit_sizes
from faceid.media.motion import ENERGY_WIDTH_PX, motion_energy
from faceid.media.video import Measured, frame_indices, measure_video, stream_frames, write_video
from faceid.outputs import claim_folder
from faceid.provenance import made_by
from faceid.writing import write_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedClip:
    """One clip to be: film frames, where they land, and the joints in them (in pixels of the film)."""

    name: str
    indices: list[int]
    fit: Fit
    keypoints: Keypoints | None


def split_films(
    videos_dir: Path,
    output_dir: Path,
    settings: SplitSettings,
    keypoints_dir: Path | None = None,
    selection: SelectionSettings | None = None,
    claims: Claims | None = None,
    replace: bool = False,
) -> dict[str, Any]:
    """Split every film of a folder; returns the summary that is written last.

    claims: of another worker's view than this process's own, for tests. replace: whether clips of an earlier run whose
    films take no part in this one may be removed.
    Raises: DataError when no film can be used, clips would be lost, or the folder is not ours.
    """
    films, left_out = find_films(videos_dir, keypoints_dir, settings, selection)
    log_left_out(left_out, "films")
    inputs = [videos_dir] if keypoints_dir is None else [videos_dir, keypoints_dir]
    claim_folder(output_dir, "clips of films", inputs, is_known=made_by(output_dir, "split_clips.py"))
    refuse_losing_films(output_dir, films, replace)
    (output_dir / RECORDS_NAME).mkdir(parents=True, exist_ok=True)
    by_name = {film.stem: film for film in films}
    records: dict[str, dict[str, Any]] = {}

    def is_done(name: str) -> bool:
        record = current_record(output_dir, by_name[name], settings)
        if record is not None:
            records[name] = record
        return record is not None

    claims = claims or Claims(output_dir / CLAIMS_NAME)
    for name in share_work(list(by_name), is_done, claims, "films", "film"):
        records[name] = _split_film(by_name[name], output_dir, settings)
    return finish_split(output_dir, [records[film.stem] for film in films], left_out, settings)


def _split_film(film: Film, output_dir: Path, settings: SplitSettings) -> dict[str, Any]:
    """Write a film's clips and then its record; a film that cannot be read has a record too."""
    try:
        clips, skipped, about = _clips_of(film, output_dir, settings)
    except OutputError:
        raise
    except DataError as error:
        reason = str(error).replace(f"{film.path}: ", "")
        log.warning("%s: left out: %s", film.path.name, reason)
        clips, skipped, about = [], [{"start_s": None, "reason": reason, "kind": "films that cannot be read"}], {}
    record = {
        "film": film.path.name,
        "dancer": film.dancer,
        "inputs": inputs_of(film, settings),
        **about,
        "clips": clips,
        "skipped": skipped,
    }
    write_json(record_path(output_dir, film), record)
    return record


def _clips_of(film: Film, output_dir: Path, settings: SplitSettings) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """Clips written, stretches skipped, and what was found out about the film."""
    measured = measure_video(film.path, ENERGY_WIDTH_PX)
    planned, skipped = _plan(film, measured, settings)
    written: list[dict[str, Any]] = []
    for clip, frames in _frames_of_each(film.path, planned):
        write_video(output_dir / f"{clip.name}.mp4", frames, settings.fps)
        if clip.keypoints is not None:
            _write_sidecars(output_dir, clip.name, clip.keypoints, clip.fit)
        start_s = _start_s(clip.indices[0], measured)
        written.append({"name": clip.name, "start_s": start_s, "box": list(clip.fit.source)})
    about = {"frames": measured.frames, "fps": float(measured.fps), "size_hw": list(measured.size_hw)}
    return written, skipped, about


def _plan(film: Film, measured: Measured, settings: SplitSettings) -> tuple[list[PlannedClip], list[dict[str, Any]]]:
    assert measured.thumbnails is not None
    keypoints = _keypoints_of(film, measured)
    cuts = find_cuts(motion_energy(measured.thumbnails))
    offsets = frame_indices(measured.fps, settings.fps, settings.num_frames)
    limbs = UPPER_LIMBS if settings.crop == "upper_body" else LIMBS
    planned: list[PlannedClip] = []
    skipped: list[dict[str, Any]] = []
    starts = window_starts(measured.frames, measured.fps, settings.num_frames, settings.fps, settings.stride_s)
    for number, start in enumerate(starts):
        indices = [start + offset for offset in offsets]
        of_clip = keypoints.at(np.array(indices)) if keypoints is not None else None
        why = why_unusable(of_clip, indices, cuts, settings.max_unknown_share, limbs)
        fit = _fit_of(of_clip, measured.size_hw, settings) if why is None else None
        if fit is not None:
            planned.append(PlannedClip(f"{film.stem}_clip_{number:03d}", indices, fit, of_clip))
            continue
        kind, reason = why or (NOBODY, "no joint that the crop follows is known")
        skipped.append({"start_s": _start_s(start, measured), "reason": reason, "kind": kind})
    if not starts:
        needed = offsets[-1] + 1
        reason = f"{measured.frames} frames at {float(measured.fps):g} fps; a clip needs {needed}"
        skipped.append({"start_s": 0.0, "reason": reason, "kind": "films too short"})
    return planned, skipped


def _frames_of_each(film: Path, planned: list[PlannedClip]) -> Iterator[tuple[PlannedClip, np.ndarray]]:
    """Each clip's frames [T, H, W, 3], in one pass over the film however much the clips overlap."""
    wanted: dict[int, list[int]] = {}
    for number, clip in enumerate(planned):
        for index in clip.indices:
            wanted.setdefault(index, []).append(number)
    frames: dict[int, list[np.ndarray]] = {}
    indices = sorted(wanted)
    for index, picture in zip(indices, stream_frames(film, indices), strict=True):
        for number in wanted[index]:
            held = frames.setdefault(number, [])
            held.append(planned[number].fit.frame(picture))
            if len(held) == len(planned[number].indices):
                yield planned[number], np.stack(frames.pop(number))


def _keypoints_of(film: Film, measured: Measured) -> Keypoints | None:
    """One entry per film frame, in pixels of the film as it is."""
    if film.keypoints is None:
        return None
    return read_film_keypoints(film.keypoints, camera_of(film.stem), measured)


def _fit_of(of_clip: Keypoints | None, film_hw: tuple[int, int], settings: SplitSettings) -> Fit | None:
    if settings.crop == "none" or of_clip is None:
        return fit_sizes(film_hw, *settings.size_hw, "crop")
    return crop_fit(of_clip.body, film_hw, settings.size_hw, settings.crop)


def _write_sidecars(output_dir: Path, name: str, of_clip: Keypoints, fit: Fit) -> None:
    clip = output_dir / f"{name}.mp4"
    write_joints(clip, of_clip.moved(lambda points: fit_points(points, fit), fit.size_hw))
    # The head's box from the film's joints: a joint beyond the clip's edge still says how large the head is.
    boxes = head_boxes(of_clip.body, (1 << 30, 1 << 30))
    write_heads(clip, fit.boxes(boxes), fit.size_hw)


def _start_s(frame: int, measured: Measured) -> float:
    return round(frame / float(measured.fps), 3)
