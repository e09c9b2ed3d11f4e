"""Draw a sheet of renders to look at.

Each clip has a row of its pose, one of the clip, and one for each folder of renders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceid.data.clips.contact_sheet import GAP_PX, labelled_row, stack_rows
from faceid.data.clips.pairs import ClipPair, find_pairs
from faceid.data.order import spread
from faceid.errors import DataError
from faceid.evaluation.videos.renders import pose_frames_of
from faceid.files.documents import read_json
from faceid.media.images import list_photos, read_photo
from faceid.media.pixels.fit import resize_frames
from faceid.media.video import read_frames, read_video


@dataclass(frozen=True)
class SheetSize:
    """How many clips and frames of each, and the height of a frame in pixels."""

    num_clips: int
    num_columns: int
    frame_height: int


def draw_render_sheet(
    clips_and_poses: tuple[Path, Path], folders: Mapping[str, Path], photos: Path | None, size: SheetSize
) -> np.ndarray:
    """The sheet, uint8 RGB [H, W, 3]. folders: of renders, by the names of their rows. photos: for a first row.

    Raises: DataError when no clip was rendered in all folders, or their renders of a pose differ in size or length.
    """
    pairs = find_pairs(*clips_and_poses).pairs
    rendered = [pair for pair in pairs if all(_render(pair, folder).is_file() for folder in folders.values())]
    if not rendered:
        folder = next(folder for folder in folders.values() if not _render(pairs[0], folder).is_file())
        raise DataError(f"{folder}: no {pairs[0].pose.stem}.mp4; run sample.py --batch")
    rows = _photos(photos, size) if photos is not None else []
    for number in spread(len(rendered), size.num_clips):
        rows += [labelled_row(name, frames) for name, frames in _frames_of(rendered[number], folders, size).items()]
        rows.append(np.full((GAP_PX, rows[-1].shape[1], 3), 255, np.uint8))
    return stack_rows(rows)


def _render(pair: ClipPair, folder: Path) -> Path:
    return folder / f"{pair.pose.stem}.mp4"


def _photos(folder: Path, size: SheetSize) -> list[np.ndarray]:
    """The row of photos and the gap below it, uint8 [H, W, 3] each."""
    files = list_photos(folder)
    if not files:
        raise DataError(f"face_images_dir={folder}: holds no photos")
    side = size.frame_height
    chosen = [files[number] for number in spread(len(files), min(size.num_columns, len(files)))]
    row = labelled_row("photos", np.stack([resize_frames(read_photo(file)[None], side, side)[0] for file in chosen]))
    return [row, np.full((GAP_PX, row.shape[1], 3), 255, np.uint8)]


def _frames_of(pair: ClipPair, folders: Mapping[str, Path], size: SheetSize) -> dict[str, np.ndarray]:
    """The same frames of pose, clip and renders, all of one size: uint8 [N, H, W, 3] each."""
    renders = {name: read_video(_render(pair, folder)).frames for name, folder in folders.items()}
    of_first = _render(pair, next(iter(folders.values())))
    first = next(iter(renders.values()))
    count, height, width = first.shape[:3]
    for name, frames in renders.items():
        if frames.shape != first.shape:
            raise DataError(f"arms: {name}: {pair.pose.stem}.mp4 has another size or length than {of_first}")
    picks = spread(count, size.num_columns)
    size_hw = (size.frame_height, max(round(width * size.frame_height / height), 1))
    taken = _pose_frames(of_first) or range(count)
    if len(taken) != count:
        raise DataError(f"{of_first}: {count} frames, its .json says {len(taken)} pose_frames; render it again")
    places = [taken[pick] for pick in picks]
    shown = {"pose": read_frames(pair.pose, places), "clip": read_frames(pair.video, places)}
    shown |= {name: frames[picks] for name, frames in renders.items()}
    return {name: resize_frames(frames, *size_hw) for name, frames in shown.items()}


def _pose_frames(render: Path) -> tuple[int, ...] | None:
    """Which pose frames a render's frames follow, by the .json beside it; None: the first ones, one by one."""
    file = render.with_suffix(".json")
    if not file.is_file():
        return None
    try:
        return pose_frames_of(read_json(file)["video"], str(file))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file}: is not a video's .json ({error}); render the video again") from error
