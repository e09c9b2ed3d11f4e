"""Score measurements: each video against the person that it should show.

A render without an identity (the base) is scored once as each person whom other arms rendered with the same clip. It is
then scored as if it had been given that person. Where no arm rendered anybody, it is scored as everybody in the
gallery.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceid.errors import DataError
from faceid.evaluation.figures import similarity
from faceid.evaluation.figures.temporal import similarity_min, similarity_std
from faceid.evaluation.videos.measure import Measurement
from faceid.evaluation.videos.recognisers import Recogniser
from faceid.evaluation.videos.renders import Arm, Render

Key = tuple[str, str, int]


@dataclass(frozen=True)
class ScoredVideo:
    """One video as one person, by one recogniser."""

    arm: str
    render: Render
    identity: str
    """The person it is scored as: the given one, or for a render without one, each person that others were given."""
    scores: np.ndarray
    """Similarity times rate to each person of the gallery, [P]."""
    similarities: np.ndarray
    """The similarity over the frames with a face, [P]; nan when there is none."""
    own: int
    """Index of `identity` among the people."""
    rank: int
    nearest: int
    """Index of the most similar person; -1 when no frame has a face."""
    values: dict[str, float]
    """Values by name in video_metrics.py; nan where a value could not be measured."""

    @property
    def key(self) -> Key:
        """Identity, clip and seed. They are equal in the arms with which it can be compared."""
        return self.identity, self.render.clip, self.render.seed


def check_identities(arms: Sequence[Arm], people: Sequence[str]) -> None:
    """Raises: DataError when somebody who was rendered has no reference photos."""
    for arm in arms:
        for render in arm.renders:
            if render.identity and render.identity not in people:
                raise DataError(
                    f"{render.path}: shows {render.identity}, who is not in references_dir ({', '.join(people)}); "
                    "add a folder of that person's photos"
                )


def identities_by_clip(arms: Sequence[Arm], real: str | None) -> dict[str, list[str]]:
    """The people that renders of each clip were given. Real clips are left out: their people only dance their own."""
    found: dict[str, set[str]] = {}
    for arm in arms:
        if arm.name != real:
            for render in arm.renders:
                if render.identity:
                    found.setdefault(render.clip, set()).add(render.identity)
    return {clip: sorted(people) for clip, people in found.items()}


def score_arm(
    arm: Arm,
    recogniser: Recogniser,
    measurements: dict[Path, Measurement],
    people: Sequence[str],
    given_by_clip: dict[str, list[str]],
) -> list[ScoredVideo]:
    """Score all videos of an arm, in order of the arm's renders."""
    scored = []
    for render in arm.renders:
        identities = [render.identity] if render.identity else given_by_clip.get(render.clip, list(people))
        measured = measurements[render.path]
        scored += [score_video(arm.name, render, identity, recogniser, measured, people) for identity in identities]
    return scored


def score_video(
    arm: str, render: Render, identity: str, recogniser: Recogniser, measured: Measurement, people: Sequence[str]
) -> ScoredVideo:
    """Score one measured video as `identity`, one of `people`."""
    own = list(people).index(identity)
    cosines, is_found = measured.cosines[recogniser.name], measured.is_found
    scores = similarity.scores(cosines)
    similarities = similarity.similarities(cosines, is_found)
    standardised = similarity.standardised_scores(cosines, is_found, recogniser.impostor_mean, recogniser.impostor_std)
    rank = similarity.rank(scores, own)
    nearest = int(scores.argmax()) if is_found.any() else -1
    is_standardised = bool(np.isfinite(standardised).all())
    pose = measured.pose
    values = {
        "rank1": float(rank == 1),
        "similarity_times_rate": float(scores[own]),
        "similarity": float(similarities[own]),
        "detection_rate": float(is_found.mean()),
        "best_impostor": float(np.delete(scores, own).max()),
        "margin": similarity.margin(scores, own),
        "rank1_standardised": float(similarity.rank(standardised, own) == 1) if is_standardised else math.nan,
        "similarity_standardised": float(standardised[own]),
        "similarity_std": similarity_std(cosines[:, own]),
        "similarity_min": similarity_min(cosines[:, own]),
        "consecutive_similarity": measured.consecutive[recogniser.name],
        **measured.pictures,
        "detector_rate": measured.detector_rate,
        "pose_error": pose.error if pose else math.nan,
        "pck": pose.pck if pose else math.nan,
        "missing_rate": pose.missing_rate if pose else math.nan,
    }
    return ScoredVideo(arm, render, identity, scores, similarities, own, rank, nearest, values)
