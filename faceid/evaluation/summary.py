"""The few numbers that say whether it worked: summary.json, by the names that issues and benchmarks use.

A number whose arms were not given is null. The primary recogniser's are at the top, everybody's under by_recogniser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceid.evaluation.arms import genuine_and_impostor, rank1
from faceid.evaluation.comparisons import (
    Resampling,
    ScalePoint,
    Videos,
    driver_leak,
    driver_leak_within_person,
    equals_unadapted,
    paired_differences,
    pose_ratio,
    scale_curve,
    spearman,
)
from faceid.evaluation.renders import Arm
from faceid.evaluation.settings import EvaluationSettings
from faceid.evaluation.similarity import roc_auc

# Arms that are not our adapter at some strength.
_OFF_THE_CURVE = ("naive", "wrong", "real", "unadapted_base")


@dataclass(frozen=True)
class Facts:
    """What the summary is made from."""

    settings: EvaluationSettings
    arms: dict[str, Arm]
    people: Sequence[str]
    drivers: dict[str, str]
    """Dancer by clip."""

    @property
    def judged(self) -> str | None:
        """The arm that comparisons are about: ours, else that of held-out people."""
        return self.settings.ours or self.settings.heldout_people

    @property
    def resampling(self) -> Resampling:
        """How intervals are drawn."""
        return Resampling(self.settings.bootstrap_samples, self.settings.seed)


def compare_arms(facts: Facts, videos: dict[str, Videos]) -> dict[str, Any]:
    """All comparisons by one recogniser: differences, pose ratio, driver leak and curve; None where not given.

    videos: by arm, scored by that recogniser.
    """
    settings, judged, resampling = facts.settings, facts.judged, facts.resampling
    found: dict[str, Any] = {"differences": {}, "pose_error_ratio_to_base": None, "driver_leak": None, "curve": []}
    found["driver_leak_within_person"] = None
    if judged is None:
        return found
    drivers, people = facts.drivers, facts.people
    found["driver_leak_within_person"] = driver_leak_within_person(videos[judged], drivers, people, resampling)
    for other in (settings.base, settings.naive):
        if other is not None and other != judged:
            found["differences"][f"{judged} - {other}"] = paired_differences(videos[judged], videos[other], resampling)
    if settings.base is not None:
        base = videos[settings.base]
        found["pose_error_ratio_to_base"] = pose_ratio(videos[judged], base, resampling)
        found["driver_leak"] = driver_leak(videos[judged], base, drivers, people, resampling)
    found["curve"] = _curve(facts, videos, judged)
    return found


def summarise(
    facts: Facts, videos: dict[str, dict[str, Videos]], comparisons: dict[str, dict[str, Any]], wall_s: float
) -> dict[str, Any]:
    """The content of summary.json. videos, comparisons: by recogniser, then by arm or by name."""
    settings, arms = facts.settings, facts.arms
    by_recogniser = {
        name: _summarise_recogniser(facts, videos[name], comparisons[name]) for name in settings.recognisers
    }
    equal = None
    if settings.base is not None and settings.unadapted_base is not None:
        equal = equals_unadapted(arms[settings.base], arms[settings.unadapted_base])
    rendered = {render.identity for arm in arms.values() for render in arm.renders if render.identity}
    return {
        **by_recogniser[settings.recognisers[0]],
        "face_scale_zero_equals_base": equal,
        "chance_rank1": 1 / len(facts.people),
        "num_identities": len(facts.people),
        "num_rendered_identities": len(rendered),
        "primary_recogniser": settings.recognisers[0],
        "wall_s": round(wall_s, 1),
        "by_recogniser": by_recogniser,
    }


def _summarise_recogniser(facts: Facts, videos: dict[str, Videos], comparisons: dict[str, Any]) -> dict[str, Any]:
    settings, target = facts.settings, facts.settings.target
    wrong = [video for video in _of(videos, settings.wrong) if video.identity != target]
    targets = [video for video in _of(videos, facts.judged) if video.identity == target]
    return {
        "identity_rank1_heldout_poses": rank1(_of(videos, settings.training_people)),
        "identity_rank1_heldout_people": rank1(_of(videos, settings.heldout_people)),
        "identity_auc_heldout_people": _auc(_of(videos, settings.heldout_people)),
        "face_scale_spearman": spearman(comparisons["curve"]),
        "pose_error_ratio_to_base": _value(comparisons["pose_error_ratio_to_base"]),
        "driver_leak": _value(comparisons["driver_leak"]),
        "driver_leak_within_person": _value(comparisons["driver_leak_within_person"]),
        "wrong_identity_follows_embedding": rank1(wrong),
        "wrong_identity_nearest_is_target": _nearest_share(wrong, facts.people, target),
        "naive_recipe_rank1": rank1(_of(videos, settings.naive)),
        "target_rank1": rank1(targets),
        "base_rank1": rank1(_of(videos, settings.base)),
        "real_rank1": rank1(_of(videos, settings.real)),
        "similarity_between_base_and_real": _between(facts, videos),
    }


def _curve(facts: Facts, videos: dict[str, Videos], judged: str) -> list[ScalePoint]:
    settings = facts.settings
    off = {getattr(settings, role) for role in _OFF_THE_CURVE} - {judged, settings.base}
    scales = {name: arm.face_scales for name, arm in facts.arms.items() if name not in off}
    if settings.base is not None:
        scales = {settings.base: [0.0], **{name: s for name, s in scales.items() if name != settings.base}}
    return scale_curve(videos, scales, facts.resampling, judged)


def _between(facts: Facts, videos: dict[str, Videos]) -> float | None:
    """Where the judged arm's mean similarity lies between the base's (0) and real clips' (1)."""
    base, judged, real = (_of(videos, arm) for arm in (facts.settings.base, facts.judged, facts.settings.real))
    if not (base and judged and real):
        return None
    floor, value, ceiling = (
        float(np.mean([v.values["similarity_times_rate"] for v in group])) for group in (base, judged, real)
    )
    return (value - floor) / (ceiling - floor) if ceiling != floor else None


def _nearest_share(videos: Videos, people: Sequence[str], target: str | None) -> float | None:
    if not videos or target is None:
        return None
    return float(np.mean([video.nearest == list(people).index(target) for video in videos]))


def _auc(videos: Videos) -> float | None:
    if not videos:
        return None
    genuine, impostor = genuine_and_impostor(videos)
    return roc_auc(genuine, impostor.ravel())


def _of(videos: dict[str, Videos], arm: str | None) -> Videos:
    return videos[arm] if arm is not None else []


def _value(estimate: Any) -> float | None:
    return estimate.value if estimate is not None and np.isfinite(estimate.value) else None
