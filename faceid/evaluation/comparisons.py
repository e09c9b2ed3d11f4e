"""What only two arms together can say: paired differences, pose against the base, driver leak, the face_scale curve.

Pairs share identity, clip and seed (or clip and seed, where the base has no identity), so that noise they have in
common cancels. What has no partner is not compared, and how many pairs there were is in every count.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from faceid.errors import DataError
from faceid.evaluation.bootstrap import Estimate, PeopleBootstrap
from faceid.evaluation.metrics import ALL_METRICS
from faceid.evaluation.renders import Arm
from faceid.evaluation.scoring import ScoredVideo

log = logging.getLogger(__name__)

Videos = Sequence[ScoredVideo]
# Two points are always in order.
FEWEST_FOR_SPEARMAN = 3


@dataclass(frozen=True)
class Resampling:
    """How intervals are drawn."""

    num_samples: int
    seed: int

    def of(self, videos: Videos) -> PeopleBootstrap:
        """The bootstrap over the people of these videos."""
        return PeopleBootstrap([video.identity for video in videos], self.num_samples, self.seed)


@dataclass(frozen=True)
class ScalePoint:
    """Mean similarity (times rate) at one strength of the face."""

    arm: str
    face_scale: float
    similarity: Estimate


def paired_differences(videos: Videos, others: Videos, resampling: Resampling) -> dict[str, Estimate]:
    """First minus second by metric, over the videos of equal identity, clip and seed; empty without pairs."""
    partners = {other.key: other for other in others}
    paired = [video for video in videos if video.key in partners]
    if not paired:
        return {}
    bootstrap = resampling.of(paired)
    differences = {
        metric.name: np.array([v.values[metric.name] - partners[v.key].values[metric.name] for v in paired])
        for metric in ALL_METRICS
    }
    return {name: bootstrap.mean(values) for name, values in differences.items()}


def pose_ratio(videos: Videos, base: Videos, resampling: Resampling) -> Estimate | None:
    """Mean pose error over the base's of the same clips and seeds; None without pairs or pose scores."""
    partners = _by_clip_and_seed(base)
    paired = [video for video in videos if (video.render.clip, video.render.seed) in partners]
    errors = np.array([video.values["pose_error"] for video in paired])
    base_errors = np.array([partners[v.render.clip, v.render.seed].values["pose_error"] for v in paired])
    if not (np.isfinite(errors) & np.isfinite(base_errors)).any():
        return None
    return resampling.of(paired).ratio(errors, base_errors)


def driver_leak(
    videos: Videos, base: Videos, drivers: dict[str, str], people: Sequence[str], resampling: Resampling
) -> Estimate | None:
    """Similarity to the clip's dancer minus the base's for the same clip and seed, over frames with a face.

    Only videos that should show somebody else than the dancer, where the dancer is in the gallery; None without any.
    """
    partners = _by_clip_and_seed(base)
    leaks, counted = [], []
    for video in videos:
        driver = drivers.get(video.render.clip)
        partner = partners.get((video.render.clip, video.render.seed))
        if driver is not None and driver in people and driver != video.identity and partner is not None:
            index = list(people).index(driver)
            leaks.append(video.similarities[index] - partner.similarities[index])
            counted.append(video)
    return resampling.of(counted).mean(np.array(leaks)) if counted else None


def driver_leak_within_person(
    videos: Videos, drivers: dict[str, str], people: Sequence[str], resampling: Resampling
) -> Estimate | None:
    """Similarity to the clip's dancer minus that of the same person in clips of other dancers, frames with a face.

    Unlike `driver_leak` it does not take for a leak that a person resembles the dancer more than the base does. None
    where nobody was rendered with clips of two dancers.
    """
    leaks, counted = [], []
    for video in videos:
        driver = drivers.get(video.render.clip)
        if driver is None or driver not in people or driver == video.identity:
            continue
        index = list(people).index(driver)
        elsewhere = [
            other.similarities[index]
            for other in videos
            if other.identity == video.identity and drivers.get(other.render.clip, driver) != driver
        ]
        if elsewhere:
            leaks.append(video.similarities[index] - np.mean(elsewhere))
            counted.append(video)
    return resampling.of(counted).mean(np.array(leaks)) if counted else None


def scale_curve(
    videos_by_arm: dict[str, Videos], face_scales: dict[str, list[float]], resampling: Resampling, judged: str
) -> list[ScalePoint]:
    """Own similarity at every face_scale, over arms that hold all of the judged arm's identities, clips and seeds.

    face_scales: by arm, those of its renders (the base's as [0]); the judged arm goes first where two are equal.
    Returns: points by rising face_scale; empty when the judged arm has several strengths.
    """
    wanted = {video.key for video in videos_by_arm[judged]}
    points: dict[float, ScalePoint] = {}
    for arm in [judged, *(name for name in face_scales if name != judged)]:
        held = [video for video in videos_by_arm[arm] if video.key in wanted]
        if not held or len(face_scales[arm]) != 1:
            continue
        scale = face_scales[arm][0]
        if len(held) < len(wanted):
            log.warning("%s: left out of the face_scale curve, lacks %d renders", arm, len(wanted) - len(held))
        elif scale in points:
            log.warning("%s: left out of the face_scale curve, %s has its face_scale", arm, points[scale].arm)
        else:
            values = np.array([video.values["similarity_times_rate"] for video in held])
            points[scale] = ScalePoint(arm, scale, resampling.of(held).mean(values))
    is_judged_in = any(point.arm == judged for point in points.values())
    return [points[scale] for scale in sorted(points)] if is_judged_in else []


def spearman(points: Sequence[ScalePoint]) -> float | None:
    """Rank correlation of face_scale and mean similarity; None with fewer than three strengths."""
    if len(points) < FEWEST_FOR_SPEARMAN:
        return None
    values = [point.similarity.value for point in points]
    if min(values) == max(values):
        # A strength that does nothing has no order to speak of.
        return 0.0
    return float(spearmanr([point.face_scale for point in points], values).statistic)


def equals_unadapted(base: Arm, unadapted: Arm) -> bool:
    """Whether every video of the base arm is, byte for byte, the one rendered without an adapter.

    Raises: DataError when a video has no partner of the same clip and seed, or the base arm is not at face_scale 0.
    """
    if base.face_scales != [0.0]:
        raise DataError(f"base={base.name}: rendered at face_scale {base.face_scales}; give the arm at face_scale 0")
    partners = {(render.clip, render.seed): render.sha256 for render in unadapted.renders}
    for render in base.renders:
        if (render.clip, render.seed) not in partners:
            raise DataError(
                f"unadapted_base={unadapted.name}: no render of {render.clip} with seed {render.seed}, which "
                f"{base.name} has; render it without --face_lora_path"
            )
    return all(partners[render.clip, render.seed] == render.sha256 for render in base.renders)


def _by_clip_and_seed(base: Videos) -> dict[tuple[str, int], ScoredVideo]:
    return {(video.render.clip, video.render.seed): video for video in base}
