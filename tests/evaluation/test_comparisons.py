"""What two arms together say, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from faceid.errors import DataError
from faceid.evaluation import comparisons
from faceid.evaluation.comparisons import Resampling
from faceid.evaluation.metrics import ALL_METRICS
from faceid.evaluation.renders import Arm, Render
from faceid.evaluation.scoring import ScoredVideo

RESAMPLING = Resampling(100, 0)
PEOPLE = ["a", "b", "driver"]


def video(identity, clip="x", seed=0, similarities=(0, 0, 0), **values):
    measured = {metric.name: math.nan for metric in ALL_METRICS} | values
    render = Render(Path("v.mp4"), clip, identity, 1.0, seed, "")
    return ScoredVideo("arm", render, identity, np.array(similarities), np.array(similarities), 0, 1, 0, measured)


def test_differences_are_between_videos_of_the_same_person_clip_and_seed():
    ours = [video("a", margin=0.5), video("b", margin=0.3), video("a", seed=1, margin=9.0)]
    naive = [video("b", margin=0.2), video("a", margin=0.1), video("a", clip="y", margin=-9.0)]
    found = comparisons.paired_differences(ours, naive, RESAMPLING)["margin"]
    assert found.value == pytest.approx((0.4 + 0.1) / 2) and found.count == 2


def test_arms_without_pairs_are_not_compared():
    assert comparisons.paired_differences([video("a")], [video("b")], RESAMPLING) == {}


def test_pose_is_compared_with_the_base_of_the_same_clip_and_seed():
    ours = [video("a", "x", pose_error=0.2), video("b", "y", pose_error=0.4), video("b", "z", pose_error=9.0)]
    base = [video("a", "x", pose_error=0.1), video("a", "y", pose_error=0.5)]
    found = comparisons.pose_ratio(ours, base, RESAMPLING)
    assert found is not None and found.value == pytest.approx(0.6 / 0.6) and found.count == 2


def test_without_pose_scores_there_is_no_ratio():
    assert comparisons.pose_ratio([video("a")], [video("a")], RESAMPLING) is None


def test_the_leak_is_what_the_base_does_not_show_of_the_driver():
    ours = [video("a", similarities=(0, 0, 0.5)), video("b", similarities=(0, 0, 0.1))]
    base = [video("a", similarities=(0, 0, 0.2))]
    found = comparisons.driver_leak(ours, base, {"x": "driver"}, PEOPLE, RESAMPLING)
    assert found is not None and found.value == pytest.approx((0.3 - 0.1) / 2)


def test_the_driver_may_look_like_the_driver():
    ours = [video("driver", similarities=(0, 0, 0.9)), video("a", clip="y", similarities=(0, 0, 0.9))]
    base = [video("a", similarities=(0, 0, 0.2)), video("a", clip="y", similarities=(0, 0, 0.2))]
    drivers = {"x": "driver", "y": "somebody without references"}
    assert comparisons.driver_leak(ours, base, drivers, PEOPLE, RESAMPLING) is None


def test_likeness_by_nature_is_no_leak_within_a_person():
    drivers = {"x": "driver", "y": "b"}
    alike = [video("a", "x", similarities=(0, 0.1, 0.7)), video("a", "y", similarities=(0, 0.1, 0.7))]
    found = comparisons.driver_leak_within_person(alike, drivers, PEOPLE, RESAMPLING)
    assert found is not None and (found.value, found.count) == (0, 2)
    leaky = [video("a", "x", similarities=(0, 0.1, 0.9)), video("a", "y", similarities=(0, 0.4, 0.7))]
    found = comparisons.driver_leak_within_person(leaky, drivers, PEOPLE, RESAMPLING)
    assert found is not None and found.value == pytest.approx((0.2 + 0.3) / 2)


def test_with_clips_of_one_dancer_the_leak_within_a_person_is_unknown():
    videos = [video("a", "x", similarities=(0, 0, 0.9)), video("b", "y", similarities=(0, 0, 0.2))]
    drivers = {"x": "driver", "y": "a"}
    assert comparisons.driver_leak_within_person(videos, drivers, PEOPLE, RESAMPLING) is None


def curve(values_by_arm, scales, judged="ours"):
    videos = {
        arm: [video(f"p{index}", similarity_times_rate=value) for index, value in enumerate(values)]
        for arm, values in values_by_arm.items()
    }
    return comparisons.scale_curve(videos, scales, RESAMPLING, judged)


def test_the_curve_holds_the_arms_with_all_of_the_judged_ones_renders(caplog):
    values = {"ours": [0.8, 0.6], "base": [0.1, 0.1, 5.0], "half": [0.4, 0.5], "few": [0.9]}
    points = curve(values, {"base": [0.0], "ours": [1.0], "half": [0.5], "few": [0.75]})
    assert [(point.arm, point.face_scale) for point in points] == [("base", 0.0), ("half", 0.5), ("ours", 1.0)]
    assert [point.similarity.value for point in points] == pytest.approx([0.1, 0.45, 0.7])
    assert "few: left out of the face_scale curve, lacks 1 renders" in caplog.text


def test_of_two_arms_at_one_strength_the_judged_one_is_on_the_curve(caplog):
    points = curve({"other": [0.1], "ours": [0.9], "base": [0.0]}, {"other": [1.0], "ours": [1.0], "base": [0.0]})
    assert [point.arm for point in points] == ["base", "ours"]
    assert "other: left out of the face_scale curve, ours has its face_scale" in caplog.text


def test_spearman_is_of_the_order_alone():
    values = {"base": [0.0], "a": [0.1], "b": [0.9], "ours": [0.5]}
    points = curve(values, {"base": [0.0], "a": [0.25], "b": [0.5], "ours": [1.0]})
    assert comparisons.spearman(points) == pytest.approx(0.8)
    assert comparisons.spearman(points[:2]) is None


def test_a_strength_without_effect_does_not_correlate():
    points = curve({"base": [0.3], "a": [0.3], "ours": [0.3]}, {"base": [0.0], "a": [0.5], "ours": [1.0]})
    assert comparisons.spearman(points) == 0


def base_arm(name, *renders, scale=0.0):
    return Arm(name, [Render(Path("v"), clip, "", scale, seed, sha) for clip, seed, sha in renders], 0)


def test_zero_equals_the_base_when_every_video_does():
    plain = base_arm("plain", ("x", 0, "1"), ("x", 1, "2"), ("y", 0, "3"))
    assert comparisons.equals_unadapted(base_arm("base", ("x", 0, "1"), ("x", 1, "2")), plain)
    assert not comparisons.equals_unadapted(base_arm("base", ("x", 0, "1"), ("x", 1, "9")), plain)


def test_a_video_without_a_partner_is_no_proof():
    with pytest.raises(DataError, match="no render of x with seed 1, which base has"):
        comparisons.equals_unadapted(base_arm("base", ("x", 1, "1")), base_arm("plain", ("x", 0, "1")))


def test_a_base_at_another_strength_is_refused():
    with pytest.raises(DataError, match=r"base=base: rendered at face_scale \[1.0\]"):
        comparisons.equals_unadapted(base_arm("base", ("x", 0, "1"), scale=1.0), base_arm("plain", ("x", 0, "1")))
