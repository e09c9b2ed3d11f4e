"""Measure how steady a video is: identity over time, flicker of the face, and how much the picture moves.

Shapes: T H W frames and pixels. Differences of pictures are in levels of 0..255. A still video would score best in all
figures but the dynamic degree. That is why the dynamic degree is reported beside them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

Box = tuple[float, float, float, float]

# Heads of different sizes are compared at one size.
FLICKER_SIDE_PX = 64


def similarity_std(own_cosines: np.ndarray) -> float:
    """Standard deviation over all frames [T] of the cosine to the own person. A frame without a face counts as 0."""
    return float(own_cosines.std())


def similarity_min(own_cosines: np.ndarray) -> float:
    """The worst frame's cosine to the own person. A frame without a face counts as 0."""
    return float(own_cosines.min())


def consecutive_similarity(embeddings: np.ndarray, is_found: np.ndarray) -> float:
    """Mean cosine between each frame's face and the next one's; 0 where one has no face, nan for a single frame.

    embeddings: unit length, of the found frames only, [F, D]. is_found: bool [T].
    """
    if len(is_found) < 2:
        return math.nan
    every = np.zeros((len(is_found), embeddings.shape[1]))
    every[is_found] = embeddings
    return float((every[:-1] * every[1:]).sum(axis=1).mean())


def face_flicker(frames: np.ndarray, boxes: Sequence[Box | None]) -> float:
    """Mean absolute difference of the head between consecutive frames, in levels; nan without two heads in a row.

    frames: uint8 [T, H, W, 3]. boxes: the head, (x0, y0, x1, y1) px. The head is followed to fractions of a pixel, so
    that only changes inside the head count.
    """
    heads = [
        _head(frame, box).astype(np.float32) if box is not None else None
        for frame, box in zip(frames, boxes, strict=True)
    ]
    pairs = [(a, b) for a, b in itertools.pairwise(heads) if a is not None and b is not None]
    return float(np.mean([np.abs(a - b).mean() for a, b in pairs])) if pairs else math.nan


def dynamic_degree(frames: np.ndarray) -> float:
    """Mean absolute difference of the whole picture between consecutive frames, in levels; nan for one frame."""
    if len(frames) < 2:
        return math.nan
    return float(np.mean([np.abs(b.astype(np.int16) - a).mean() for a, b in itertools.pairwise(frames)]))


def _head(frame: np.ndarray, box: Box) -> np.ndarray:
    size = (FLICKER_SIDE_PX, FLICKER_SIDE_PX)
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR, box=box))
