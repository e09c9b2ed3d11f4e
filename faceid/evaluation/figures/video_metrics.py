"""List every number of a video by name, with its meaning in plain words and the better direction.

The report's columns and explanations come from this table, and so do the keys of scores.json and videos.csv. Validation
in training also takes from it what it logs of its videos. docs/extending.md says how to add a number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from faceid.evaluation.figures.temporal import Box, dynamic_degree, face_flicker

Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Metric:
    """One number of a video."""

    name: str
    title: str
    better: Better
    meaning: str
    is_shown: bool = True
    """Whether it is a column of the report."""
    of: Callable[[np.ndarray, Sequence[Box | None]], float] | None = None
    """For a number of the pictures alone: the function from frames, uint8 [T, H, W, 3], and the head in each to the
    number. The number is nan where there is nothing to measure."""
    in_training: bool = False
    """Whether validations log it, for the target's and for other people's videos."""


IDENTITY_METRICS = (
    Metric(
        "rank1",
        "Rank-1",
        "higher",
        "Share of videos whose most similar person of the gallery is the one that was given. A tie with somebody else "
        "is a miss. By chance it is one over the number of people.",
        in_training=True,
    ),
    Metric(
        "similarity_times_rate",
        "Similarity × rate",
        "higher",
        "Mean over all frames of the cosine between the face and the person's reference photos; this is what is "
        "ranked. A frame without a face counts as 0, so hiding the face costs. Cosines are never cut off at 0.",
    ),
    Metric(
        "similarity",
        "Similarity",
        "higher",
        "The same over the frames with a face only. Cosines of two recognisers cannot be compared with each other.",
        in_training=True,
    ),
    Metric(
        "detection_rate",
        "Frames with a face",
        "higher",
        "Share of frames in which a face was found; where head boxes were given, in which the head is in the picture.",
    ),
    Metric("best_impostor", "Best impostor", "lower", "Score of the most similar other person.", is_shown=False),
    Metric(
        "margin",
        "Margin",
        "higher",
        "Own score minus that of the most similar other person. Above 0 the video is recognised.",
        in_training=True,
    ),
    Metric(
        "rank1_standardised",
        "Rank-1, standardised",
        "higher",
        "Rank-1 after each person's cosine is measured in standard deviations of other people's photos to that "
        "person: a face that resembles everybody gains nothing by it.",
        is_shown=False,
    ),
    Metric(
        "similarity_standardised",
        "Similarity, standardised",
        "higher",
        "Own score in standard deviations of other people's photos: 0 is a stranger.",
        is_shown=False,
    ),
    Metric(
        "similarity_std",
        "Similarity, spread",
        "lower",
        "Standard deviation over the frames of the cosine to the own person; a frame without a face is 0.",
    ),
    Metric(
        "similarity_min",
        "Similarity, worst frame",
        "higher",
        "The worst frame's cosine to the own person; a frame without a face is 0.",
    ),
    Metric(
        "consecutive_similarity",
        "Frame to frame",
        "higher",
        "Mean cosine between the faces of neighbouring frames; a pair without two faces is 0.",
    ),
)
PICTURE_METRICS = (
    Metric(
        "detector_rate",
        "Face by detector",
        "higher",
        "Share of frames in which the face detector finds a face at the head. A second opinion where head boxes were "
        "given, for those say only that the head is in the picture. To be read beside that of real clips.",
    ),
    Metric(
        "flicker",
        "Face flicker",
        "lower",
        "Mean absolute difference inside the head box, which moves along, between neighbouring frames, in levels of "
        "0 to 255. To be read beside that of real clips: turning heads change too.",
        of=face_flicker,
    ),
    Metric(
        "dynamic_degree",
        "Movement",
        "neither",
        "Mean absolute difference of whole neighbouring frames, in levels. It must not fall: a still video is steady.",
        of=lambda frames, _: dynamic_degree(frames),
    ),
    Metric(
        "pose_error",
        "Pose error",
        "lower",
        "Mean distance between the joints read from the video and the control's, in torsos (shoulders to hips). A "
        "joint that cannot be read counts as one whole torso, so hiding a limb is not rewarded.",
    ),
    Metric("pck", "PCK@0.1", "higher", "Share of joints that are read within a tenth of a torso of the control."),
    Metric("missing_rate", "Joints missing", "lower", "Share of joints that could not be read (confidence under 0.3)."),
)
ALL_METRICS = IDENTITY_METRICS + PICTURE_METRICS


def measure_pictures(
    frames: np.ndarray, boxes: Sequence[Box | None], metrics: Sequence[Metric] = PICTURE_METRICS
) -> dict[str, float]:
    """Every number of the pictures alone, by name. frames: uint8 [T, H, W, 3]. boxes: the head in each, if any."""
    return {metric.name: metric.of(frames, boxes) for metric in metrics if metric.of is not None}
