"""Settings of how films become clips."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.data.clip_settings import Crop
from faceid.errors import ConfigError
from faceid.limits import MOST_PIXELS, FrameCount, Rate, Stride

# The default (height, width) of a clip.
USUAL_SIZE_HW: dict[Crop, tuple[int, int]] = {
    "none": (480, 832),
    "portrait": (832, 480),
    "landscape": (480, 832),
    "upper_body": (480, 832),
}


@dataclass(frozen=True)
class SplitSettings:
    """How films become clips."""

    num_frames: FrameCount = 81
    """Frames per clip, 4n+1 for Wan (81 frames at 16 fps are 5 seconds)."""
    fps: Rate = 16.0
    """Frames per second of a clip. The film is sampled by frame index."""
    stride_s: Stride = 2.5
    """Seconds of film from one clip's beginning to the next's."""
    crop: Crop = "portrait"
    """The dancer whole (portrait, landscape), from head to hips (upper_body), or the film as it is (none)."""
    height: Annotated[int, Field(ge=2, le=MOST_PIXELS)] | None = None
    """Height of a clip in pixels, even; by default 832 for portrait, else 480."""
    width: Annotated[int, Field(ge=2, le=MOST_PIXELS)] | None = None
    """Width of a clip in pixels, even; by default 480 for portrait, else 832."""
    max_unknown_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Largest share of a stretch's joints that is unknown, or of its frames that shows nobody or several people. Over
    it the stretch is left out."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) of a clip."""
        usual = USUAL_SIZE_HW[self.crop]
        return self.height or usual[0], self.width or usual[1]

    def __post_init__(self) -> None:
        for name, value in zip(("height", "width"), self.size_hw, strict=True):
            if value % 2:
                raise ConfigError(f"{name}={value}: H.264 needs an even size; use {value - 1} or {value + 1}")
