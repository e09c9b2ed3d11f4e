"""Combine several unit embeddings of one person into one: means and a geometric median on the sphere.

This is pure tensor arithmetic, in float64 inside. It serves the identity file, leave-one-out in training and blends.
"""

from __future__ import annotations

import torch

from faceid.errors import DataError
from faceid.faces.identity_settings import Aggregation

MEDIAN_ITERATIONS = 100
MEDIAN_TOLERANCE = 1e-9


def aggregate(embeddings: torch.Tensor, weights: torch.Tensor | None, how: Aggregation) -> torch.Tensor:
    """Combine embeddings into one of unit length, float32 [D].

    embeddings: unit length, [N, D], N >= 1. weights: not negative, [N], any sum; None counts all alike.
    how: `mean` ignores the weights; `weighted_mean` and `median` (geometric, on the sphere) use them.
    Raises: DataError when the result has no direction (opposite embeddings cancel, or all weights are 0).
    """
    assert embeddings.ndim == 2 and len(embeddings) > 0, f"expected [N, D] with N >= 1, got {tuple(embeddings.shape)}"
    points = embeddings.to(torch.float64)
    if weights is None or how == "mean":
        shares = torch.ones(len(points), dtype=torch.float64, device=points.device)
    else:
        assert weights.shape == (len(points),), f"weights {tuple(weights.shape)} for {len(points)} embeddings"
        shares = weights.to(points)
    mean = _unit((shares[:, None] * points).sum(0))
    result = _spherical_median(points, shares, start=mean) if how == "median" else mean
    return result.to(torch.float32)


def concentration(embeddings: torch.Tensor, weights: torch.Tensor) -> float:
    """Length of the weighted mean of unit embeddings, 0..1. It is 1 when all photos have the same embedding."""
    shares = weights.to(torch.float64) / weights.sum()
    return float((shares[:, None] * embeddings.to(torch.float64)).sum(0).norm())


def effective_number(weights: torch.Tensor) -> float:
    """(sum w)^2 / sum w^2: the number of equally weighted photos that these weighted ones are worth."""
    return float(weights.to(torch.float64).sum() ** 2 / weights.to(torch.float64).pow(2).sum())


def _spherical_median(points: torch.Tensor, shares: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Weiszfeld's iteration with chord distances. Each step puts the centre back on the sphere."""
    centre = start
    for _ in range(MEDIAN_ITERATIONS):
        # The floor keeps the iteration defined when the centre reaches one of the points.
        distances = (points - centre).norm(dim=1).clamp_min(1e-6)
        following = _unit((shares[:, None] / distances[:, None] * points).sum(0))
        moved = float((following - centre).norm())
        centre = following
        if moved < MEDIAN_TOLERANCE:
            break
    return centre


def _unit(vector: torch.Tensor) -> torch.Tensor:
    length = vector.norm()
    if not torch.isfinite(length) or length < 1e-8:
        raise DataError("face embeddings cancel out or all weights are 0: no direction is left; use other photos")
    return vector / length
