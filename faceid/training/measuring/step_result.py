"""Hold the results of one optimizer step for logging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass
class Step:
    """The results of a step. Numbers are still on the device.

    losses: this rank's mean of each, by name; `loss` was learnt. gradient_norm: over all ranks, before clipping.
    was_skipped: 1 when the gradient was not finite and nothing was learnt, else 0. It is the same on all ranks.
    """

    losses: dict[str, Tensor]
    gradient_norm: Any
    was_skipped: Tensor
    data_wait_s: float
    tokens: int
    flops: float
    samples: list[tuple[int, str]]
    """This rank's samples: global index and key of each."""
