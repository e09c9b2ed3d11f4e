"""What the order of the stream of samples follows from. Without heavy imports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StreamOrder:
    """The same three numbers, the same order.

    stage2_from_epoch: its first; by default never. micro_batch_size: samples that share a tensor, and so a size.
    """

    seed: int
    stage2_from_epoch: int = 1 << 30
    micro_batch_size: int = 1
