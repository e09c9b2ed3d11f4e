"""Draw one picture of many clips: for each, rows of pose frames, of clip frames, and of each folder of renders."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import parse_sections
from faceid.errors import ConfigError, run_entry_point
from faceid.files.outputs import refuse_file, staged_file
from faceid.limits import MOST_PIXELS, AtOnce
from faceid.logs import set_up_logging

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
    """The folder that sample.py --batch wrote for these pose videos."""
    arms: list[str] | None = None
    """Several such folders, to compare them: [NAME=FOLDER, ...], a row each. Shows clips that all have rendered."""
    face_images_dir: Path | None = None
    """Photos for a first row: whose face the renders should show."""
    num_clips: AtOnce = 3
    """Clips shown, evenly spaced over all that were rendered."""
    num_columns: AtOnce = 5
    """Frames of each, evenly spaced over the rendered ones."""
    frame_height: Annotated[int, Field(ge=16, le=MOST_PIXELS)] = 128
    """Height of a frame in the picture, pixels."""
    shared: bool = False
    """Let others on this machine look at the picture, which shows faces. By default only you can."""

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
    # Heavy imports come only once the command line is known to be good.
    from PIL import Image

    from faceid.evaluation.report.render_sheet import SheetSize, draw_render_sheet

    picture = draw_render_sheet(
        (settings.dance_videos_dir, settings.pose_videos_dir),
        settings.folders,
        settings.face_images_dir,
        SheetSize(settings.num_clips, settings.num_columns, settings.frame_height),
    )
    with staged_file(settings.output, private=not settings.shared) as temporary:
        Image.fromarray(picture).save(temporary)
    log.info("%s", settings.output)
    return 0


if __name__ == "__main__":
    run_entry_point(main)
