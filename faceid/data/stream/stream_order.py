"""The numbers from which the order of the stream of samples follows. No heavy imports."""

from __future__ import annotations

from dataclasses import dataclass

from faceid.data.stream.stream_length import NEVER


@dataclass(frozen=True)
class StreamOrder:
    """Three numbers. With the same numbers the order is the same.

    stage2_from_epoch: first epoch of stage 2; by default never. micro_batch_size: samples that share a tensor and size.
    stage2_samples: of an epoch of stage 2; 0 for as many as of stage 1.
    """

    seed: int
    stage2_from_epoch: int = NEVER
    micro_batch_size: int = 1
    stage2_samples: int = 0
