"""Steadiness by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from faceid.evaluation.figures import temporal


def flat(*levels, size=16):
    return np.stack([np.full((size, size, 3), level, np.uint8) for level in levels])


def test_a_frame_without_a_face_is_the_worst_frame_and_widens_the_spread():
    assert temporal.similarity_min(np.array([0.5, 0.0, 0.5])) == 0
    assert temporal.similarity_std(np.array([0.5, 0.0, 0.5])) == pytest.approx(math.sqrt(0.5 / 9))


def test_neighbouring_faces_are_compared_and_a_missing_one_is_zero():
    faces = np.array([[1.0, 0.0], [0.6, 0.8], [0.6, 0.8]])
    assert temporal.consecutive_similarity(faces, np.array([True, True, True])) == pytest.approx((0.6 + 1) / 2)
    assert temporal.consecutive_similarity(faces, np.array([True, True, False, True])) == pytest.approx(0.6 / 3)
    assert math.isnan(temporal.consecutive_similarity(faces[:1], np.array([True])))


def test_movement_is_the_mean_difference_of_neighbouring_frames_in_levels():
    assert temporal.dynamic_degree(flat(10, 40, 30)) == pytest.approx(20)
    assert math.isnan(temporal.dynamic_degree(flat(10)))


def test_flicker_sees_the_head_and_not_what_is_around_it():
    frames = flat(0, 200)
    frames[:, 4:12, 4:12] = [[[[50]]], [[[60]]]]
    assert temporal.face_flicker(frames, [(5, 5, 11, 11)] * 2) == pytest.approx(10)


def test_a_head_that_only_moves_does_not_flicker():
    head = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    frames = flat(0, 0)
    frames[0, 2:8, 2:8] = head
    frames[1, 5:11, 7:13] = head
    assert temporal.face_flicker(frames, [(2, 2, 8, 8), (7, 5, 13, 11)]) == pytest.approx(0, abs=0.5)


def test_flicker_needs_two_heads_in_a_row():
    assert math.isnan(temporal.face_flicker(flat(0, 9, 0), [(1, 1, 5, 5), None, (1, 1, 5, 5)]))
