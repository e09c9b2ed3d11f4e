"""Settings of what a run records of its steps. Field names are flag names."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import OnResume
from faceid.limits import CountFrom1


@dataclass(frozen=True)
class LoggingSettings:
    """What is written down of the steps, and how often."""

    ON_RESUME: ClassVar[OnResume] = "free"

    log_every_steps: CountFrom1 = 10
    """Optimizer steps between metrics. A logging step waits for the device."""
    log_samples: bool = False
    """Write which samples each step took to logs/samples_rankNNNN.jsonl."""
    tensorboard: bool = True
    """Write TensorBoard files beside metrics.jsonl."""
    peak_tflops: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """TFLOP/s of the device in bf16, for speed/mfu. Known for common GPUs."""
    watchdog_s: Annotated[float, Field(ge=0, le=1e9)] = 600.0
    """Seconds without progress after which a process writes where it stands to its log; 0 for never."""
