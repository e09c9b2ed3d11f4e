"""What two arms together say, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from scored_videos import scored_video as video

from faceid.errors import DataError
from faceid.evaluation.videos import comparisons
from faceid.evaluation.videos.comparisons import Resampling
from faceid.evaluation.videos.renders import Arm, Render

RESAMPLING = Resampling(100, 0)
PEOPLE = ["a", "b", "driver"]


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


def test_the_leak_within_a_person_is_between_videos_of_one_arm():
    drivers = {"x": "driver", "y": "b"}
    one = [video("a", "x", arm="one", similarities=(0, 0, 0.9)), video("a", "y", arm="one", similarities=(0, 0, 0.7))]
    # Another adapter's render of the same person has no partner there, and none here.
    other = [video("a", "x", arm="other", similarities=(0, 0, 0.1))]
    found = comparisons.driver_leak_within_person([*one, *other], drivers, ["a", "c", "driver"], RESAMPLING)
    assert found is not None and found.value == pytest.approx(0.2) and found.count == 1


def similar(identity, value, clip="x", seed=0):
    return video(identity, clip, seed, similarity_times_rate=value)


def test_between_base_and_real_is_over_the_people_whom_all_three_show():
    ours = [similar("a", 0.5), similar("b", 9.0)]
    base, real = (
        [similar("a", 0.1), similar("b", 9.0), similar("c", 9.0)],
        [similar("a", 0.9, "own"), similar("c", 0.2)],
    )
    found = comparisons.between_base_and_real(ours, base, real, RESAMPLING)
    assert found is not None and found.value == pytest.approx(0.5) and not found.has_interval


def test_between_base_and_real_every_person_counts_once_and_the_base_by_the_same_clip_and_seed():
    ours = [similar("a", 0.4), similar("a", 0.6, seed=1), similar("b", 0.3), similar("b", 9.0, "not rendered by base")]
    base = [similar("a", 0.1), similar("a", 0.1, seed=1), similar("b", 0.1), similar("b", 9.0, "of another arm")]
    real = [similar("a", 0.8, "p"), similar("a", 1.0, "q"), similar("b", 0.7, "r")]
    found = comparisons.between_base_and_real(ours, base, real, RESAMPLING)
    assert found is not None and found.value == pytest.approx((0.4 + 0.2) / (0.8 + 0.6))
    # Each of the two alone is the outermost resampling.
    assert (found.low, found.high) == pytest.approx((0.2 / 0.6, 0.4 / 0.8))


def test_between_base_and_real_of_nobody_is_unknown():
    ours, base = [similar("a", 0.5)], [similar("a", 0.1)]
    assert comparisons.between_base_and_real(ours, base, [similar("b", 0.9)], RESAMPLING) is None
    assert comparisons.between_base_and_real(ours, base, [], RESAMPLING) is None
    # The base as similar as real clips leaves no scale.
    assert comparisons.between_base_and_real(ours, base, [similar("a", 0.1)], RESAMPLING) is None


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
