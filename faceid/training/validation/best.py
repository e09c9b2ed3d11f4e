"""Track the best validation so far by one stated metric.

It also decides when to stop waiting for a better one.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from faceid.errors import ConfigError
from faceid.evaluation.figures.video_metrics import ALL_METRICS, Better
from faceid.training.recipe.recipe_settings import HeldOutSettings
from faceid.training.validation.judge import PICTURES, SCORES, prefix_of
from faceid.training.validation.losses import CONDITIONS
from faceid.training.validation.validation_settings import OWN, ValidationSettings

# The metrics for `auto`. The first one that is measured counts.
AUTO = ("swap_gap_target", "swap_gap_heldout_dancers", "swap_gap_heldout_clips", "swap_gap_training_dancers")
BETTER = {metric.name: metric.better for metric in ALL_METRICS}


def check_best_metric(validation: ValidationSettings, held_out: HeldOutSettings) -> None:
    """Raises: ConfigError for a metric that no validation of these settings measures."""
    metric = validation.best_metric
    if metric == "auto" or not validation.validate_every:
        return
    measured = metrics_of(validation, held_out)
    if metric in measured and better_of(metric) == "neither":
        raise ConfigError(f"best_metric={metric!r}: neither more nor less of it is better; give auto, or another")
    if metric not in measured:
        near = difflib.get_close_matches(metric, measured, 1)
        hint = f"did you mean {near[0]}?" if near else f"give auto, or one of {', '.join(measured)}"
        raise ConfigError(f"best_metric={metric!r}: no validation with these settings measures it; {hint}")


def better_of(metric: str) -> Better:
    """Which way a metric of a validation is better: as its table says, a loss when lower, a swap gap when higher."""
    name = metric.removeprefix(prefix_of(OWN)).rpartition("_")[0]
    if name in BETTER:
        return BETTER[name]
    return "lower" if metric.startswith(("loss_", "head_loss_")) else "higher"


def metrics_of(validation: ValidationSettings, held_out: HeldOutSettings) -> list[str]:
    """Names of what a validation measures, without validation/. Some are left out where too few clips are known."""
    groups = {
        "training_dancers": 1,
        "heldout_clips": held_out.heldout_clips,
        "heldout_dancers": held_out.heldout_dancers,
        "target": held_out.heldout_photos,
    }
    names = []
    for group in (name for name, count in groups.items() if count):
        names += [f"swap_gap_{group}", f"head_loss_{group}", *(f"loss_{group}_{condition}" for condition in CONDITIONS)]
    shown = {
        "target": validation.validation_videos,
        "people": validation.validation_people and held_out.heldout_dancers,
    }
    scores = [metric.name for metric in PICTURES]
    if validation.judge is not None:
        scores += [f"{prefix_of(validation.judge)}{score}" for score in SCORES]
    return names + [f"{score}_{who}" for who, count in shown.items() if count for score in scores]


@dataclass
class Best:
    """metric: its name without validation/; auto until one was measured. Plain values, kept in every checkpoint."""

    metric: str = "auto"
    value: float | None = None
    step: int = 0
    validations_since: int = 0

    @classmethod
    def restored(cls, metric: str, saved: Mapping[str, Any] | None) -> Best:
        """The state that a checkpoint holds; a new one for another metric."""
        found = cls(**saved) if saved else cls(metric)
        return found if metric in ("auto", found.metric) else cls(metric)

    def as_saved(self) -> dict[str, Any]:
        """Plain values for a checkpoint's state."""
        return asdict(self)

    def update(self, values: Mapping[str, float], step: int) -> bool:
        """Whether this validation is the best so far. Lower is better for a loss; for a metric its table decides."""
        if self.metric == "auto":
            self.metric = next((name for name in AUTO if f"validation/{name}" in values), "auto")
        value = values.get(f"validation/{self.metric}")
        if value is None or math.isnan(value):
            return False
        sign = -1 if better_of(self.metric) == "lower" else 1
        if self.value is not None and sign * value <= sign * self.value:
            self.validations_since += 1
            return False
        self.value, self.step, self.validations_since = value, step, 0
        return True

    def is_over(self, early_stop_after: int) -> bool:
        """Whether as many validations in a row were no better; 0 for never."""
        return 0 < early_stop_after <= self.validations_since
