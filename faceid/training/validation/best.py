"""The best validation so far by one stated metric, and when to give up waiting for a better one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

# What `auto` takes: the first that is measured.
AUTO = ("swap_gap_heldout_dancers", "swap_gap_heldout_clips", "swap_gap_training_dancers")


@dataclass
class Best:
    """metric: without its validation/; auto until one was measured. Plain values, kept in every checkpoint."""

    metric: str = "auto"
    value: float | None = None
    step: int = 0
    validations_since: int = 0

    @classmethod
    def restored(cls, metric: str, saved: Mapping[str, Any] | None) -> Best:
        """As a checkpoint left it; anew for another metric."""
        found = cls(**saved) if saved else cls(metric)
        return found if metric in ("auto", found.metric) else cls(metric)

    def as_saved(self) -> dict[str, Any]:
        """For a checkpoint's state."""
        return asdict(self)

    def update(self, values: Mapping[str, float], step: int) -> bool:
        """Whether this validation is the best so far. Lower is better of a loss, higher of all else."""
        if self.metric == "auto":
            self.metric = next((name for name in AUTO if f"validation/{name}" in values), "auto")
        value = values.get(f"validation/{self.metric}")
        if value is None or math.isnan(value):
            return False
        sign = -1 if "loss" in self.metric else 1
        if self.value is not None and sign * value <= sign * self.value:
            self.validations_since += 1
            return False
        self.value, self.step, self.validations_since = value, step, 0
        return True

    def is_over(self, early_stop_after: int) -> bool:
        """Whether as many validations in a row brought nothing better; 0 for never."""
        return 0 < early_stop_after <= self.validations_since
