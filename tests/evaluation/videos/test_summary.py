"""The headlines: over whom each is, with which interval, as in a demo of one target among strangers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scored_videos import scored_video

from faceid.evaluation.figures.bootstrap import PeopleBootstrap
from faceid.evaluation.videos.arm_settings import ArmSettings
from faceid.evaluation.videos.comparisons import Resampling
from faceid.evaluation.videos.renders import Arm
from faceid.evaluation.videos.summary import ComparedArms, compare_arms, summarise

JUDGE = "toy_readout"
PEOPLE = ["target", "s1", "s2"]
DRIVERS = {"c1": "s1", "c2": "s2"}
NUM_SAMPLES = 200


def row(identity, clip, similarity=0.0, rank=1, pose=0.1, driver=0.0, arm="arm"):
    """A video; driver: its similarity to each of the strangers, who dance in the clips."""
    own = PEOPLE.index(identity)
    values = {"similarity_times_rate": similarity, "pose_error": pose}
    return scored_video(identity, clip, 0, (similarity, *np.broadcast_to(driver, 2)), arm, rank, own, **values)


def compared(arms, **roles):
    parts = ArmSettings(renders=[f"{name}=x" for name in arms], target="target", **roles)
    listed = {name: Arm(name, [video.render for video in videos], 0) for name, videos in arms.items()}
    given = ComparedArms(parts, listed, PEOPLE, DRIVERS, Resampling(NUM_SAMPLES, 0))
    return given, compare_arms(given, arms)


def summarised(arms, **roles):
    given, found = compared(arms, **roles)
    return summarise(given, {JUDGE: arms}, {JUDGE: found}, wall_s=1.0)


# Of the target two clips, of two strangers one; the base was given nobody and looks like s1.
OURS = [row("target", "c1", 0.7, arm="ours"), row("target", "c2", 0.5, arm="ours")]
STRANGERS = [row("s1", "c1", 0.6, arm="strangers"), row("s2", "c1", 0.4, rank=2, arm="strangers")]
BASE = [row("target", "c1", 0.2, rank=3), row("target", "c2", 0.2, rank=3), row("s1", "c1", 0.9), row("s2", "c1", 0.9)]
REAL = [row("s1", "c1", 0.95), row("s2", "c2", 0.85)]
ARMS = {"base": BASE, "ours": OURS, "strangers": STRANGERS, "real": REAL}
ROLES = {"base": "base", "ours": "ours", "heldout_people": "strangers", "real": "real"}


def test_the_base_is_scored_as_the_people_of_the_judged_arm():
    assert summarised(ARMS, **ROLES)["base_rank1"] == 0
    # With no arm to stand beside, as everybody.
    assert summarised({"base": BASE}, base="base")["base_rank1"] == 0.5


def test_strangers_in_real_clips_say_nothing_about_where_the_target_lies():
    assert summarised(ARMS, **ROLES)["similarity_between_base_and_real"] is None
    danced = {**ARMS, "real": [*REAL, row("target", "c9", 1.0)]}
    assert summarised(danced, **ROLES)["similarity_between_base_and_real"] == pytest.approx((0.6 - 0.2) / (1.0 - 0.2))


def test_pose_is_compared_with_the_base_for_the_judged_arm_and_people_not_trained_on():
    ours = [row("target", "c1", pose=0.3), row("target", "c2", pose=0.1)]
    strangers = [row("s1", "c1", pose=0.1), row("s2", "c1", pose=0.2), row("s2", "no base", pose=9.0)]
    found = summarised({**ARMS, "ours": ours, "strangers": strangers}, **ROLES)
    assert found["pose_error_ratio_to_base"] == pytest.approx(0.7 / 0.4)
    assert found["pose_error_ratio_ours"] == pytest.approx(0.4 / 0.2)
    errors, base = np.array([0.3, 0.1, 0.1, 0.2]), np.full(4, 0.1)
    expected = PeopleBootstrap(["target", "target", "s1", "s2"], NUM_SAMPLES, 0).ratio(errors, base)
    assert found["intervals"]["pose_error_ratio_to_base"] == pytest.approx([expected.low, expected.high])
    assert "pose_error_ratio_ours" not in found["intervals"]


def test_the_target_learnt_from_the_base_alone_stands_beside_what_it_is_compared_with():
    def of_target(similarity, rank, arm, pose=0.1):
        return [row("target", clip, similarity, rank, pose, arm=arm) for clip in ("c1", "c2")]

    arms = {
        **{"base": BASE, "ours": [*of_target(0.7, 1, "ours", 0.2), row("s1", "c1", 9.0, rank=3)]},
        **{"zero": [*of_target(0.4, 2, "zero"), row("s1", "c1", 9.0)], "naive": of_target(0.3, 3, "naive")},
        **{"lora": [of_target(0.5, 1, "lora")[0], of_target(0.5, 2, "lora")[1]]},
        "reference": [*of_target(0.2, 2, "r"), row("s1", "c1", 0.9)],
        "real": [*REAL, row("target", "c9", 0.9)],
    }
    roles = {"base": "base", "ours": "ours", "start": "zero", "naive": "naive", "plain_lora": "lora", "real": "real"}
    found = summarised(arms, **roles, from_base="ours", reference_only="reference")
    # The stranger whom two arms show is in none of the target's figures.
    assert found["target_rank1_from_base"] == 1 and found["target_similarity_from_base"] == pytest.approx(0.7)
    assert found["target_similarity_zero_shot"] == pytest.approx(0.4)
    assert found["target_similarity_real"] == pytest.approx(0.9)
    assert found["target_pose_error_ratio"] == pytest.approx(2)
    assert (found["naive_rank1_from_base"], found["plain_lora_rank1"], found["reference_only_rank1"]) == (0, 0.5, 0)
    # One judge has no second.
    assert found["target_rank1_from_base_second"] is None
    given, comparisons = compared(arms, **roles, from_base="ours")
    lost = [replace(video, rank=2) for video in arms["ours"]]
    two = summarise(
        given, {JUDGE: arms, "second": {**arms, "ours": lost}}, {JUDGE: comparisons, "second": comparisons}, wall_s=1.0
    )
    assert (two["target_rank1_from_base"], two["target_rank1_from_base_second"]) == (1, 0)
    assert summarised(arms, **roles)["naive_rank1_from_base"] is None


def test_people_not_trained_on_in_other_clips_than_the_base_leave_the_pose_ratio():
    found = summarised({**ARMS, "strangers": [row("s1", "c9", pose=9.0)]}, **ROLES)
    assert found["pose_error_ratio_to_base"] == found["pose_error_ratio_ours"] == pytest.approx(1)


def test_an_arm_that_is_judged_and_of_people_not_trained_on_counts_once():
    _, found = compared({"base": BASE, "both": OURS}, base="base", ours="both", heldout_people="both")
    assert found["pose_error_ratio_to_base"].count == 2 and found["driver_leak_within_person"].count == 2


def test_the_leak_within_a_person_is_of_the_judged_arm_and_people_not_trained_on():
    ours = [row("target", "c1", driver=(0.4, 0.1)), row("target", "c2", driver=(0.2, 0.2))]
    # s1 does not leak by dancing in c1.
    strangers = [row("s1", "c1", driver=(0.9, 0.1), arm="s"), row("s1", "c2", driver=(0.9, 0.5), arm="s")]
    found = summarised({**ARMS, "ours": ours, "strangers": strangers}, **ROLES)
    assert found["driver_leak_within_person"] == pytest.approx((0.2 + 0.1 + 0.4) / 3)
    assert found["intervals"]["driver_leak_within_person"] == pytest.approx([0.15, 0.4])
    # Against the base it stays that of the judged arm.
    assert found["driver_leak"] == pytest.approx((0.4 + 0.2) / 2) and "driver_leak" not in found["intervals"]


def test_headlines_have_intervals_by_person_and_those_of_one_person_none():
    found = summarised(ARMS, **ROLES)
    expected = PeopleBootstrap(["s1", "s2"], NUM_SAMPLES, 0).mean(np.array([1.0, 0.0]))
    assert found["intervals"]["identity_rank1_heldout_people"] == [expected.low, expected.high] == [0, 1]
    auc = found["intervals"]["identity_auc_heldout_people"]
    assert auc[0] <= found["identity_auc_heldout_people"] <= auc[1]
    assert found["intervals"]["real_rank1"] == [1, 1]
    assert found["target_rank1"] == 1 and not {"target_rank1", "base_rank1"} & found["intervals"].keys()
    assert found["by_recogniser"][JUDGE]["intervals"] == found["intervals"]


START = [row("target", "c1", 0.6, rank=2, arm="start"), row("target", "c2", 0.2, arm="start")]


def test_training_gains_what_the_adapter_it_began_with_lacks():
    arms = {**ARMS, "start": START}
    given, comparisons = compared(arms, **ROLES, start="start")
    assert comparisons["differences"]["ours - start"]["similarity_times_rate"].value == pytest.approx(0.2)
    found = summarise(given, {JUDGE: arms}, {JUDGE: comparisons}, wall_s=1.0)
    assert found["start_rank1"] == 0.5 and found["training_gain_similarity"] == pytest.approx(0.2)
    assert "training_gain_similarity" not in found["intervals"]


def test_the_gain_of_training_has_an_interval_by_person():
    ours, start = [[row("s1", "c1", high), row("s2", "c2", 0.5)] for high in (0.8, 0.4)]
    found = summarised({"ours": ours, "start": start}, ours="ours", start="start")
    assert found["training_gain_similarity"] == pytest.approx(0.2)
    assert found["intervals"]["training_gain_similarity"] == pytest.approx([0.0, 0.4])


def test_without_pairs_the_gain_of_training_is_unknown(caplog):
    found = summarised({"ours": OURS, "start": [row("s1", "c1")]}, ours="ours", start="start")
    assert found["training_gain_similarity"] is None and found["start_rank1"] == 1
    assert "ours, start: not compared, they share no person, clip and seed" in caplog.text


@pytest.mark.parametrize("role", ["start", "naive", "wrong", "wrong_start"])
def test_other_adapters_are_no_points_of_the_curve(role, caplog):
    _, found = compared({"ours": OURS, "other": START}, ours="ours", **{role: "other"})
    assert [point.arm for point in found["curve"]] == ["ours"] and "left out of the face_scale curve" not in caplog.text
