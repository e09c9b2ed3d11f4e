"""Measure how well an encoder tells labelled people apart.

Pairs of photos and all figures are made by pure functions. A pair of photos of one person is genuine, and one of two
people is an impostor's. Every pair counts, including those of people with many photos. Shapes: N photos, P people, D
embedding size, G genuine and I impostor pairs, S resamplings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faceid.evaluation.figures.bootstrap import Estimate, PeopleBootstrap, estimate_interval
from faceid.evaluation.figures.similarity import (
    FALSE_ACCEPT_RATE,
    FEWEST_FOR_FAR,
    d_prime,
    equal_error_rate,
    roc_auc,
    true_accept_rate,
)
from faceid.logs import progress

# Highest equal error rate for each verdict. The limits are our own judgement. Chance is 0.5.
VERDICTS = (
    (0.05, "tells these people apart"),
    (0.20, "tells these people apart in most pairs"),
    (0.35, "hardly tells these people apart"),
    (1.00, "does not tell these people apart"),
)


@dataclass(frozen=True)
class Pairs:
    """Cosines of all pairs of photos, and the people in each pair."""

    people: list[str]
    """Names, [P]."""
    genuine: np.ndarray
    """[G], float64."""
    genuine_person: np.ndarray
    """Index into `people`, [G]."""
    impostor: np.ndarray
    """[I], float64."""
    impostor_people: np.ndarray
    """Indices of both people, [2, I]."""


@dataclass(frozen=True)
class PersonFigures:
    """One person among the others."""

    name: str
    num_photos: int
    genuine_cosine: float
    """Mean over the pairs of two photos of this person; nan with a single photo."""
    nearest: str
    """The other person with the highest mean cosine to this person."""
    nearest_cosine: float


@dataclass(frozen=True)
class Figures:
    """All figures of one encoder on one set of people."""

    num_people: int
    num_photos: int
    num_genuine: int
    num_impostor: int
    auc: Estimate
    equal_error_rate: Estimate
    equal_error_threshold: float
    """Pairs with this cosine or more are taken for one person."""
    true_accept_rate_at_1_percent: float
    """nan with fewer than 100 impostor pairs."""
    false_accept_threshold: float
    """At most 1 % of the impostor pairs lie above it; nan with fewer than 100."""
    d_prime: float
    people: list[PersonFigures]


def make_pairs(embeddings: np.ndarray, people: Sequence[str]) -> Pairs:
    """All pairs of N photos, each once. embeddings: unit length, [N, D]. people: the person in each photo, [N]."""
    names, owner = np.unique(np.asarray(people, dtype=str), return_inverse=True)
    first, second = np.triu_indices(len(owner), 1)
    vectors = embeddings.astype(np.float64)
    cosines = (vectors @ vectors.T)[first, second]
    is_genuine = owner[first] == owner[second]
    return Pairs(
        people=names.tolist(),
        genuine=cosines[is_genuine],
        genuine_person=owner[first[is_genuine]],
        impostor=cosines[~is_genuine],
        impostor_people=np.stack([owner[first[~is_genuine]], owner[second[~is_genuine]]]),
    )


def measure(pairs: Pairs, num_photos: dict[str, int], num_samples: int, seed: int) -> Figures:
    """Every figure. Intervals come from drawing people with replacement. num_photos: for each person.

    Needs at least one genuine and one impostor pair.
    """
    genuine, impostor = pairs.genuine, pairs.impostor
    auc, error_rate = _intervals(pairs, num_samples, seed)
    return Figures(
        num_people=len(pairs.people),
        num_photos=sum(num_photos.values()),
        num_genuine=len(genuine),
        num_impostor=len(impostor),
        auc=auc,
        equal_error_rate=error_rate,
        equal_error_threshold=equal_error_threshold(genuine, impostor),
        true_accept_rate_at_1_percent=true_accept_rate(genuine, impostor),
        false_accept_threshold=false_accept_threshold(impostor),
        d_prime=d_prime(genuine, impostor),
        people=_by_person(pairs, num_photos),
    )


def roc_points(genuine: np.ndarray, impostor: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every distinct score as a threshold, ascending and then inf: (thresholds, false accepts, false rejects), [K].

    A score is accepted at the threshold and above. Rates are 0..1.
    """
    thresholds = np.append(np.unique(np.concatenate([genuine, impostor])), np.inf)
    accepts = 1 - np.searchsorted(np.sort(impostor), thresholds, side="left") / len(impostor)
    rejects = np.searchsorted(np.sort(genuine), thresholds, side="left") / len(genuine)
    return thresholds, accepts, rejects


