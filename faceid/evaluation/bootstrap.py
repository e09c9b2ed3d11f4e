"""95 % intervals by resampling people: videos of one person are not independent of each other.

People are drawn with replacement, each with all their videos. Everything is computed from sums per person, so that a
resampling is one row of weights: no Python loop, and the same result as resampling the videos themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faceid.evaluation.similarity import roc_auc

PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """A value with its interval. All nan when there is nothing to measure; no interval for a single person."""

    value: float
    low: float
    high: float
    count: int
    """Videos (or pairs) it is the mean of."""


class PeopleBootstrap:
    """Resamplings of the people behind N videos, shared by all their metrics."""

    def __init__(self, people: Sequence[str], num_samples: int, seed: int) -> None:
        """people: whose each of the N videos is."""
        self.names, self.index = np.unique(np.asarray(people, dtype=str), return_inverse=True)
        count = len(self.names)
        generator = np.random.default_rng(seed)
        draws = generator.integers(0, max(count, 1), (num_samples, count))
        # How often each person is in each resampling, [samples, people].
        self.weights = np.stack([(draws == person).sum(axis=1) for person in range(count)], axis=1, dtype=np.float64)

    def mean(self, values: np.ndarray) -> Estimate:
        """Mean of [N] values; nan ones are left out and not counted."""
        return self.ratio(values, np.ones(len(values)))

    def ratio(self, numerators: np.ndarray, denominators: np.ndarray) -> Estimate:
        """Sum of one over sum of the other, [N] each; pairs with a nan are left out and not counted."""
        is_known = np.isfinite(numerators) & np.isfinite(denominators)
        upper = self._sums(np.where(is_known, numerators, 0.0))
        lower = self._sums(np.where(is_known, denominators, 0.0))
        if lower.sum() == 0:
            return Estimate(math.nan, math.nan, math.nan, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            resampled = (self.weights @ upper) / (self.weights @ lower)
        return self._estimate(upper.sum() / lower.sum(), resampled, int(is_known.sum()))

    def auc(self, genuine: np.ndarray, impostor: np.ndarray) -> Estimate:
        """ROC-AUC of [N] genuine against [N, M] impostor scores.

        A resampling weighs every comparison of two people's scores by how often both were drawn.
        """
        people = range(len(self.names))
        genuines = [genuine[self.index == person] for person in people]
        impostors = [impostor[self.index == person].ravel() for person in people]
        pairs = np.array([[len(g) * len(i) for i in impostors] for g in genuines], np.float64)
        wins = np.array([[roc_auc(g, i) if len(g) and len(i) else 0.0 for i in impostors] for g in genuines]) * pairs
        if pairs.sum() == 0:
            return Estimate(math.nan, math.nan, math.nan, 0)
        weights = self.weights
        resampled = ((weights @ wins) * weights).sum(axis=1) / ((weights @ pairs) * weights).sum(axis=1)
        return self._estimate(wins.sum() / pairs.sum(), resampled, len(genuine))

    def _sums(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.index, weights=values, minlength=len(self.names))

    def _estimate(self, value: float, resampled: np.ndarray, count: int) -> Estimate:
        resampled = resampled[np.isfinite(resampled)]
        if len(self.names) < 2 or not len(resampled):
            return Estimate(float(value), math.nan, math.nan, count)
        low, high = np.percentile(resampled, PERCENTILES)
        return Estimate(float(value), float(low), float(high), count)
