"""What a clip is: its length, size and rate. Field names are flag names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.models.settings import DEFAULT_PROMPT


@dataclass(frozen=True)
class ClipSettings:
    """How videos become clips of one size."""

    num_frames: Annotated[int, Field(ge=1)] = 65
    """Frames per clip, 4n+1 for Wan (65 frames at 16 fps are 4 seconds)."""
    height: Annotated[int, Field(ge=2)] = 480
    """Height of a clip in pixels, a multiple of 16 for Wan."""
    width: Annotated[int, Field(ge=2)] = 832
    """Width of a clip in pixels, a multiple of 16 for Wan."""
    fps: Annotated[float, Field(gt=0, le=240)] = 16.0
    """Frames per second of a clip; a source at another rate is sampled by frame index."""
    fit: Literal["crop", "stretch", "pad"] = "crop"
    """How another aspect ratio is fitted: centre crop, stretched, or padded with black."""
    clips_per_shard: Annotated[int, Field(ge=1)] = 32
    """Clips per tar file; a shard is one unit of work for encoding."""


@dataclass(frozen=True)
class CaptionSettings:
    """What the clips are said to show."""

    caption: str = DEFAULT_PROMPT
    """Text prompt that every clip is trained with."""
