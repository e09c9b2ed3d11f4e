"""Settings of how photos of the target become samples. Field names are flag names."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import OnResume
from faceid.errors import ConfigError

Framing = Literal["photo", "head"]
"""photo: as much of the photo as has the clips' aspect, around the face. head: the head with its hair."""


@dataclass(frozen=True)
class PhotoSettings:
    """What is shown of each photo, how large, and with which words."""

    ON_RESUME: ClassVar[OnResume] = "by_content"

    photo_framings: list[Framing] = field(default_factory=lambda: ["photo"])
    """What a photo is shown as; each is a sample of its own: photo, head, or [photo, head]."""
    photo_sizes: list[Annotated[float, Field(gt=0, le=1)]] = field(default_factory=lambda: [1.0])
    """Sizes of photos, in parts of the clips' height and width; each is a sample of its own. Smaller ones show a head
    at the size that it has in a clip."""
    photo_caption: str | None = None
    """Caption of photos without one of their own, for instance with a word that stands for the person. Default: the
    clips' caption. Never name what the face looks like: what is named is not learnt."""

    def __post_init__(self) -> None:
        for name in ("photo_framings", "photo_sizes"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ConfigError(f"{name}={values}: give each once, and one at least")
