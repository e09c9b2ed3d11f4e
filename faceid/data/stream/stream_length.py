"""Say how many samples an epoch has, in each stage, and which epoch a position lies in. No heavy imports."""

from __future__ import annotations

from dataclasses import dataclass

# Stage 2 of a stream that has none.
NEVER = 1 << 30


@dataclass(frozen=True)
class StreamLength:
    """Samples of an epoch in stage 1 and in stage 2, which begins with epoch `stage2_from_epoch`."""

    stage1: int
    stage2: int
    stage2_from_epoch: int = NEVER

    def before(self, epoch: int) -> int:
        """Samples before epoch `epoch` (from 0)."""
        first = min(epoch, self.stage2_from_epoch)
        return first * self.stage1 + (epoch - first) * self.stage2

    def place(self, g: int) -> tuple[int, int]:
        """The epoch (from 0) of position g, and its place in it."""
        boundary = self.stage2_from_epoch * self.stage1
        if g < boundary:
            return divmod(g, self.stage1)
        epoch, at = divmod(g - boundary, self.stage2)
        return self.stage2_from_epoch + epoch, at
