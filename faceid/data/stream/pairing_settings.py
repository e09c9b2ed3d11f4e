"""Settings of which face goes with which pixels, and of the mixture in training.

Field names are flag names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from faceid.config import OnResume, Reason
from faceid.errors import ConfigError
from faceid.limits import AtOnce, Count, Share

Kind = Literal["clip", "photo", "null"]
"""clip: with its dancer's face. photo: of the target. null: a clip with the null face, to keep the base's abilities."""


@dataclass(frozen=True)
class PairingSettings:
    """Which embedding a sample gets, and how often conditions are dropped."""

    ON_RESUME: ClassVar[OnResume] = "same"

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
    reference_share: Share = 0.0
    """Share of the clips and photos that are trained with a reference frame: another picture of whom they show."""
    body_share: Share = 0.0
    """Share of the clips that are given the target's face, words and reference, and are learnt outside the dancer's
    head alone. So what is learnt of the target's head leaves body, clothes and backdrop as they are."""
    stage2_samples: Count = 0
    """Samples of an epoch of stage 2. With a number of its own, how often photos are seen does not depend on how many
    clips there are. 0: as many as there are clips and photos."""
    stage2_photos: Share = 0.5
    """Share of stage 2 that are photos of the target. Stage 1 takes every clip and photo once an epoch."""
    stage2_clips: Share = 0.3
    """Share of stage 2 that are clips with their own dancer's face. They keep the face meaning something."""
    stage2_null: Share = 0.2
    """Share of stage 2 that are clips with the null face. They keep the base's own dancers."""

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

    def unused(self) -> Iterator[Reason]:
        """Options that change nothing given the others."""
        if self.pairing == "constant":
            for name in ("other_clip_share", "max_faces", "body_share"):
                yield name, "with pairing=constant, which gives every clip the target's face"
