"""Settings of a toy world: who is in it, and what its clips are like."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.limits import MOST_PIXELS, FrameCount, NaturalSeed, Rate

Framing = Literal["whole", "upper", "far"]
"""What a clip shows: the whole figure, its upper half, or the whole figure in the distance."""


@dataclass(frozen=True)
class ToySettings:
    """Who is in a toy world, and their photos."""

    output_dir: Path
    """Folder to write. An older toy dataset there is replaced, anything else is refused."""
    num_people: Annotated[int, Field(ge=1, le=9999)] = 8
    """Dancers, d01 and so on. The target is one person more (`with_target`)."""
    first_person: Annotated[int, Field(ge=1, le=9999)] = 1
    """Number of the first dancer: 52 begins with d52, who is the same person as in a world of a hundred."""
    photos_per_person: Annotated[int, Field(ge=0, le=99)] = 12
    """Photos of each dancer and of the target."""
    photo_size: Annotated[int, Field(ge=96, le=MOST_PIXELS)] = 192
    """Side of the square photos, pixels."""
    seed: NaturalSeed = 0
    """Another seed, another world."""
    reference_photos: Annotated[int, Field(ge=0, le=99)] = 0
    """Photos of everyone, kept apart from these in references/. Renders are judged by them."""
    bad_photos: Annotated[int, Field(ge=0, le=99)] = 0
    """How many of each person's photos are bad (the last): blurred, second person, no face, wrong person in turn."""
    with_target: bool = True
    """Draw the target's photos, too. false for a world that only lends its dancers."""

    def __post_init__(self) -> None:
        if self.bad_photos > self.photos_per_person:
            most = self.photos_per_person
            raise ValueError(f"bad_photos={self.bad_photos}: more than photos_per_person={most}; use {most} or fewer")


@dataclass(frozen=True)
class ToyClipSettings:
    """What the clips of a toy world are like."""

    clips_per_person: Annotated[int, Field(ge=1, le=99)] = 4
    """Clips of each dancer."""
    target_clips: Annotated[int, Field(ge=0, le=99)] = 0
    """Clips of the target, kept apart in target_videos/ and target_poses/. Renders are measured against them."""
    num_frames: FrameCount = 9
    """Frames per clip. The model wants 4n+1."""
    height: Annotated[int, Field(ge=32, le=MOST_PIXELS)] = 96
    """Height of clips, pixels, even."""
    width: Annotated[int, Field(ge=32, le=MOST_PIXELS)] = 96
    """Width of clips, pixels, even."""
    fps: Rate = 16.0
    """Rate the clips are tagged with, frames per second."""
    framings: list[Framing] = field(default_factory=lambda: ["upper", "whole"])
    """What the clips show, in turn: whole, upper or far. A name may stand more than once."""
    one_genre_per_dancer: bool = False
    """Give each dancer one genre, as in AIST, where genre tells the dancer. Otherwise genres are mixed."""

    def __post_init__(self) -> None:
        for name, value in (("height", self.height), ("width", self.width)):
            if value % 2:
                raise ValueError(f"{name}={value}: H.264 needs an even size; use {value - 1} or {value + 1}")
