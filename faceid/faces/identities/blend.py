"""Blend several people's embeddings into one, and go from one person to another.

Both stay on the unit sphere, where the encoder's embeddings lie. So a blend is as strong a face as its parts.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from faceid.errors import DataError
from faceid.faces.aggregate import aggregate

logger = logging.getLogger(__name__)


def blend_face_embeddings(embeddings: Sequence[torch.Tensor], weights: Sequence[float] | None = None) -> torch.Tensor:
    """Blend embeddings [D], unit length, of one encoder into one [D] of unit length.

    weights: not negative, one per embedding; None counts all alike. A sum other than 1 is normalised, with a note.
    Raises: DataError when sizes or counts differ, a weight is negative, or the parts cancel.
    """
    _check_sizes(embeddings)
    if weights is None:
        return aggregate(torch.stack(list(embeddings)), None, "mean")
    if len(weights) != len(embeddings) or min(weights) < 0:
        raise DataError(f"weights={list(weights)}: give {len(embeddings)} weights, none negative")
    if abs(sum(weights) - 1.0) > 1e-6:
        logger.info("weights %s sum to %g and are normalised", list(weights), sum(weights))
    return aggregate(torch.stack(list(embeddings)), torch.tensor(weights, dtype=torch.float64), "weighted_mean")


def interpolate_face_embeddings(start: torch.Tensor, end: torch.Tensor, t: float) -> torch.Tensor:
    """The point at share `t` (0: start, 1: end) of the great circle between two unit embeddings [D] (slerp).

    Raises: DataError when sizes differ, t is outside 0..1, or the two are opposite (no shortest way exists).
    """
    _check_sizes([start, end])
    if not 0.0 <= t <= 1.0:
        raise DataError(f"t={t}: must be from 0 (the first face) to 1 (the second)")
    a, b = start.to(torch.float64), end.to(torch.float64)
    angle = torch.acos((a @ b).clamp(-1.0, 1.0))
    if angle < 1e-6:
        return start.to(torch.float32)
    if angle > torch.pi - 1e-6:
        raise DataError("the two embeddings are opposite: no way between them is the shortest")
    point = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
    return torch.nn.functional.normalize(point, dim=0).to(torch.float32)


def _check_sizes(embeddings: Sequence[torch.Tensor]) -> None:
    shapes = {tuple(embedding.shape) for embedding in embeddings}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise DataError(f"embeddings of shapes {sorted(shapes)}: give vectors of one encoder, of one size")
