"""Make summary.json: the few numbers that say whether it worked.

Their names are those that issues and benchmarks use. A number whose arms were not given is null. `intervals` holds the
95 % interval of each number that was resampled by person. The primary recogniser's numbers are at the top, and
everybody's are under by_recogniser.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceid.evaluation.figures.bootstrap import Estimate
from faceid.evaluation.videos.arm_settings import ArmSettings
from faceid.evaluation.videos.arms import genuine_and_impostor
from faceid.evaluation.videos.comparisons import (
    Resampling,
    Videos,
    between_base_and_real,
    driver_leak,
    driver_leak_within_person,
    equals_unadapted,
    paired_differences,
    pose_ratio,
)
from faceid.evaluation.videos.curve import ScalePoint, scale_curve, spearman
from faceid.evaluation.videos.renders import Arm
from faceid.evaluation.videos.scoring import ScoredVideo

log = logging.getLogger(__name__)

# Arms that are not our adapter at some strength.
_OFF_THE_CURVE = ("start", "naive", "plain_lora", "reference_only", "wrong", "wrong_start", "real", "unadapted_base")


@dataclass(frozen=True)
class ComparedArms:
    """The inputs of the summary."""

    roles: ArmSettings
    arms: dict[str, Arm]
    people: Sequence[str]
    drivers: dict[str, str]
    """Dancer by clip."""
    resampling: Resampling
    """How intervals are drawn."""


def compare_arms(compared: ComparedArms, videos: dict[str, Videos]) -> dict[str, Any]:
    """All comparisons by one recogniser: differences, pose ratios, driver leaks and curve; None where not given.

    The pose ratio to the base and the leak within a person are taken over the judged arm and that of held-out people
    together. For one target alone they would cover a few videos and have no interval.
    videos: by arm, scored by that recogniser.
    """
    roles, judged, resampling = compared.roles, compared.roles.judged, compared.resampling
    found: dict[str, Any] = {"differences": {}, "pose_error_ratio_to_base": None, "pose_error_ratio_ours": None}
    found |= {"driver_leak": None, "driver_leak_within_person": None, "training_gain": None, "curve": []}
    if judged is None:
        return found
    drivers, people = compared.drivers, compared.people
    ours = videos[judged]
    together = [*ours, *(_of(videos, roles.heldout_people) if roles.heldout_people != judged else [])]
    for other in (roles.base, roles.start, roles.naive):
        if other is not None and other != judged:
            differences = paired_differences(ours, videos[other], resampling)
            if not differences:
                log.warning("%s, %s: not compared, they share no person, clip and seed", judged, other)
            found["differences"][f"{judged} - {other}"] = differences
            if other == roles.start:
                found["training_gain"] = differences.get("similarity_times_rate")
    if roles.base is not None:
        base = videos[roles.base]
        found["pose_error_ratio_to_base"] = pose_ratio(together, base, resampling)
        found["pose_error_ratio_ours"] = pose_ratio(ours, base, resampling)
        found["driver_leak"] = driver_leak(ours, base, drivers, people, resampling)
    found["driver_leak_within_person"] = driver_leak_within_person(together, drivers, people, resampling)
    found["curve"] = _curve(compared, videos, judged)
    return found


def summarise(
    compared: ComparedArms, videos: dict[str, dict[str, Videos]], comparisons: dict[str, dict[str, Any]], wall_s: float
) -> dict[str, Any]:
    """The content of summary.json.

    videos, comparisons: by recogniser, the primary one first, then by arm or by name.
    """
    roles, arms = compared.roles, compared.arms
    primary, *others = videos
    by_recogniser = {
        name: _values_and_intervals(_headlines(compared, videos[name], comparisons[name])) for name in videos
    }
    equal = None
    if roles.base is not None and roles.unadapted_base is not None:
        equal = equals_unadapted(arms[roles.base], arms[roles.unadapted_base])
    rendered = {render.identity for arm in arms.values() for render in arm.renders if render.identity}
    return {
        **by_recogniser[primary],
        "target_rank1_from_base_second": by_recogniser[others[0]]["target_rank1_from_base"] if others else None,
        "face_scale_zero_equals_base": equal,
        "chance_rank1": 1 / len(compared.people),
        "num_identities": len(compared.people),
        "num_rendered_identities": len(rendered),
        "primary_recogniser": primary,
        "wall_s": round(wall_s, 1),
        "by_recogniser": by_recogniser,
    }


def _headlines(
    compared: ComparedArms, videos: dict[str, Videos], comparisons: dict[str, Any]
) -> dict[str, Estimate | None]:
    roles, target, resampling = compared.roles, compared.roles.target, compared.resampling
    judged, heldout = _of(videos, roles.judged), _of(videos, roles.heldout_people)
    base, real = _of(videos, roles.base), _of(videos, roles.real)
    wrong, wrong_start = (
        [video for video in _of(videos, arm) if video.identity != target] for arm in (roles.wrong, roles.wrong_start)
    )
    # Renders at face_scale 0 are scored as everybody whom any arm shows in that clip.
    from_base, start, known, reference_only = (
        [video for video in _of(videos, arm) if video.identity == target]
        for arm in (roles.from_base, roles.start, roles.real, roles.reference_only)
    )
    nearest = list(compared.people).index(target) if target is not None else None

    def share(videos: Videos, holds: Callable[[ScoredVideo], bool]) -> Estimate | None:
        return resampling.of(videos).mean(np.array([float(holds(video)) for video in videos])) if videos else None

    def like_target(videos: Videos) -> Estimate | None:
        return share(videos, lambda video: video.nearest == nearest) if target is not None else None

    def rank1(videos: Videos) -> Estimate | None:
        return share(videos, lambda video: video.rank == 1)

    def similarity(videos: Videos) -> Estimate | None:
        values = np.array([video.values["similarity_times_rate"] for video in videos])
        return resampling.of(videos).mean(values) if videos else None

    return {
        "identity_rank1_heldout_poses": rank1(_of(videos, roles.training_people)),
        "identity_rank1_heldout_people": rank1(heldout),
        "identity_auc_heldout_people": resampling.of(heldout).auc(*genuine_and_impostor(heldout)) if heldout else None,
        "face_scale_spearman": spearman(comparisons["curve"]),
        **{key: comparisons[key] for key in ("pose_error_ratio_to_base", "pose_error_ratio_ours")},
        **{key: comparisons[key] for key in ("driver_leak", "driver_leak_within_person")},
        "wrong_identity_follows_embedding": rank1(wrong),
        "wrong_identity_nearest_is_target": like_target(wrong),
        "wrong_identity_nearest_is_target_before": like_target(wrong_start),
        "naive_recipe_rank1": rank1(_of(videos, roles.naive)),
        "target_rank1": rank1([video for video in judged if video.identity == target]),
        "start_rank1": rank1(_of(videos, roles.start)),
        "training_gain_similarity": comparisons["training_gain"],
        "target_rank1_from_base": rank1(from_base),
        "target_similarity_from_base": similarity(from_base),
        "target_similarity_zero_shot": similarity(start),
        "target_similarity_real": similarity(known),
        "target_pose_error_ratio": pose_ratio(from_base, base, resampling) if base else None,
        "naive_rank1_from_base": rank1(_of(videos, roles.naive)) if from_base else None,
        "plain_lora_rank1": rank1(_of(videos, roles.plain_lora)),
        "reference_only_rank1": rank1(reference_only),
        "base_rank1": rank1(_as_people_of(judged, base)),
        "real_rank1": rank1(real),
        "similarity_between_base_and_real": between_base_and_real(judged, base, real, resampling),
    }


def _as_people_of(judged: Videos, base: Videos) -> Videos:
    """The base's videos, scored as the people whom the judged arm shows; all of them where no arm is judged.

    The base's renders show nobody in particular. So they are scored as everybody whom any arm was given for the clip.
    That includes strangers of other arms, who are in no number but the base's.
    """
    people = {video.identity for video in judged}
    return [video for video in base if video.identity in people] if people else base


def _values_and_intervals(found: dict[str, Estimate | None]) -> dict[str, Any]:
    """Headlines as plain numbers, None where there is none, and `intervals` of those that have one: [low, high]."""
    values = {key: None if of is None or math.isnan(of.value) else of.value for key, of in found.items()}
    intervals = {key: [of.low, of.high] for key, of in found.items() if of is not None and of.has_interval}
    return {**values, "intervals": intervals}


def _curve(compared: ComparedArms, videos: dict[str, Videos], judged: str) -> list[ScalePoint]:
    roles = compared.roles
    off = {getattr(roles, role) for role in _OFF_THE_CURVE} - {judged, roles.base}
    scales = {name: arm.face_scales for name, arm in compared.arms.items() if name not in off}
    if roles.base is not None:
        scales = {roles.base: [0.0], **{name: s for name, s in scales.items() if name != roles.base}}
    return scale_curve(videos, scales, compared.resampling, judged)


def _of(videos: dict[str, Videos], arm: str | None) -> Videos:
    return videos[arm] if arm is not None else []
