"""Summarise one arm's videos.

Every metric gets its interval. Further figures tell how far genuine scores are from impostors'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from faceid.evaluation.figures.bootstrap import Estimate, PeopleBootstrap
from faceid.evaluation.figures.similarity import d_prime, equal_error_rate, true_accept_rate
from faceid.evaluation.figures.video_metrics import ALL_METRICS
from faceid.evaluation.videos.scoring import ScoredVideo

# Numbers of genuine and impostor scores that are no sum over videos.
SEPARATIONS = {
    "equal_error_rate": equal_error_rate,
    "d_prime": d_prime,
    "true_accept_rate_at_1_percent": true_accept_rate,
}


def summarise_arm(videos: Sequence[ScoredVideo], num_samples: int, seed: int) -> dict[str, Estimate]:
    """Numbers of one arm by one recogniser, each with its interval by resampling people.

    The keys are metric names, `auc`, `equal_error_rate`, `d_prime` and `true_accept_rate_at_1_percent`. An impostor
    score is a video's score to anybody but the person that it is scored as.
    """
    bootstrap = PeopleBootstrap([video.identity for video in videos], num_samples, seed)
    found = {
        metric.name: bootstrap.mean(np.array([video.values[metric.name] for video in videos])) for metric in ALL_METRICS
    }
    genuine, impostor = genuine_and_impostor(videos)
    found["auc"] = bootstrap.auc(genuine, impostor)
    for name, measure in SEPARATIONS.items():
        found[name] = bootstrap.statistic(partial(_separation, measure, genuine, impostor))
    return found


def genuine_and_impostor(videos: Sequence[ScoredVideo]) -> tuple[np.ndarray, np.ndarray]:
    """Scores to the person that each of N videos is scored as, [N], and to the P - 1 others, [N, P - 1]."""
    genuine = np.array([video.scores[video.own] for video in videos])
    impostor = np.stack([np.delete(video.scores, video.own) for video in videos])
    return genuine, impostor


def plain(value: Any) -> Any:
    """Convert estimates and nan to plain types for JSON: {"value", "low", "high", "count"}, and None for nan."""
    if isinstance(value, Estimate):
        return {name: plain(number) for name, number in vars(value).items()}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _separation(
    measure: Callable[[np.ndarray, np.ndarray], float], genuine: np.ndarray, impostor: np.ndarray, rows: np.ndarray
) -> float:
    return measure(genuine[rows], impostor[rows].ravel())
