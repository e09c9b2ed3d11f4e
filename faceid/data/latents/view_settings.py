"""Settings of what is encoded of each clip."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.errors import ConfigError
from faceid.limits import MOST_PIXELS

ViewName = Literal["full", "upper_body", "head"]


@dataclass(frozen=True)
class ViewSettings:
    """What is encoded of each clip."""

    views: list[ViewName] = field(default_factory=lambda: ["full"])
    """full, upper_body, head: the whole clip, and nearer views around the head if it is known. [full, upper_body]."""
    flips: bool = False
    """Also mirror each view, where the skeleton can be drawn anew from joints beside the clip."""
    encode_height: Annotated[int, Field(ge=2, le=MOST_PIXELS)] | None = None
    """Height in pixels that is encoded, at most the shards' own, which is the default. A lower one keeps detail in
    nearer views."""
    encode_width: Annotated[int, Field(ge=2, le=MOST_PIXELS)] | None = None
    """Width in pixels that is encoded, at most the shards' own, which is the default."""

    def __post_init__(self) -> None:
        if not self.views or len(set(self.views)) != len(self.views):
            raise ConfigError(f"views={self.views}: each of full, upper_body and head once at most, and at least one")

    @property
    def endings(self) -> list[str]:
        """The endings after a clip's key in the keys of its entries, as far as its views can be made."""
        return [ending_of(name, flip) for name in self.views for flip in ((False, True) if self.flips else (False,))]

    @property
    def are_drawn(self) -> bool:
        """Whether the skeleton of some view is drawn anew."""
        return self.flips or self.views != ["full"]

    @property
    def per_clip(self) -> int:
        """The most entries that a clip can have."""
        return len(self.endings)

    def size_hw(self, shards_hw: tuple[int, int]) -> tuple[int, int]:
        """The encoded size for shards of this size. Raises: ConfigError when it is larger, or has only one side."""
        if (self.encode_height is None) != (self.encode_width is None):
            raise ConfigError("encode_height, encode_width: only one of them is given; give both, or neither")
        height, width = self.encode_height or shards_hw[0], self.encode_width or shards_hw[1]
        if height > shards_hw[0] or width > shards_hw[1]:
            raise ConfigError(
                f"encode_height={height}, encode_width={width}: larger than the shards' {shards_hw[0]}x{shards_hw[1]}; "
                "make larger shards"
            )
        return height, width


def ending_of(name: ViewName, is_flipped: bool) -> str:
    """The ending after a clip's key in the key of its view; empty for the whole clip."""
    return ("" if name == "full" else f"-{name}") + ("-flip" if is_flipped else "")
