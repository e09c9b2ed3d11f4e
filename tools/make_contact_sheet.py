"""One picture of many clips: for each, a row of pose frames, of the clip's frames and of what was rendered."""

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
    rendered_dir: Path
    """What sample.py --batch wrote for these pose videos."""
    output: Path
    """The picture to write, .png."""
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


def main(argv: list[str] | None = None) -> int:
    """Parse, read, write one PNG."""
    words = sys.argv[1:] if argv is None else argv
    (settings,) = parse_sections("tools/make_contact_sheet.py", __doc__ or "", [SheetSettings], words)
    set_up_logging()
    refuse_file(settings.output, key="output")
    pairs = find_pairs(settings.dance_videos_dir, settings.pose_videos_dir).pairs
    rendered = [pair for pair in pairs if _render_of(pair, settings).is_file()]
    if not rendered:
        raise DataError(f"rendered_dir={settings.rendered_dir}: no {pairs[0].pose.stem}.mp4; run sample.py --batch")
    rows: list[np.ndarray] = []
    for number in spread(len(rendered), settings.num_clips):
        rows += [labelled_row(name, frames) for name, frames in _frames_of(rendered[number], settings).items()]
        rows.append(np.full((GAP_PX, rows[-1].shape[1], 3), 255, np.uint8))
    with staged_file(settings.output, private=not settings.shared) as temporary:
        Image.fromarray(stack_rows(rows)).save(temporary)
    log.info("%s", settings.output)
    return 0


def _render_of(pair: ClipPair, settings: SheetSettings) -> Path:
    return settings.rendered_dir / f"{pair.pose.stem}.mp4"


def _frames_of(pair: ClipPair, settings: SheetSettings) -> dict[str, np.ndarray]:
    """The same frames of pose, clip and render, all of one size: uint8 [N, H, W, 3] each."""
    render = read_video(_render_of(pair, settings)).frames
    count, height, width = render.shape[:3]
    picks = spread(count, settings.num_columns)
    size = (settings.frame_height, max(round(width * settings.frame_height / height), 1))
    taken = _pose_frames(_render_of(pair, settings)) or range(count)
    if len(taken) != count:
        raise DataError(
            f"{_render_of(pair, settings)}: {count} frames, its .json says {len(taken)} pose_frames; render it again"
        )
    places = [taken[pick] for pick in picks]
    shown = {"pose": read_frames(pair.pose, places), "clip": read_frames(pair.video, places), "render": render[picks]}
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
