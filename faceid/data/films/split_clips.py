"""Cut films into clips of one length and rate.

Each clip has one box around the dancer. Joints and head boxes are carried along. A film is one unit of work, and many
machines share a folder (`faceid.claims`). A film's clips are published first and its record last (`films/<name>.json`).
The record says what became clips and what was left out, and why. A second run keeps the films whose record fits. Clip
frame k is the film frame nearest to start + k * film_fps / fps (`media.timeline`). Neither film nor clip is ever held
whole: frames go from the decoder straight to the encoders.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceid.claims import CLAIMS_NAME, Claims, hold_plan, share_work
from faceid.data.aist import camera_of
from faceid.data.body.crop_boxes import crop_fit, fit_points
from faceid.data.body.head_boxes import head_boxes
from faceid.data.body.keypoints import Keypoints, read_film_keypoints
from faceid.data.body.sidecars import write_heads, write_joints
from faceid.data.clip_selection import log_left_out
from faceid.data.films.film_plan import Film, find_films
from faceid.data.films.film_records import (
    RECORDS_NAME,
    SUMMARY_NAME,
    chosen_for,
    finish_split,
    inputs_of,
    newest_record,
    record_path,
    refuse_losing_films,
)
from faceid.data.films.split_settings import SplitSettings
from faceid.data.films.windows import LIMBS, NOBODY, UPPER_LIMBS, find_cuts, find_windows, why_unusable
from faceid.data.made_files import describe_made
from faceid.data.selection_settings import SelectionSettings
from faceid.data.waiting import discard_waiting, place_for
from faceid.errors import DataError, OutputError
from faceid.files.outputs import claim_folder
from faceid.files.provenance import made_by, sha256_json
from faceid.files.writing import write_json
from faceid.media.pixels.fit import Fit, fit_sizes
from faceid.media.pixels.motion import ENERGY_WIDTH_PX
from faceid.media.video import Measured, measure_video, stream_frames, video_writer

log = logging.getLogger(__name__)

# Memory of all encoders while a film is cut. x264 looks 40 frames ahead, and holds some more.
OPEN_CLIPS_BYTES = 160_000_000
FRAMES_HELD = 60


@dataclass(frozen=True)
class PlannedClip:
    """One planned clip: its film frames, where they land, and the joints in them (in pixels of the film)."""

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
    """Split every film of a folder. Returns the summary, which is written last.

    claims: the view of another worker than this process, for tests. replace: whether clips of an earlier run may be
    removed whose films take no part in this one, or that were made with other settings.
    Raises: DataError when no film can be used, clips would be lost, or the folder is not ours.
    """
    films, left_out = find_films(videos_dir, keypoints_dir, settings, selection)
    log_left_out(left_out, "films")
    inputs = [videos_dir] if keypoints_dir is None else [videos_dir, keypoints_dir]
    claim_folder(output_dir, "clips of films", inputs, is_known=made_by(output_dir, "split_clips.py"))
    by_name = {film.stem: film for film in films}
    records: dict[str, dict[str, Any]] = {}

    def ask() -> None:
        refuse_losing_films(output_dir, films, settings, replace)

    def before_another() -> None:
        ask()
        discard_waiting(output_dir)

    def is_done(name: str) -> bool:
        record = newest_record(output_dir, by_name[name], settings)
        if record is not None:
            records[name] = record
        return record is not None

    claims = claims or Claims(output_dir / CLAIMS_NAME)
    summary: dict[str, Any] = {}
    with hold_plan(claims, sha256_json([inputs_of(film, settings) for film in films]), before_another):
        # Asked again: the same run may have been killed. What may go was decided then.
        ask()
        for name in share_work(list(by_name), is_done, claims, "films", "film"):
            records[name] = _split_film(by_name[name], place_for(output_dir, SUMMARY_NAME, RECORDS_NAME), settings)
        for _ in share_work([SUMMARY_NAME], lambda _: False, claims, "summary"):
            summary = finish_split(output_dir, [records[film.stem] for film in films], left_out, settings)
    return summary


def _split_film(film: Film, output_dir: Path, settings: SplitSettings) -> dict[str, Any]:
    """Write a film's clips and then its record. A film that cannot be read has a record too."""
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
        "settings": chosen_for(film, settings),
        **about,
        "clips": clips,
        "skipped": skipped,
    }
    write_json(record_path(output_dir, film), record)
    return record


