"""One picture of many clips: for each, a row of pose frames, of the clip's frames, and of each folder of renders."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image
from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import parse_sections
from faceid.data.clips.contact_sheet import GAP_PX, labelled_row, spread, stack_rows
from faceid.data.clips.pairs import ClipPair, find_pairs
from faceid.errors import ConfigError, DataError, run_entry_point
from faceid.evaluation.videos.renders import pose_frames_of
from faceid.files.documents import read_json
from faceid.files.outputs import refuse_file, staged_file
from faceid.limits import MOST_PIXELS, AtOnce
from faceid.logs import set_up_logging
from faceid.media.images import list_photos, read_photo
from faceid.media.pixels.fit import resize_frames
from faceid.media.video import read_frames, read_video

log = logging.getLogger("faceid.tools.make_contact_sheet")


@dataclass(frozen=True)
class SheetSettings:
    """Which clips, where their renders are, and the picture to write."""

    dance_videos_dir: Path
    """Folder with the dance clips."""
    pose_videos_dir: Path
    """Folder with their pose videos."""
    output: Path
    """The picture to write, .png."""
    rendered_dir: Path | None = None
    """What sample.py --batch wrote for these pose videos."""
    arms: list[str] | None = None
    """Several such folders, to compare them: [NAME=FOLDER, ...], a row each. Clips are shown that all have rendered."""
    face_images_dir: Path | None = None
    """Photos for a first row: whose face the renders should show."""
    num_clips: AtOnce = 3
    """Clips shown, evenly spaced over all that were rendered."""
    num_columns: AtOnce = 5
    """Frames of each, evenly spaced over the rendered ones."""
    frame_height: Annotated[int, Field(ge=16, le=MOST_PIXELS)] = 128
    """Height of a frame in the picture, pixels."""
    shared: bool = False
    """Let others on this machine look at the picture, which shows faces; by default only you can."""

    def __post_init__(self) -> None:
        if self.output.suffix.lower() != ".png":
            raise ConfigError(f"output={self.output}: a picture is written; name a .png file")
        if (self.rendered_dir is None) == (self.arms is None):
            raise ConfigError("rendered_dir, arms: give one of them: a folder of renders, or several by name")
        for arm in self.arms or []:
            if not all(arm.partition("=")):
                raise ConfigError(f"arms: {arm!r} is not NAME=FOLDER")

    @property
    def folders(self) -> dict[str, Path]:
        """The folders of renders, by the names of their rows."""
        if self.rendered_dir is not None:
            return {"render": self.rendered_dir}
        return {name: Path(folder) for name, _, folder in (arm.partition("=") for arm in self.arms or [])}


def main(argv: list[str] | None = None) -> int:
    """Parse, read, write one PNG."""
    words = sys.argv[1:] if argv is None else argv
    (settings,) = parse_sections("tools/make_contact_sheet.py", __doc__ or "", [SheetSettings], words)
    set_up_logging()
    refuse_file(settings.output, key="output")
    pairs = find_pairs(settings.dance_videos_dir, settings.pose_videos_dir).pairs
    rendered = [pair for pair in pairs if all(_render(pair, folder).is_file() for folder in settings.folders.values())]
    if not rendered:
        folder = next(f for f in settings.folders.values() if not _render(pairs[0], f).is_file())
        raise DataError(f"{_key(settings)}={folder}: no {pairs[0].pose.stem}.mp4; run sample.py --batch")
    rows = _photos(settings)
    for number in spread(len(rendered), settings.num_clips):
        rows += [labelled_row(name, frames) for name, frames in _frames_of(rendered[number], settings).items()]
        rows.append(np.full((GAP_PX, rows[-1].shape[1], 3), 255, np.uint8))
    with staged_file(settings.output, private=not settings.shared) as temporary:
        Image.fromarray(stack_rows(rows)).save(temporary)
    log.info("%s", settings.output)
    return 0


def _key(settings: SheetSettings) -> str:
    return "rendered_dir" if settings.rendered_dir is not None else "arms"


def _render(pair: ClipPair, folder: Path) -> Path:
    return folder / f"{pair.pose.stem}.mp4"


def _photos(settings: SheetSettings) -> list[np.ndarray]:
    """The row of photos and the gap below it, uint8 [H, W, 3]; none where no folder was given."""
    if settings.face_images_dir is None:
        return []
    files = list_photos(settings.face_images_dir)
    if not files:
        raise DataError(f"face_images_dir={settings.face_images_dir}: holds no photos")
    side = settings.frame_height
    chosen = [files[number] for number in spread(len(files), min(settings.num_columns, len(files)))]
    row = labelled_row("photos", np.stack([resize_frames(read_photo(file)[None], side, side)[0] for file in chosen]))
    return [row, np.full((GAP_PX, row.shape[1], 3), 255, np.uint8)]


def _frames_of(pair: ClipPair, settings: SheetSettings) -> dict[str, np.ndarray]:
    """The same frames of pose, clip and renders, all of one size: uint8 [N, H, W, 3] each."""
    renders = {name: read_video(_render(pair, folder)).frames for name, folder in settings.folders.items()}
    of_first = _render(pair, next(iter(settings.folders.values())))
    first = next(iter(renders.values()))
    count, height, width = first.shape[:3]
    for name, frames in renders.items():
        if frames.shape != first.shape:
            raise DataError(f"arms: {name}: {pair.pose.stem}.mp4 has another size or length than {of_first}")
    picks = spread(count, settings.num_columns)
    size = (settings.frame_height, max(round(width * settings.frame_height / height), 1))
    taken = _pose_frames(of_first) or range(count)
    if len(taken) != count:
        raise DataError(f"{of_first}: {count} frames, its .json says {len(taken)} pose_frames; render it again")
    places = [taken[pick] for pick in picks]
    shown = {"pose": read_frames(pair.pose, places), "clip": read_frames(pair.video, places)}
    shown |= {name: frames[picks] for name, frames in renders.items()}
    return {name: resize_frames(frames, *size) for name, frames in shown.items()}


def _pose_frames(render: Path) -> tuple[int, ...] | None:
    """Which frames of the pose a render's follow, by the .json beside it; None: the first ones, one by one."""
    file = render.with_suffix(".json")
    if not file.is_file():
        return None
    try:
        return pose_frames_of(read_json(file)["video"], str(file))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file}: is not a video's .json ({error}); render the video again") from error


if __name__ == "__main__":
    run_entry_point(main)
