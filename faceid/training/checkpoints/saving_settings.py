"""Settings of what a run saves, and of what it resumes. Field names are flag names."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import OnResume
from faceid.limits import MOST_COUNTED, Count, CountFrom1


@dataclass(frozen=True)
class SavingSettings:
    """When adapters and checkpoints are saved, and which one a run goes on from."""

    ON_RESUME: ClassVar[OnResume] = "free"

    save_every: CountFrom1 = 10
    """Epochs between face_lora_epoch_N.safetensors and checkpoints."""
    checkpoint_every_steps: Count = 0
    """Optimizer steps between additional checkpoints; 0 for none."""
    keep_checkpoints: Annotated[int, Field(ge=2, le=MOST_COUNTED)] = 2
    """Number of newest checkpoints that are kept, never fewer than two."""
    resume: str = "auto"
    """auto: resume the newest valid checkpoint; none: refuse a folder that has some; or a checkpoint folder."""