def _clips_of(film: Film, output_dir: Path, settings: SplitSettings) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """The written clips, the skipped stretches, and further facts about the film."""
    measured = measure_video(film.path, ENERGY_WIDTH_PX)
    planned, skipped = _plan(film, measured, settings)
    written: list[dict[str, Any]] = []
    for part in _passes(planned):
        _write_in_one_pass(film.path, part, output_dir, settings.fps)
    for clip in planned:
        if clip.keypoints is not None:
            _write_sidecars(output_dir, clip.name, clip.keypoints, clip.fit)
        start_s = _start_s(clip.indices[0], measured)
        made = describe_made(output_dir / f"{clip.name}.mp4")
        written.append({"name": clip.name, "start_s": start_s, "box": list(clip.fit.source), "made": made})
    about = {"frames": measured.frames, "fps": float(measured.fps), "size_hw": list(measured.size_hw)}
    return written, skipped, about


def _plan(film: Film, measured: Measured, settings: SplitSettings) -> tuple[list[PlannedClip], list[dict[str, Any]]]:
    keypoints = None
    if film.keypoints is not None:
        keypoints = read_film_keypoints(film.keypoints, camera_of(film.stem), measured)
    cuts = find_cuts(measured.energy)
    limbs = UPPER_LIMBS if settings.crop == "upper_body" else LIMBS
    planned: list[PlannedClip] = []
    skipped: list[dict[str, Any]] = []
    if measured.timeline.warning:
        log.warning("%s: %s", film.path.name, measured.timeline.warning)
    windows = find_windows(measured.frames, measured.timeline, settings.num_frames, settings.fps, settings.stride_s)
    for number, indices in enumerate(windows):
        of_clip = keypoints.at(np.array(indices)) if keypoints is not None else None
        why = why_unusable(of_clip, indices, cuts, settings.max_unknown_share, limbs)
        fit = _fit_of(of_clip, measured.size_hw, settings) if why is None else None
        if fit is not None:
            planned.append(PlannedClip(f"{film.stem}_clip_{number:03d}", indices, fit, of_clip))
            continue
        kind, reason = why or (NOBODY, "no joint that the crop follows is known")
        skipped.append({"start_s": _start_s(indices[0], measured), "reason": reason, "kind": kind})
    if not windows:
        needed = measured.timeline.indices(settings.fps, settings.num_frames)[-1] + 1
        reason = f"{measured.frames} frames at {float(measured.fps):g} fps; a clip needs {needed}"
        skipped.append({"start_s": 0.0, "reason": reason, "kind": "films too short"})
    return planned, skipped


def _passes(planned: list[PlannedClip]) -> list[list[PlannedClip]]:
    """Share out clips to passes over the film, so that few are open at once. An open clip holds about 60 frames."""
    if not planned:
        return []
    height, width = planned[0].fit.size_hw
    at_once = max(OPEN_CLIPS_BYTES // (FRAMES_HELD * height * width * 3 // 2), 1)
    # Clips follow each other at one stride. These are the clips that are open at a clip's last frame.
    overlapping = max(
        sum(other.indices[0] <= clip.indices[-1] for other in planned[number:]) for number, clip in enumerate(planned)
    )
    count = math.ceil(overlapping / at_once)
    return [planned[first::count] for first in range(count)]


def _write_in_one_pass(film: Path, clips: list[PlannedClip], output_dir: Path, fps: float) -> None:
    """Write each clip as its frames come. Frames are held only until their encoder has written them."""
    wanted: dict[int, list[int]] = {}
    for number, clip in enumerate(clips):
        for index in clip.indices:
            wanted.setdefault(index, []).append(number)
    left = [len(clip.indices) for clip in clips]
    writers: dict[int, tuple[ExitStack, Callable[[np.ndarray], None]]] = {}
    indices = sorted(wanted)
    with ExitStack() as all_files:
        for index, picture in zip(indices, stream_frames(film, indices), strict=True):
            for number in wanted[index]:
                if number not in writers:
                    file = all_files.enter_context(ExitStack())
                    path = output_dir / f"{clips[number].name}.mp4"
                    writers[number] = file, file.enter_context(video_writer(path, fps))
                file, add = writers[number]
                add(clips[number].fit.frame(picture))
                left[number] -= 1
                if not left[number]:
                    file.close()
                    del writers[number]


def _fit_of(of_clip: Keypoints | None, film_hw: tuple[int, int], settings: SplitSettings) -> Fit | None:
    if settings.crop == "none" or of_clip is None:
        return fit_sizes(film_hw, *settings.size_hw, "crop")
    return crop_fit(of_clip.body, film_hw, settings.size_hw, settings.crop)


def _write_sidecars(output_dir: Path, name: str, of_clip: Keypoints, fit: Fit) -> None:
    clip = output_dir / f"{name}.mp4"
    write_joints(clip, of_clip.moved(lambda points: fit_points(points, fit), fit.size_hw))
    # The head's box comes from the film's joints: a joint beyond the clip's edge still says how large the head is.
    boxes = head_boxes(of_clip.body, (1 << 30, 1 << 30))
    write_heads(clip, fit.boxes(boxes), fit.size_hw)


def _start_s(frame: int, measured: Measured) -> float:
    return round(measured.timeline.time_s(frame), 3)
