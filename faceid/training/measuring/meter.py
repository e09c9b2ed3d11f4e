"""Hold a step's results, and measure speed and use of the device between logging steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Dense bf16 TFLOP/s with float32 accumulation, from the makers' data sheets. The first name contained in the device's
# name counts, so a longer name stands before a shorter one.
PEAK_TFLOPS = {
    "B200": 2250.0,
    "GH200": 989.4,
    "H200": 989.4,
    "H100 PCIe": 756.0,
    "H100": 989.4,
    "L40S": 362.0,
    "A100": 312.0,
    "RTX 6000 Ada": 182.1,
    "RTX 5090": 209.5,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
    "A6000": 154.8,
    "A40": 149.7,
    "A10G": 70.0,
}


def peak_tflops(device: torch.device) -> float | None:
    """TFLOP/s of a device in bf16; None when unknown."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for known, peak in PEAK_TFLOPS.items() if known in name), None)


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


class Meter:
    """Sums over steps of this rank. `take` returns their means and begins anew."""

    def __init__(self, peak: float | None) -> None:
        """peak: TFLOP/s of one device. Without it no utilisation is computed."""
        self.peak = peak
        self._steps, self._seconds, self._waited_s, self._tokens, self._flops = 0, 0.0, 0.0, 0, 0.0

    def add(self, step: Step, seconds: float) -> None:
        """Count a step that took `seconds` of wall time here."""
        self._steps += 1
        self._seconds += seconds
        self._waited_s += step.data_wait_s
        self._tokens += step.tokens
        self._flops += step.flops

    def take(self, processes: int) -> dict[str, float]:
        """Means per step, and tokens a second over all processes. All processes are taken to be as busy as this one.

        speed/mfu: useful operations (nothing recomputed is counted) divided by what the device could have done.
        """
        values = {
            "time/step_s": self._seconds / self._steps,
            "time/data_wait_s": self._waited_s / self._steps,
            "speed/tokens_per_s": self._tokens * processes / self._seconds,
        }
        if self.peak is not None:
            values["speed/mfu"] = self._flops / self._seconds / (self.peak * 1e12)
        self._steps, self._seconds, self._waited_s, self._tokens, self._flops = 0, 0.0, 0.0, 0, 0.0
        return values