def equal_error_threshold(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """The threshold where false accepts and false rejects differ least, midway to the score below it."""
    thresholds, accepts, rejects = roc_points(genuine, impostor)
    # inf is left out, because it would reject everybody.
    best = int(np.argmin(np.abs(accepts - rejects)[:-1]))
    return float((thresholds[max(best - 1, 0)] + thresholds[best]) / 2)


def false_accept_threshold(impostor: np.ndarray) -> float:
    """The score that at most 1 % of the impostor pairs exceed; nan with fewer than 100 pairs."""
    if len(impostor) < FEWEST_FOR_FAR:
        return math.nan
    allowed = math.floor(FALSE_ACCEPT_RATE * len(impostor))
    return float(np.sort(impostor)[::-1][allowed])


def conclusion(encoder: str, figures: Figures, num_given: int) -> str:
    """One sentence: whether it tells these people apart, and by which figures.

    num_given: photos, also left-out ones.
    """
    error_rate = figures.equal_error_rate
    verdict = next(words for most, words in VERDICTS if error_rate.value <= most)
    low, high = 100 * error_rate.low, 100 * error_rate.high
    # An interval of no width is no certainty: no resampling shows people who were not there.
    interval = f" (95 % interval {low:.1f} to {high:.1f} %)" if error_rate.has_interval and high > low else ""
    if math.isnan(figures.true_accept_rate_at_1_percent):
        at_1_percent = f"{figures.num_impostor} pairs of two people are too few for a rate at 1 % false accepts"
    else:
        share = 100 * figures.true_accept_rate_at_1_percent
        at_1_percent = f"{share:.0f} % of the pairs of one person score above all but 1 % of the pairs of two people"
    return (
        f"{encoder} {verdict}: equal error rate {100 * error_rate.value:.1f} %{interval}, where 50 % is chance; "
        f"{at_1_percent} ({figures.num_people} people; {figures.num_photos} of {num_given} photos)"
    )


def _by_person(pairs: Pairs, num_photos: dict[str, int]) -> list[PersonFigures]:
    count = len(pairs.people)
    sums, numbers = np.zeros((count, count)), np.zeros((count, count))
    for rows, columns, cosines in (
        (pairs.genuine_person, pairs.genuine_person, pairs.genuine),
        (*pairs.impostor_people, pairs.impostor),
        (*pairs.impostor_people[::-1], pairs.impostor),
    ):
        np.add.at(sums, (rows, columns), cosines)
        np.add.at(numbers, (rows, columns), 1)
    means = np.divide(sums, numbers, out=np.full((count, count), np.nan), where=numbers > 0)
    found = []
    for index, name in enumerate(pairs.people):
        others = np.where(np.arange(count) == index, -np.inf, means[index])
        nearest = int(np.argmax(others))
        genuine = float(means[index, index])
        found.append(PersonFigures(name, num_photos[name], genuine, pairs.people[nearest], float(others[nearest])))
    return found


def _intervals(pairs: Pairs, num_samples: int, seed: int) -> tuple[Estimate, Estimate]:
    """AUC and equal error rate with their intervals.

    A person drawn twice counts twice. A genuine pair weighs as often as its person was drawn, and an impostor pair by
    the product of both. People without a genuine pair are drawn as well, since their impostor pairs count.
    """
    bootstrap = PeopleBootstrap(pairs.people, num_samples, seed)
    scores = np.concatenate([pairs.genuine, pairs.impostor])
    order = np.argsort(scores, kind="stable")
    # The ends of runs of equal scores. A tie is one threshold.
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    first, second = pairs.impostor_people
    areas, rates = [], []
    for weights in progress(bootstrap.weights, "resampling people", unit="sample", leave=False):
        genuine, impostor = weights[pairs.genuine_person], weights[first] * weights[second]
        below = [
            np.cumsum(np.concatenate(parts)[order])[ends]
            for parts in ((genuine, np.zeros_like(impostor)), (np.zeros_like(genuine), impostor))
        ]
        # If one person is drawn every time, there is no impostor. People with one photo each have no genuine pair.
        if below[0][-1] > 0 and below[1][-1] > 0:
            area, rate = _weighted(below[0] / below[0][-1], below[1] / below[1][-1])
            areas.append(area)
            rates.append(rate)
    genuine, impostor = pairs.genuine, pairs.impostor
    return (
        estimate_interval(roc_auc(genuine, impostor), np.array(areas), len(genuine)),
        estimate_interval(equal_error_rate(genuine, impostor), np.array(rates), len(genuine)),
    )


def _weighted(rejects: np.ndarray, impostors_below: np.ndarray) -> tuple[float, float]:
    """AUC and equal error rate from the shares of genuine and impostor weight at or below each score, [K]."""
    rejects, accepts = np.append(0.0, rejects), 1 - np.append(0.0, impostors_below)
    area = float(np.sum((accepts[:-1] - accepts[1:]) * (2 - rejects[:-1] - rejects[1:])) / 2)
    after = int(np.argmax(rejects >= accepts))
    gap = accepts - rejects
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return area, float(rejects[after - 1] + share * (rejects[after] - rejects[after - 1]))
