"""Compute the learning rate and the run's length as pure functions of the step.

No state is saved or restored.
"""

from __future__ import annotations

import math

from faceid.data.stream.stream_length import StreamLength


def total_steps(num_epochs: int, length: StreamLength, batch_size: int) -> int:
    """Optimizer steps of the whole run."""
    return end_of_epoch(num_epochs - 1, length, batch_size)


def end_of_epoch(epoch: int, length: StreamLength, batch_size: int) -> int:
    """Steps after which epoch `epoch` (from 0) is complete. A batch may hold its end and the next one's start."""
    return math.ceil(length.before(epoch + 1) / batch_size)


def epoch_of(step: int, length: StreamLength, batch_size: int) -> int:
    """The epoch (from 0) in which step `step` begins."""
    return length.place(step * batch_size)[0]


def learning_rate(step: int, peak: float, warmup_steps: int, num_steps: int) -> float:
    """Linear warm-up to the peak, then cosine to zero at the end of the run."""
    warmup = min(warmup_steps, num_steps // 10)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(num_steps - warmup, 1)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))


def is_stage2(step: int, stage1_epochs: int, length: StreamLength, batch_size: int) -> bool:
    """Whether the mapper is frozen at step `step`."""
    return epoch_of(step, length, batch_size) >= stage1_epochs
