"""Compute the learning rate in the toy world's own trainings."""

from __future__ import annotations

import math


def rate_factor(step: int, num_steps: int, warmup_steps: int, level_until: float = 0.0, least: float = 0.0) -> float:
    """Factor of the peak rate at `step`: warm-up, level for a share of the training, then cosine down to `least`."""
    late = max(0.0, step / num_steps - level_until) / (1 - level_until)
    return min(1.0, (step + 1) / warmup_steps) * max(least, 0.5 + 0.5 * math.cos(math.pi * late))
