"""What one optimizer step leaves behind for whoever logs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass
class Step:
    """What a step left behind, numbers still on the device.

    loss: this rank's mean. gradient_norm: over all ranks, before clipping. was_skipped: 1 when the gradient was not
    finite and nothing was learnt, else 0, the same on all ranks.
    """

    loss: Tensor
    gradient_norm: Any
    was_skipped: Tensor
    data_wait_s: float
    tokens: int
    flops: float
    samples: list[tuple[int, str]]
    """This rank's: global index and key of each."""
