"""Pose error by hand: in torsos, with a missing joint as a whole torso."""

from __future__ import annotations

import math

import numpy as np
import pytest

from faceid.evaluation.figures.pose_error import score_pose, torso_px

SIZE_HW = (40, 40)


def control(num_frames=2):
    """Shoulders at y 10, hips at y 30: a torso of 20 px."""
    joints = np.tile(np.array([20.0, 20.0]), (num_frames, 17, 1))
    joints[:, [5, 6], 1] = 10
    joints[:, [11, 12], 1] = 30
    return joints


def read(joints, confidence=1.0):
    return np.concatenate([joints, np.full((*joints.shape[:2], 1), confidence)], axis=2).astype(np.float32)


def test_the_torso_is_from_mid_shoulder_to_mid_hip():
    joints = control()
    joints[:, 5, 0], joints[:, 6, 0] = 10, 30
    assert torso_px(joints) == 20


def test_joints_read_where_the_control_is_have_no_error():
    score = score_pose(read(control()), control(), SIZE_HW)
    assert (score.error, score.pck, score.missing_rate) == (0, 1, 0)


def test_the_error_is_the_mean_distance_in_torsos():
    moved = control()
    moved[:, 0] += (3, 4)
    score = score_pose(read(moved), control(), SIZE_HW)
    assert score.error == pytest.approx(5 / 20 / 17) and score.pck == pytest.approx(16 / 17)


def test_a_joint_within_a_tenth_of_a_torso_is_correct():
    moved = control()
    moved[:, 0] += (2, 0)
    moved[:, 1] += (2.5, 0)
    assert score_pose(read(moved), control(), SIZE_HW).pck == pytest.approx(16 / 17)


def test_a_joint_that_cannot_be_read_is_an_error_of_one_torso():
    joints = read(control())
    joints[0, 9, 2] = 0.29
    joints[1, 9, :2] = np.nan
    score = score_pose(joints, control(), SIZE_HW)
    assert score.error == pytest.approx(2 / 34)
    assert score.missing_rate == pytest.approx(2 / 34) and score.pck == pytest.approx(32 / 34)


def test_a_joint_that_the_control_does_not_know_is_not_scored():
    known, moved = control(), control()
    known[0, 9] = np.nan
    moved[0, 9] += 100
    assert score_pose(read(moved), known, SIZE_HW).error == 0


@pytest.mark.parametrize("outside", [(-1, 20), (20, 40), (40.5, 20)])
def test_a_joint_outside_the_picture_is_not_scored_but_counts_for_the_torso(outside):
    known = control()
    known[:, 9] = outside
    hidden = read(known)
    hidden[:, 9, 2] = 0.0
    assert score_pose(hidden, known, SIZE_HW) == score_pose(read(control()), control(), SIZE_HW)
    known[:, [11, 12], 1] = 50
    assert score_pose(read(known), known, SIZE_HW).error == 0


def test_a_control_without_a_torso_scores_nothing():
    joints = control()
    joints[:, 5] = np.nan
    assert math.isnan(score_pose(read(control()), joints, SIZE_HW).error)
