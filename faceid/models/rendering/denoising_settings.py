"""Settings of how a video is sampled from noise: the command line's flags, which the denoising loop follows.

Field names are flag names. torch is not imported, so that a command line is read before torch is.
"""

from __future__ import annotations

from collections.abc import Iterator

# Not pydantic's dataclass: a call from Python gets a ConfigError as well. Numbers are checked as flags are read.
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from faceid.config import Reason
from faceid.errors import ConfigError
from faceid.limits import MOST_STRENGTH, Shift, Strength
from faceid.models.rendering.schedulers import SCHEDULER_MEANINGS, SchedulerName

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Sampling:
    """How a video is sampled: the strengths of face, text and pose, and the steps.

    Raises: ConfigError for impossible values.
    """

    IN_HELP: ClassVar[dict[str, str]] = {"schedulers": SCHEDULER_MEANINGS}

    face_scale: Strength = 1.0
    """Strength of the face: 0 is the base model, 1 as trained."""
    cfg_scale: Strength = 5.0
    """Guidance; 1 and less renders without it, in half the time."""
    num_inference_steps: Annotated[int, Field(gt=0, le=1000)] = 50
    """Denoising steps."""
    control_scale: Strength = 1.0
    """Strength of the pose."""
    cfg_start: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the steps before guidance begins. Early ones lay out the body, late ones the face."""
    face_start: Share = 0.0
    """Share of the steps before the face is shown. Until then the base renders."""
    face_end: Share = 1.0
    """Share of the steps after which the face is shown no more."""
    face_guidance: Strength | None = None
    """Guidance of the face alone, as cfg_scale guides by text. It costs one more pass a step. Default: cfg_scale guides
    both."""
    face_block_scales: list[Annotated[float, Field(ge=-MOST_STRENGTH, le=MOST_STRENGTH)]] | None = None
    """Strength of the face in each main block of the base, one number a block. All 1 is as trained."""
    reference_scale: Strength = 1.0
    """Strength of reference_image. control_scale does not change it."""
    reference_guidance: bool = False
    """Let cfg_scale guide by the references too: the pass with the negative prompt is then without them."""
    scheduler: SchedulerName = "unipc"
    """{schedulers}."""
    shift: Shift | None = None
    """Moves the steps towards noise: 3 at 480p, 5 at 720p. Default: the model's own."""
    step_cache: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Skip steps while the model's input has moved less than this share. 0 computes all steps, which is exact."""

    def __post_init__(self) -> None:
        if self.face_scale < 0:
            raise ConfigError(f"face_scale={self.face_scale}: must be 0 (the base model) or more")
        if not 0 <= self.face_start < self.face_end <= 1:
            raise ConfigError(
                f"face_start={self.face_start}, face_end={self.face_end}: must be shares of the steps, 0 to 1, "
                "the first smaller"
            )

    def is_guided(self, index: int) -> bool:
        """Whether step `index` (from 0) has guidance by text."""
        return self.cfg_scale > 1.0 and index >= self.cfg_start * self.num_inference_steps

    def shows_face(self, index: int) -> bool:
        """Whether the adapter is on at step `index`."""
        steps = self.num_inference_steps
        return self.face_scale > 0 and self.face_start * steps <= index < self.face_end * steps

    def unused(self, has_adapter: bool, has_face: bool, has_references: bool) -> Iterator[Reason]:
        """Options that change nothing. has_adapter, has_face, has_references: whether any video may have one."""
        if self.cfg_scale <= 1:
            for name in ("cfg_start", "reference_guidance"):
                yield name, f"with cfg_scale={self.cfg_scale}; there is guidance over 1"
        if not has_references:
            for name in ("reference_scale", "reference_guidance"):
                yield name, "without --reference_image or --own_references"
        if not has_adapter or self.face_scale == 0:
            why = "with face_scale=0" if has_adapter else "without --face_lora_path"
            for name in ("face_start", "face_end", "face_guidance", "face_block_scales"):
                yield name, why
        elif not has_face:
            yield "face_guidance", "without a face"
