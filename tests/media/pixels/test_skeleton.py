"""The skeleton is OpenPose's body without the face, in VACE's drawing and in the toy's."""

from __future__ import annotations

import numpy as np
import pytest

from faceid.media.pixels import skeleton
from faceid.media.pixels.skeleton import draw_skeleton
from faceid.media.video import read_video


def standing(size: float = 1.0) -> np.ndarray:
    """COCO-17 joints of someone who stands with arms out, [17, 2]."""
    xy = [(0.5, 0.2), (0.52, 0.18), (0.48, 0.18), (0.54, 0.2), (0.46, 0.2)]
    xy += [(0.6, 0.35), (0.4, 0.35), (0.72, 0.35), (0.28, 0.35), (0.85, 0.35), (0.15, 0.35)]
    xy += [(0.56, 0.6), (0.44, 0.6), (0.56, 0.75), (0.44, 0.75), (0.56, 0.92), (0.44, 0.92)]
    return np.array(xy) * size


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


def test_vace_s_drawing_has_red_and_blue_exchanged_and_shows_where_the_head_looks():
    joints = standing(512)
    frame = draw_skeleton(joints, (512, 512), "vace").astype(int)
    right_shoulder, neck_to_nose = frame[179, 230], frame[140, 256]
    assert right_shoulder[2] > 120 and right_shoulder[0] < 20
    assert neck_to_nose[0] > 120 and neck_to_nose[2] < 20
    turned = joints.copy()
    turned[1:5, 0] += 12
    assert not np.array_equal(frame, draw_skeleton(turned, (512, 512), "vace"))


def test_hands_are_drawn_where_they_are_known():
    body = draw_skeleton(standing(512), (512, 512), "vace")
    hands = np.full((42, 2), np.nan)
    assert np.array_equal(draw_skeleton(standing(512), (512, 512), "vace", hands), body)
    hands[:21] = 400 + np.stack([np.arange(21), np.arange(21) % 4 * 8], -1)
    changed = np.argwhere((draw_skeleton(standing(512), (512, 512), "vace", hands) != body).any(-1))
    assert changed.min(0).tolist() >= [390, 390] and changed.max(0).tolist() <= [440, 440] and len(changed) > 50


@pytest.mark.real_data
def test_the_drawing_is_that_of_a_real_pose_video_made_for_vace(real_data):
    real = read_video(real_data / "pose_only/standin_pose.mp4", start=10, max_frames=1).frames[0].astype(int)
    # Its joints, read off the picture.
    joints = np.full((17, 2), np.nan)
    joints[[0, 2, 4, 1, 3]] = (439, 178), (409, 147), (376, 165), (468, 144), (510, 157)
    joints[[6, 5, 8, 7]] = (314, 325), (579, 328), (283, 475), (611, 468)
    ours = draw_skeleton(joints, (480, 832), "vace").astype(int)
    # Middles of sticks: neck to shoulders, upper arms, neck to nose, nose to eyes to ears.
    for x, y in [
        (380, 326),
        (512, 327),
        (298, 400),
        (595, 398),
        (443, 250),
        (424, 163),
        (392, 156),
        (453, 161),
        (490, 150),
    ]:
        brightest = [picture[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3).max(0) for picture in (real, ours)]
        assert np.abs(brightest[0] - brightest[1]).max() < 60, (
            x,
            y,
        )  # H.264 costs some colour; exchanged channels differ by 150
    # As thick: as many pixels are lit.
    lit = [(picture.max(-1) > 60).sum() for picture in (real, ours)]
    assert lit[1] == pytest.approx(lit[0], rel=0.15)


@pytest.mark.parametrize("style", ["vace", "toy"])
def test_a_body_is_drawn_on_its_own_part_of_the_picture_with_the_pixels_of_the_whole(style, monkeypatch):
    rng, size_hw = np.random.default_rng(3), (120, 90)
    # In the middle, over the edges, and nowhere near the picture; some joints are not known.
    places = [rng.uniform(lo, hi, (59, 2)) * size_hw[::-1] for lo, hi in ((0.3, 0.7), (-0.3, 1.3), (1.5, 1.9))]
    places[0][::7] = np.nan
    drawn = [skeleton.draw_skeleton(points[:17], size_hw, style, points[17:]) for points in places]
    monkeypatch.setattr(skeleton, "_box", lambda *given: ((0, 0), size_hw[::-1]))
    whole = [skeleton.draw_skeleton(points[:17], size_hw, style, points[17:]) for points in places]
    assert all(np.array_equal(one, other) for one, other in zip(drawn, whole, strict=True))
    assert drawn[0].any() and drawn[1].any()
