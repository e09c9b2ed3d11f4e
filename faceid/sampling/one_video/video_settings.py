"""Settings of what a video shows, its size and length, and how it follows its pose.

Field names are flag names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import Reason
from faceid.limits import MOST_FRAMES, MOST_PIXELS, FrameCount, Rate, Seed
from faceid.models.adapter_settings import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT
from faceid.models.rendering.denoising_settings import Sampling

PoseTiming = Literal["tempo", "frames"] | Rate
PerVideo = Literal["per_video"]
PER_VIDEO: Final = "per_video"


@dataclass(frozen=True)
class Noise:
    """Which noise a video is made from."""

    seed: int
    """What the generator of the noise is seeded with."""
    number: int | None = None
    """Its place among the noises of its pose and person, from 1. 0: the only one. None: the seed was given."""


def seed_of_video(pose: str, identity: str, number: int = 0) -> int:
    """The seed of a video by what it shows, whatever renders it, so that arms of a comparison are paired.

    In a base whose prompt says nothing of a person, the noise decides who appears. Videos of one noise are one sample.
    pose: a file's stem. identity: as --identity. number: which of several noises. Returns 0 to 2^48 - 1.
    """
    digest = hashlib.sha256("\0".join(("per_video", pose, identity, str(number))).encode()).digest()
    return int.from_bytes(digest[:6], "big")


@dataclass(frozen=True)
class OneVideoSettings:
    """One video: from which file to which."""

    pose_video: str | None = None
    """The skeleton video to render."""
    output: str | None = None
    """The mp4 to write."""
    like: str | None = None
    """A video's .json: render it again with all its settings. Flags given besides win."""


@dataclass(frozen=True)
class ContentSettings:
    """What a video shows beside the face and the pose."""

    prompt: str = DEFAULT_PROMPT
    """What the video shows."""
    negative_prompt: str = DEFAULT_NEGATIVE_PROMPT
    """What it must not show. Used when cfg_scale is over 1."""
    reference_image: list[str] | str | None = None
    """A picture of the person (or [A, B]) that the base itself looks at: a second way to say who it is."""
    own_references: Annotated[int, Field(ge=0, le=2)] | None = None
    """How many of the identity's best photos the base looks at. Default: one, where the adapter was trained with
    references and no --reference_image is given; else none."""
    seed: list[Seed] | Seed | PerVideo = 42
    """The same seed gives the same video. [1, 2, 3] for a video each, O_seed1.mp4 and so on. per_video, for a batch: a
    noise of its own for each pose and person, the same whatever renders it."""
    noises_per_video: Annotated[int, Field(ge=1, le=1000)] = 1
    """With per_video: so many videos of each pose and person, each of another noise."""

    def noises(self, pose: str, identity: str) -> list[Noise]:
        """The noise of each video of a pose (its file's stem) and an identity (as --identity)."""
        if self.seed == PER_VIDEO:
            count = self.noises_per_video
            numbers = range(1, count + 1) if count > 1 else [0]
            return [Noise(seed_of_video(pose, identity, number), number) for number in numbers]
        return [Noise(seed) for seed in self.seeds]

    @property
    def seeds(self) -> list[int]:
        """All seeds that are given as numbers."""
        if isinstance(self.seed, list):
            return self.seed
        return [] if self.seed == PER_VIDEO else [self.seed]

    @property
    def reference_images(self) -> list[str]:
        """All reference images, as given; an empty list without any."""
        given = self.reference_image
        return [given] if isinstance(given, str) else given or []

    def may_have_references(self, has_adapter: bool) -> bool:
        """Whether the base may look at pictures. Whether an adapter was trained with any is not known here."""
        may_be_own = has_adapter if self.own_references is None else self.own_references > 0
        return bool(self.reference_images) or may_be_own

    def unused(self, cfg_scale: float) -> Iterator[Reason]:
        """Options that change nothing."""
        if cfg_scale <= 1:
            yield "negative_prompt", f"with cfg_scale={cfg_scale}; it is used over 1"
        if self.reference_images:
            yield "own_references", "with --reference_image"
        if self.seed != PER_VIDEO:
            yield "noises_per_video", "without --seed per_video"


@dataclass(frozen=True)
class FrameSettings:
    """Size and length of what is rendered."""

    height: Annotated[int, Field(ge=1, le=MOST_PIXELS)] | None = None
    """Height in pixels. Default: what the adapter was trained at."""
    width: Annotated[int, Field(ge=1, le=MOST_PIXELS)] | None = None
    """Width in pixels. Default: what the adapter was trained at."""
    num_frames: FrameCount | Literal["all"] | None = None
    """Frames to render; all: as many as the pose video has, at its tempo. Default: what the adapter was trained at."""
    fps: Rate | None = None
    """Frame rate of what is rendered. Default: what the adapter was trained at."""


@dataclass(frozen=True)
class WindowSettings:
    """Windows of a longer video."""

    window_frames: Annotated[int, Field(ge=0, le=MOST_FRAMES)] | None = None
    """A longer video is denoised in windows of so many frames. Default: what the adapter was trained at; 0 for none."""
    window_overlap: FrameCount | None = None
    """Frames that windows share, where they are blended. Default: a quarter of a window."""

    def unused(self, has_adapter: bool) -> Iterator[Reason]:
        """Options that change nothing. has_adapter: an adapter says how long a window is."""
        if self.window_frames == 0 or (self.window_frames is None and not has_adapter):
            yield "window_overlap", "without windows: give --window_frames"


@dataclass(frozen=True)
class PoseSettings:
    """How a pose video becomes frames."""

    pose_timing: PoseTiming = "tempo"
    """tempo: a pose video of another rate is sampled to --fps and dances at its own speed. frames: its frames are taken
    one by one, whatever its rate. A number: as tempo, its true rate where the file names a wrong one."""
    fit: Literal["crop", "stretch", "pad"] = "crop"
    """How a pose video of another aspect ratio is fitted."""


@dataclass(frozen=True)
class RenderOptions:
    """The sections that say how a video is rendered, whoever it shows."""

    sampling: Sampling
    content: ContentSettings
    pose: PoseSettings
    frames: FrameSettings
    windows: WindowSettings
