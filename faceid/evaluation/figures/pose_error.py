"""Measure how well a body follows its control, as pure functions of joints.

Shapes: T frames, 17 joints in COCO's order. The unit of distance is the torso of the control: the middle of the
shoulders to the middle of the hips, median over the video. A joint that cannot be read counts as a whole torso of
error, so that hiding a limb is not rewarded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# With a lower confidence of the reader, the joint is missing.
LEAST_CONFIDENCE = 0.3
MISSING_ERROR_TORSOS = 1.0
PCK_TORSOS = 0.1
_SHOULDERS, _HIPS = (5, 6), (11, 12)


@dataclass(frozen=True)
class PoseScore:
    """One video's pose. All values are nan when the control never shows a torso."""

    error: float
    """Mean distance of read to control joints, torsos."""
    pck: float
    """Share of control joints that are read within 0.1 torsos."""
    missing_rate: float
    """Share of control joints that could not be read."""


def score_pose(read: np.ndarray, control: np.ndarray, size_hw: tuple[int, int]) -> PoseScore:
    """Compare joints read from a render with its control.

    read: x, y in pixels and confidence 0..1, [T, 17, 3].
    control: x, y in the same pixels, nan where unknown, [T, 17, 2]. Joints outside the picture do not count.
    size_hw: of the picture.
    """
    torso = torso_px(control)
    height, width = size_hw
    # A comparison with nan is false.
    known = ((control >= 0) & (control < (width, height))).all(axis=2)
    if not math.isfinite(torso) or torso <= 0 or not known.any():
        return PoseScore(math.nan, math.nan, math.nan)
    is_read = np.isfinite(read).all(axis=2) & (read[:, :, 2] >= LEAST_CONFIDENCE)
    distances = np.linalg.norm(read[:, :, :2].astype(np.float64) - control, axis=2) / torso
    errors = np.where(is_read, distances, MISSING_ERROR_TORSOS)[known]
    within = (is_read & (np.nan_to_num(distances, nan=np.inf) <= PCK_TORSOS))[known]
    return PoseScore(float(errors.mean()), float(within.mean()), float(1 - is_read[known].mean()))


def torso_px(control: np.ndarray) -> float:
    """Middle of the shoulders to middle of the hips, median over frames that show both, px; nan when none does."""
    vectors = control[:, _SHOULDERS].astype(np.float64).mean(axis=1) - control[:, _HIPS].mean(axis=1)
    lengths = np.linalg.norm(vectors, axis=1)
    return float(np.median(lengths[np.isfinite(lengths)])) if np.isfinite(lengths).any() else math.nan
