"""Settings of how a run is computed, on whatever machine. Field names are flag names."""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from faceid.config import OnResume
from faceid.limits import AtOnce, Processes, Share
from faceid.models.adapter_settings import GradientCheckpointing


@dataclass(frozen=True)
class ExecutionSettings:
    """How the steps are computed; what is learnt stays the same."""

    ON_RESUME: ClassVar[OnResume] = "free"

    micro_batch_size: AtOnce = 1
    """Samples per forward pass and process."""
    gradient_checkpointing: GradientCheckpointing = "full"
    """What is recomputed in the backward pass. full: each block from its input: least memory, a third more work.
    attention: all of a block but its self-attention, whose output is kept. none: nothing."""
    compile: bool = False
    """Compile the blocks. This is faster on a GPU once the first step has taken its minutes."""
    attention_backend: str | None = None
    """One of diffusers' attention kernels, such as _native_cudnn or flash. Default: torch's choice."""
    num_workers: Processes = 2
    """Reader processes per training process."""
    max_damaged_share: Share = 0.01
    """Another clip replaces a damaged one. Past this share of damaged clips the run is stopped."""
    accelerate_config: str | None = None
    """An accelerate YAML (launch/accelerate/), read where there is no launcher: under srun python train.py."""
    dry_run: bool = False
    """Say what the run would be and what would be refused; load and write nothing. Exit 2 if something would be."""
