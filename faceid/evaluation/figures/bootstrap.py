"""Compute 95 % intervals by resampling people, because videos of one person depend on each other.

People are drawn with replacement, each with all their videos. Means, ratios and the AUC are computed from sums per
person. So a resampling is one row of weights, without a Python loop, and with the same result as resampling the videos
themselves. A figure that is no such sum (`statistic`) is computed anew from the videos of every resampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from faceid.evaluation.figures.similarity import roc_auc

PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """A value with its interval. All are nan when there is nothing to measure. A single person gives no interval."""

    value: float
    low: float
    high: float
    count: int
    """Number of videos, pairs or people in the mean."""

    @property
    def has_interval(self) -> bool:
        """Whether the value was resampled, which a single person's is not."""
        return math.isfinite(self.low) and math.isfinite(self.high)


NOTHING = Estimate(math.nan, math.nan, math.nan, 0)


def estimate_interval(value: float, resampled: np.ndarray, count: int) -> Estimate:
    """A value with the 95 % interval of its resamplings, [S]. nan ones are left out; with none left, no interval."""
    resampled = resampled[np.isfinite(resampled)]
    if not len(resampled):
        return Estimate(float(value), math.nan, math.nan, count)
    low, high = np.percentile(resampled, PERCENTILES)
    return Estimate(float(value), float(low), float(high), count)


class PeopleBootstrap:
    """Resamplings of the people behind N videos, shared by all their metrics."""

    def __init__(self, people: Sequence[str], num_samples: int, seed: int) -> None:
        """people: the person of each of the N videos."""
        self.names, self.index = np.unique(np.asarray(people, dtype=str), return_inverse=True)
        count = len(self.names)
        generator = np.random.default_rng(seed)
        draws = generator.integers(0, max(count, 1), (num_samples, count))
        # Weights say how often each person is in each resampling, [S, people].
        weights = np.stack([(draws == person).sum(axis=1) for person in range(count)], axis=1, dtype=np.float64)
        # A single person is drawn every time. That gives no interval, rather than one of width zero.
        self.weights = weights if count > 1 else weights[:0]

    def mean(self, values: np.ndarray) -> Estimate:
        """Mean of [N] values. nan ones are left out and not counted."""
        return self.ratio(values, np.ones(len(values)))

    def ratio(self, numerators: np.ndarray, denominators: np.ndarray) -> Estimate:
        """Sum of one over sum of the other, [N] each. Pairs with a nan are left out and not counted."""
        is_known = np.isfinite(numerators) & np.isfinite(denominators)
        upper = self._sums(np.where(is_known, numerators, 0.0))
        lower = self._sums(np.where(is_known, denominators, 0.0))
        if lower.sum() == 0:
            return NOTHING
        # People without a known value are not drawn. If a single person is left, there is no interval.
        is_one_person = np.unique(self.index[is_known]).size < 2
        resampled = np.empty(0) if is_one_person else self._ratios(upper, lower)
        return estimate_interval(upper.sum() / lower.sum(), resampled, int(is_known.sum()))

    def resampled_means(self, values: np.ndarray) -> np.ndarray:
        """Mean of [N] values in each resampling, [S]; [0] for a single person, who cannot be resampled."""
        return self._ratios(self._sums(values), self._sums(np.ones(len(values))))

    def auc(self, genuine: np.ndarray, impostor: np.ndarray) -> Estimate:
        """ROC-AUC of [N] genuine against [N, M] impostor scores.

        A resampling weighs every comparison of two people's scores by how often both people were drawn.
        """
        people = range(len(self.names))
        genuines = [genuine[self.index == person] for person in people]
        impostors = [impostor[self.index == person].ravel() for person in people]
        pairs = np.array([[len(g) * len(i) for i in impostors] for g in genuines], np.float64)
        wins = np.array([[roc_auc(g, i) if len(g) and len(i) else 0.0 for i in impostors] for g in genuines]) * pairs
        if pairs.sum() == 0:
            return NOTHING
        weights = self.weights
        resampled = ((weights @ wins) * weights).sum(axis=1) / ((weights @ pairs) * weights).sum(axis=1)
        return estimate_interval(wins.sum() / pairs.sum(), resampled, len(genuine))

    def statistic(self, of_videos: Callable[[np.ndarray], float]) -> Estimate:
        """A statistic of some of the N videos, given by indices [R], each as often as it was drawn. Uses a loop."""
        rows = np.arange(len(self.index))
        value = of_videos(rows)
        if math.isnan(value):
            return NOTHING
        times = self.weights.astype(int)[:, self.index]
        return estimate_interval(value, np.array([of_videos(np.repeat(rows, drawn)) for drawn in times]), len(rows))

    def _sums(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.index, weights=values, minlength=len(self.names))

    def _ratios(self, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """Ratios of sums per person, in each resampling, [S]; nan where nobody with a denominator was drawn."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return (self.weights @ upper) / (self.weights @ lower)
