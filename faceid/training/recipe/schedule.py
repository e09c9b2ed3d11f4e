"""The learning rate and the run's length, as pure functions of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from faceid.training.training_settings import TrainingSettings


def total_steps(settings: TrainingSettings, samples_per_epoch: int) -> int:
    """Optimizer steps of the whole run."""
    return end_of_epoch(settings.num_epochs - 1, samples_per_epoch, settings.batch_size)


def end_of_epoch(epoch: int, samples_per_epoch: int, batch_size: int) -> int:
    """Steps after which epoch `epoch` (from 0) is complete; a batch may hold its end and the next one's start."""
    return math.ceil((epoch + 1) * samples_per_epoch / batch_size)


def epoch_of(step: int, samples_per_epoch: int, batch_size: int) -> int:
    """The epoch (from 0) in which step `step` begins."""
    return step * batch_size // samples_per_epoch


def learning_rate(step: int, settings: TrainingSettings, num_steps: int) -> float:
    """Linear warm-up, then cosine to zero at the end of the run."""
    warmup = min(settings.warmup_steps, num_steps // 10)
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(num_steps - warmup, 1)
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))


def is_mapper_frozen(step: int, settings: TrainingSettings, samples_per_epoch: int) -> bool:
    """Whether step `step` belongs to stage 2."""
    return epoch_of(step, samples_per_epoch, settings.batch_size) >= settings.freeze_mapper_after_epochs
