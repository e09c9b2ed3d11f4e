"""Shapes have smooth edges, and the skeleton is OpenPose's without the face."""

from __future__ import annotations

import numpy as np
import pytest

from faceid.media.draw import Canvas, blur, draw_skeleton

BLACK = np.zeros((32, 32, 3), np.uint8)


def standing(size: float = 1.0) -> np.ndarray:
    """COCO-17 joints of someone who stands with arms out, [17, 2]."""
    xy = [(0.5, 0.2), (0.52, 0.18), (0.48, 0.18), (0.54, 0.2), (0.46, 0.2)]
    xy += [(0.6, 0.35), (0.4, 0.35), (0.72, 0.35), (0.28, 0.35), (0.85, 0.35), (0.15, 0.35)]
    xy += [(0.56, 0.6), (0.44, 0.6), (0.56, 0.75), (0.44, 0.75), (0.56, 0.92), (0.44, 0.92)]
    return np.array(xy) * size


@pytest.mark.parametrize("radius", [1.0, 3.3, 9.6])
def test_an_ellipse_covers_its_area(radius):
    canvas = Canvas(BLACK)
    canvas.ellipse((16.3, 15.2), (radius, radius * 0.7), (255, 255, 255))
    # cv2 fills the outline too, which makes every shape an eighth of a pixel larger all round.
    covered = canvas.picture()[..., 0].sum() / 255
    assert covered == pytest.approx(np.pi * radius * radius * 0.7, rel=0.12, abs=0.8)


def test_a_shape_moves_by_a_fraction_of_a_pixel():
    def centre(x: float) -> float:
        canvas = Canvas(BLACK)
        canvas.ellipse((x, 16), (4, 4), (255, 255, 255))
        weight = canvas.picture()[..., 0].astype(float)
        return float((weight * (np.arange(32) + 0.5)).sum() / weight.sum())

    for x in (15.0, 15.25, 15.5, 15.9):
        assert centre(x) == pytest.approx(x, abs=0.12)


def test_an_opaque_shape_hides_and_a_half_transparent_one_mixes():
    canvas = Canvas(BLACK)
    canvas.polygon([(0, 0), (32, 0), (32, 32), (0, 32)], (200, 100, 0))
    canvas.polygon([(0, 0), (32, 0), (32, 32), (0, 32)], (0, 100, 200), opacity=0.5)
    assert canvas.picture()[16, 16].tolist() == pytest.approx([100, 100, 100], abs=1)


def test_a_shape_far_outside_is_harmless():
    canvas = Canvas(BLACK)
    canvas.capsule((-1e7, 16), (1e7, 16), 2, (255, 255, 255))
    assert canvas.picture()[16, 16, 0] == 255


def test_blur_keeps_brightness_and_removes_edges():
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:, 16:] = 200
    soft = blur(picture, 3).astype(int)
    assert abs(soft.mean() - picture.mean()) < 2
    assert np.abs(np.diff(soft, axis=1)).max() < 40


@pytest.mark.parametrize("size", [64, 256])
def test_left_and_right_limbs_have_their_openpose_colours(size):
    frame = draw_skeleton(standing(size), (size, size))
    assert frame.shape == (size, size, 3) and frame.dtype == np.uint8
    place = lambda x, y: frame[round(y * size - 0.5), round(x * size - 0.5)].astype(int)  # noqa: E731
    right_forearm, left_forearm = place(0.215, 0.35), place(0.785, 0.35)
    assert right_forearm[0] > 60 and right_forearm[1] > 60 and right_forearm[2] < 30
    assert left_forearm[1] > 2 * left_forearm[0] and left_forearm[2] < 30


def test_eyes_and_ears_are_not_drawn():
    joints = standing(128)
    moved = joints.copy()
    moved[1:5] += 20
    assert np.array_equal(draw_skeleton(joints, (128, 128)), draw_skeleton(moved, (128, 128)))


def test_an_unknown_joint_takes_its_limbs_away_and_no_others():
    joints = standing(128)
    joints[9] = np.nan
    without = draw_skeleton(joints, (128, 128))
    assert without[:, 97:].sum() == 0
    assert np.array_equal(without[:, :85], draw_skeleton(standing(128), (128, 128))[:, :85])


def test_no_known_joint_is_a_black_frame():
    assert draw_skeleton(np.full((17, 2), np.nan), (32, 48)).tobytes() == bytes(32 * 48 * 3)
