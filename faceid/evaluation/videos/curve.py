"""Compute the face_scale curve.

It shows how similar renders are at every strength of the face, and whether it rises.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata

from faceid.evaluation.figures.bootstrap import Estimate, estimate_interval
from faceid.evaluation.videos.comparisons import Resampling, Videos

log = logging.getLogger(__name__)

# Two points are always in order, so they prove nothing.
FEWEST_FOR_SPEARMAN = 3
# Up to this strength, a higher one is promised to give more likeness. Beyond it likeness gains nothing, and its order
# is chance.
STRONGEST_ORDERED = 1.25


@dataclass(frozen=True)
class ScalePoint:
    """Mean similarity (times rate) at one strength of the face."""

    arm: str
    face_scale: float
    similarity: Estimate
    resampled: np.ndarray = field(repr=False, compare=False)
    """The mean in each resampling of the people, [S], with the same people at every point; [0] for a single person."""


def scale_curve(
    videos_by_arm: dict[str, Videos], face_scales: dict[str, list[float]], resampling: Resampling, judged: str
) -> list[ScalePoint]:
    """Own similarity at every face_scale, over arms with all of the judged arm's identities, clips and seeds.

    face_scales: by arm, the scales of its renders (the base's as [0]). The judged arm goes first where two are equal.
    Returns: points by rising face_scale; empty when the judged arm has several strengths.
    """
    wanted = {video.key for video in videos_by_arm[judged]}
    points: dict[float, ScalePoint] = {}
    for arm in [judged, *(name for name in face_scales if name != judged)]:
        held = [video for video in videos_by_arm[arm] if video.key in wanted]
        if not held or len(face_scales[arm]) != 1:
            continue
        scale = face_scales[arm][0]
        if len(held) < len(wanted):
            log.warning("%s: left out of the face_scale curve, lacks %d renders", arm, len(wanted) - len(held))
        elif scale in points:
            log.warning("%s: left out of the face_scale curve, %s has its face_scale", arm, points[scale].arm)
        else:
            values = np.array([video.values["similarity_times_rate"] for video in held])
            bootstrap = resampling.of(held)
            points[scale] = ScalePoint(arm, scale, bootstrap.mean(values), bootstrap.resampled_means(values))
    is_judged_in = any(point.arm == judged for point in points.values())
    return [points[scale] for scale in sorted(points)] if is_judged_in else []


def spearman(points: Sequence[ScalePoint]) -> Estimate | None:
    """Rank correlation of face_scale (to 1.25) and mean similarity, resampled by person; None below three points.

    points: by rising face_scale, no two equal. A strength without effect has no order, and the result is 0.
    """
    points = [point for point in points if point.face_scale <= STRONGEST_ORDERED]
    if len(points) < FEWEST_FOR_SPEARMAN:
        return None
    means = np.array([[point.similarity.value for point in points]])
    resampled = np.stack([point.resampled for point in points], axis=1)
    return estimate_interval(_order_correlations(means)[0], _order_correlations(resampled), points[0].similarity.count)


def _order_correlations(values: np.ndarray) -> np.ndarray:
    """Spearman correlation of every row with the order of its columns, [S, points] -> [S]; 0 for equal values."""
    ranks = rankdata(values, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    order = np.arange(values.shape[1]) - (values.shape[1] - 1) / 2
    spread = np.sqrt((order**2).sum() * (ranks**2).sum(axis=1))
    return np.divide(ranks @ order, spread, out=np.zeros(len(values)), where=spread > 0)
