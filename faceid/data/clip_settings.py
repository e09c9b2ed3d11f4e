"""Settings of a clip's form, and of its caption. Field names are flag names."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import OnResume
from faceid.limits import MOST_PIXELS, AtOnce, FrameCount, Rate
from faceid.models.adapter_settings import DEFAULT_PROMPT

CaptionFiles = Literal["read", "ignore"]

Crop = Literal["none", "portrait", "landscape", "upper_body"]
"""The part of a film that a clip shows: the whole dancer, the dancer from head to hips, or the whole film (none)."""


@dataclass(frozen=True)
class ClipSettings:
    """How videos become clips of one size."""

    ON_RESUME: ClassVar[OnResume] = "by_content"

    num_frames: FrameCount = 65
    """Frames per clip, 4n+1 for Wan (65 frames at 16 fps are 4 seconds)."""
    height: Annotated[int, Field(ge=2, le=MOST_PIXELS)] = 480
    """Height of a clip in pixels, a multiple of 16 for Wan."""
    width: Annotated[int, Field(ge=2, le=MOST_PIXELS)] = 832
    """Width of a clip in pixels, a multiple of 16 for Wan."""
    fps: Rate = 16.0
    """Frames per second of a clip. A source at another rate is sampled by frame index."""
    fit: Literal["crop", "stretch", "pad"] = "crop"
    """How another aspect ratio is fitted: centre crop, stretched, or padded with black."""
    uneven_pairs: Literal["refuse", "cut"] = "refuse"
    """What happens when clip and pose differ in frames, by over 2 % and over one frame. refuse: the clip is refused.
    cut: the first frames of both belong together, and the rest of the longer one is left."""
    clips_per_shard: AtOnce = 32
    """Clips per tar file. A shard is one unit of work for encoding."""


@dataclass(frozen=True)
class CaptionSettings:
    """What clips and photos are said to show."""

    ON_RESUME: ClassVar[OnResume] = "by_content"

    caption: str = DEFAULT_PROMPT
    """Text prompt that every clip and photo without a caption of its own is trained with."""
    caption_files: CaptionFiles = "read"
    """read: NAME.txt beside a clip or photo is its caption. ignore: all are trained with --caption."""
