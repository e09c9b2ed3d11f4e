"""Sum each step's numbers over all processes.

The sums arrive one step later, and nobody waits for them. Reading a number from a busy device first makes it finish its
work. So the sums of a step are sent for at its end. They are read at the end of the next step, when they have long
arrived. All ranks read the same sums at the same step, and so act alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor


class Agreement:
    """Sums over the ranks, one step late."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._arriving: Tensor | None = None
        self._event: torch.cuda.Event | None = None

    def exchange(self, values: Sequence[float | Tensor]) -> list[float] | None:
        """Send this step's values, and read the sums of the step before; None at the first step. All ranks call."""
        arrived = self.read()
        device = self._accelerator.device
        sent = torch.stack([torch.as_tensor(value, dtype=torch.float32, device=device) for value in values])
        sums = self._accelerator.reduce(sent, reduction="sum")
        if device.type == "cuda":
            self._arriving = torch.empty(sums.shape, dtype=sums.dtype, pin_memory=True)
            self._arriving.copy_(sums, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._arriving = sums
        return arrived

    def read(self) -> list[float] | None:
        """Wait for and read what was sent and is unread; None when there is nothing."""
        if self._arriving is None:
            return None
        if self._event is not None:
            self._event.synchronize()
        sums, self._arriving, self._event = self._arriving.tolist(), None, None
        return sums
