"""What a clip is, what it is said to show, and which face it goes with. Field names are flag names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.errors import ConfigError
from faceid.limits import MOST_PIXELS, AtOnce, FrameCount, Rate
from faceid.models.adapter_settings import DEFAULT_PROMPT

Kind = Literal["clip", "photo", "null"]
"""clip: with its dancer's face; photo: of the target; null: a clip with the null face, for what the base can do."""
Share = Annotated[float, Field(ge=0, le=1)]
CaptionFiles = Literal["read", "ignore"]

Crop = Literal["none", "portrait", "landscape", "upper_body"]
"""What of a film a clip shows: the dancer whole, from head to hips, or the film as it is (none)."""


@dataclass(frozen=True)
class ClipSettings:
    """How videos become clips of one size."""

    num_frames: FrameCount = 65
    """Frames per clip, 4n+1 for Wan (65 frames at 16 fps are 4 seconds)."""
    height: Annotated[int, Field(ge=2, le=MOST_PIXELS)] = 480
    """Height of a clip in pixels, a multiple of 16 for Wan."""
    width: Annotated[int, Field(ge=2, le=MOST_PIXELS)] = 832
    """Width of a clip in pixels, a multiple of 16 for Wan."""
    fps: Rate = 16.0
    """Frames per second of a clip; a source at another rate is sampled by frame index."""
    fit: Literal["crop", "stretch", "pad"] = "crop"
    """How another aspect ratio is fitted: centre crop, stretched, or padded with black."""
    uneven_pairs: Literal["refuse", "cut"] = "refuse"
    """A pose of another number of frames than its clip, by over 2 % and over one frame: refuse it, or cut: the first
    frames of both belong together, and what one has more is left."""
    clips_per_shard: AtOnce = 32
    """Clips per tar file; a shard is one unit of work for encoding."""


@dataclass(frozen=True)
class CaptionSettings:
    """What clips and photos are said to show."""

    caption: str = DEFAULT_PROMPT
    """Text prompt that every clip and photo without a caption of its own is trained with."""
    caption_files: CaptionFiles = "read"
    """read: NAME.txt beside a clip or photo is its caption. ignore: all are trained with --caption."""


@dataclass(frozen=True)
class PairingSettings:
    """Which embedding a sample gets, and how often conditions are dropped."""

    pairing: Literal["own", "constant"] = "own"
    """own: a clip's own dancer, a photo's leave-one-out; constant: the target everywhere (the control recipe)."""
    other_clip_share: Share = 0.75
    """How often a clip's face comes from another clip of its dancer, when there is one."""
    max_faces: AtOnce = 12
    """Faces averaged into one embedding: 1 to this many, drawn per sample."""
    face_dropout: Share = 0.10
    """Share of samples with the null face."""
    text_dropout: Share = 0.10
    """Share of samples with the empty prompt."""
    both_dropout: Share = 0.05
    """Share of samples with both."""
    stage2_photos: Share = 0.5
    """Share of stage 2 that are photos of the target. Stage 1 takes every clip and photo once an epoch."""
    stage2_clips: Share = 0.3
    """Share of stage 2 that are clips with their own dancer's face: they keep the face meaning something."""
    stage2_null: Share = 0.2
    """Share of stage 2 that are clips with the null face: they keep the base's own dancers."""

    @property
    def stage2_shares(self) -> dict[Kind, float]:
        """The mixture of stage 2, by kind."""
        return {"photo": self.stage2_photos, "clip": self.stage2_clips, "null": self.stage2_null}

    def __post_init__(self) -> None:
        total = sum(self.stage2_shares.values())
        if abs(total - 1) > 1e-6:
            raise ConfigError(f"stage2_photos + stage2_clips + stage2_null: their sum is {total:g}; it must be 1")
        if self.face_dropout + self.text_dropout + self.both_dropout > 1:
            raise ConfigError("face_dropout + text_dropout + both_dropout: their sum is over 1; lower one of them")
