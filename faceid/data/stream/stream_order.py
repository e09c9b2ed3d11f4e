"""The numbers from which the order of the stream of samples follows. No heavy imports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StreamOrder:
    """Three numbers. With the same numbers the order is the same.

    stage2_from_epoch: first epoch of stage 2; by default never. micro_batch_size: samples that share a tensor and size.
    """

    seed: int
    stage2_from_epoch: int = 1 << 30
    micro_batch_size: int = 1
