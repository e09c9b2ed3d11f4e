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
from faceid.data.contact_sheet import GAP_PX, labelled_row, spread, stack_rows
from faceid.data.pairs import ClipPair, find_pairs
from faceid.errors import ConfigError, DataError, run_entry_point
from faceid.logs import set_up_logging
from faceid.media.fit import resize_frames
from faceid.media.video import read_video
from faceid.outputs import refuse_file, staged_file

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
    num_clips: Annotated[int, Field(ge=1)] = 3
    """Clips shown, evenly spaced over all that were rendered."""
    num_columns: Annotated[int, Field(ge=1)] = 5
    """Frames of each, evenly spaced over the rendered ones."""
    frame_height: Annotated[int, Field(ge=16)] = 128
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
    """The same frames, by index, of pose, clip and render, all of one size: uint8 [N, H, W, 3] each."""
    render = read_video(_render_of(pair, settings)).frames
    count, height, width = render.shape[:3]
    picks = spread(count, settings.num_columns)
    size = (settings.frame_height, max(round(width * settings.frame_height / height), 1))
    videos = {"pose": read_video(pair.pose, max_frames=count).frames}
    videos |= {"clip": read_video(pair.video, max_frames=count).frames, "render": render}
    return {name: resize_frames(frames[picks], *size) for name, frames in videos.items()}


if __name__ == "__main__":
    run_entry_point(main)
