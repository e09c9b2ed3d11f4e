"""Compare two arms.

The figures are paired differences, pose against the base, driver leak, and the place between base and real clips. Pairs
share identity, clip and seed (or clip and seed, where the base has no identity). So the noise that they have in common
cancels. A video without a partner is not compared. Every count says how many pairs there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faceid.errors import DataError
from faceid.evaluation.figures.bootstrap import Estimate, PeopleBootstrap
from faceid.evaluation.figures.video_metrics import ALL_METRICS
from faceid.evaluation.videos.renders import Arm
from faceid.evaluation.videos.scoring import ScoredVideo

Videos = Sequence[ScoredVideo]


@dataclass(frozen=True)
class Resampling:
    """How intervals are drawn."""

    num_samples: int
    seed: int

    def of(self, videos: Videos) -> PeopleBootstrap:
        """The bootstrap over the people in these videos."""
        return PeopleBootstrap([video.identity for video in videos], self.num_samples, self.seed)


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
    """Mean pose error divided by the base's for the same clips and seeds; None without pairs or pose scores."""
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

    Only videos of somebody other than the dancer count, where the dancer is in the gallery; None without any.
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

    A person may resemble the dancer more than the base does. Unlike `driver_leak`, this figure does not take that for a
    leak. videos may be of several arms; each is compared within its own. None where nobody was rendered with clips of
    two dancers.
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
            if (other.arm, other.identity) == (video.arm, video.identity)
            and drivers.get(other.render.clip, driver) != driver
        ]
        if elsewhere:
            leaks.append(video.similarities[index] - np.mean(elsewhere))
            counted.append(video)
    return resampling.of(counted).mean(np.array(leaks)) if counted else None


def between_base_and_real(videos: Videos, base: Videos, real: Videos, resampling: Resampling) -> Estimate | None:
    """Where the similarity (times rate) of videos lies between the base's (0) and real clips' (1).

    Only people whom all three show count, each once by the mean of their videos. The reason is that a cosine differs
    more from person to person than from arm to arm. The base is scored as those people, in renders of the same clip and
    seed. None without such people, or where the base is as similar as real clips.
    """
    keys, base_keys = {video.key for video in videos}, {video.key for video in base}
    values = _similarity_by_person([video for video in videos if video.key in base_keys])
    floors = _similarity_by_person([video for video in base if video.key in keys])
    ceilings = _similarity_by_person(real)
    people = sorted(values.keys() & ceilings.keys())
    if not people:
        return None
    value, floor, ceiling = (np.array([of[name] for name in people]) for of in (values, floors, ceilings))
    # A ratio of sums over people is the ratio of their means.
    found = PeopleBootstrap(people, resampling.num_samples, resampling.seed).ratio(value - floor, ceiling - floor)
    return found if found.count else None


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


def _similarity_by_person(videos: Videos) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for video in videos:
        found.setdefault(video.identity, []).append(video.values["similarity_times_rate"])
    return {name: float(np.mean(values)) for name, values in found.items()}
