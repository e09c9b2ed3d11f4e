"""Compute identity scores as pure functions of cosines.

Nothing is clamped, and no frame is skipped. Shapes: T frames, P people of the gallery, D embedding size, N videos. A
frame without a face has the cosine 0 to everybody and is counted. A tie with an impostor is a miss.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import rankdata

# Fewer impostor pairs cannot show a false accept rate of 1 %.
FEWEST_FOR_FAR, FALSE_ACCEPT_RATE = 100, 0.01


def mean_reference(embeddings: np.ndarray) -> np.ndarray:
    """Mean of unit embeddings [N, D] -> [D], not normalised. A cosine to it is the mean cosine to the photos."""
    return embeddings.astype(np.float64).mean(axis=0)


def frame_cosines(embeddings: np.ndarray, is_found: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Cosine of every frame to every person, float64 [T, P]; 0 where there is no face.

    embeddings: unit length, of the found frames only, [F, D]. is_found: bool [T] with F true. references: [P, D].
    """
    cosines = np.zeros((len(is_found), len(references)))
    cosines[is_found] = embeddings.astype(np.float64) @ references.T
    return cosines


def scores(cosines: np.ndarray) -> np.ndarray:
    """Similarity times detection rate of a video to each person, [T, P] -> [P]. It is the mean over all frames."""
    return cosines.mean(axis=0)


def similarities(cosines: np.ndarray, is_found: np.ndarray) -> np.ndarray:
    """Similarity to each person over the frames with a face, [T, P] -> [P]; nan when there is none."""
    return cosines[is_found].mean(axis=0) if is_found.any() else np.full(cosines.shape[1], np.nan)


def standardised_scores(
    cosines: np.ndarray, is_found: np.ndarray, impostor_mean: np.ndarray, impostor_std: np.ndarray
) -> np.ndarray:
    """Scores in standard deviations of other people's photos to the same person, [T, P] -> [P].

    A face that resembles everybody gains nothing in this score. Frames without a face count as 0.
    """
    standardised = np.where(is_found[:, None], (cosines - impostor_mean) / impostor_std, 0.0)
    return standardised.mean(axis=0)


def margin(values: np.ndarray, own: int) -> float:
    """Own score minus the best impostor's. values: [P]."""
    return float(values[own] - np.delete(values, own).max())


def rank(values: np.ndarray, own: int) -> int:
    """Place of the own score among all people, 1 the best. An impostor that ties goes first. values: [P]."""
    return 1 + int((np.delete(values, own) >= values[own]).sum())


def roc_auc(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """How often a genuine score is above an impostor's, with ties counted half (Mann-Whitney); nan without pairs."""
    if not len(genuine) or not len(impostor):
        return math.nan
    ranks = rankdata(np.concatenate([genuine, impostor]))
    wins = ranks[: len(genuine)].sum() - len(genuine) * (len(genuine) + 1) / 2
    return float(wins / (len(genuine) * len(impostor)))


def equal_error_rate(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """The rate where false rejects equal false accepts, on a straight line between thresholds; nan without pairs."""
    if not len(genuine) or not len(impostor):
        return math.nan
    # At a threshold t a score of t is accepted. Past the last threshold everything is rejected.
    thresholds = np.append(np.unique(np.concatenate([genuine, impostor])), np.inf)
    false_rejects = np.searchsorted(np.sort(genuine), thresholds, side="left") / len(genuine)
    false_accepts = 1 - np.searchsorted(np.sort(impostor), thresholds, side="left") / len(impostor)
    after = int(np.argmax(false_rejects >= false_accepts))
    # The lowest threshold rejects nobody and accepts everybody, so the crossing is never there.
    gap = false_accepts - false_rejects
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(false_rejects[after - 1] + share * (false_rejects[after] - false_rejects[after - 1]))


def d_prime(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """Distance of the two means in root mean square standard deviations; nan when nothing varies."""
    if not len(genuine) or not len(impostor):
        return math.nan
    spread = math.sqrt((genuine.var() + impostor.var()) / 2)
    return float((genuine.mean() - impostor.mean()) / spread) if spread > 0 else math.nan


def true_accept_rate(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """Share of genuine scores above the threshold that lets 1 % of impostors in; nan with too few impostors."""
    if not len(genuine) or len(impostor) < FEWEST_FOR_FAR:
        return math.nan
    allowed = math.floor(FALSE_ACCEPT_RATE * len(impostor))
    threshold = np.sort(impostor)[::-1][allowed]
    return float((genuine > threshold).mean())
