"""The head from the body's joints, on drawn people whose heads are known, and on what real joints do."""

from __future__ import annotations

import numpy as np
import pytest

from faceid.data.body.head_boxes import face_boxes, frontalness, head_around, head_boxes

SIZE_HW = (1080, 1920)


def standing(height_px: float = 600.0, x: float = 900.0, y: float = 200.0) -> np.ndarray:
    """An adult by the proportions of Drillis and Contini, from the crown down, seen from the front. [17, 2]."""
    heights = {0: 0.925, 1: 0.936, 2: 0.936, 3: 0.936, 4: 0.936, 5: 0.818, 6: 0.818, 11: 0.53, 12: 0.53}
    apart = {1: 0.018, 2: -0.018, 3: 0.045, 4: -0.045, 5: 0.1, 6: -0.1, 11: 0.05, 12: -0.05}
    joints = np.full((17, 2), np.nan)
    for joint, share in heights.items():
        joints[joint] = (x + apart.get(joint, 0) * height_px, y + (1 - share) * height_px)
    return joints


def test_the_box_holds_chin_and_crown_and_little_more():
    (box,) = head_boxes(standing()[None], SIZE_HW)
    crown, chin = 200.0, 200 + 0.13 * 600
    assert box[1] <= crown and box[3] >= chin
    assert (box[3] - box[1]) == pytest.approx(0.13 * 600, rel=0.35)
    assert (box[0] + box[2]) / 2 == pytest.approx(900, abs=1)


def test_the_head_around_a_face_is_the_head_that_the_face_was_found_in():
    (face,), (head,) = face_boxes(standing()[None]), head_boxes(standing()[None], SIZE_HW)
    assert head_around(face) == pytest.approx(head, abs=0.02)
    # A detector's box may be narrow: the longer side is the height of the face.
    x0, y0, x1, y1 = face
    assert head_around((x0 + 4, y0, x1 - 4, y1)) == pytest.approx(head, abs=0.02)


@pytest.mark.parametrize("unknown", [[3, 4], [1, 2], [0], [5, 6], [11, 12], [3, 5, 6, 11, 12]])
def test_the_size_survives_joints_that_are_not_known(unknown):
    joints = standing()
    (whole,) = head_boxes(joints[None], SIZE_HW)
    joints[unknown] = np.nan
    (box,) = head_boxes(joints[None], SIZE_HW)
    assert (box[3] - box[1]) == pytest.approx(whole[3] - whole[1], rel=0.25)


def test_a_profile_keeps_its_size_by_the_neck():
    joints = standing()
    turned = joints.copy()
    # Ears and eyes one behind the other, the far ones hidden.
    turned[[1, 3], 0] = 900, 880
    turned[[2, 4]] = np.nan
    whole, box = head_boxes(np.stack([joints, turned]), SIZE_HW)
    assert (box[3] - box[1]) == pytest.approx(whole[3] - whole[1], rel=0.25)
    assert frontalness(np.stack([joints, turned])).tolist() == [1.0, 0.0]


def test_from_behind_and_outside_there_is_no_head():
    behind = standing()
    behind[:3] = np.nan
    outside = standing(x=-500)
    assert head_boxes(np.stack([behind, outside, np.full((17, 2), np.nan)]), SIZE_HW) == [None, None, None]


@pytest.mark.parametrize("at", [{"y": -60}, {"y": 1030}, {"x": -20}, {"x": 1940}])
def test_a_head_that_leaves_the_picture_is_cut_at_its_edge(at):
    (box,) = head_boxes(standing(**at)[None], SIZE_HW)
    height, width = SIZE_HW
    assert 0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height
    assert (box[0] == 0) + (box[1] == 0) + (box[2] == width) + (box[3] == height) == 1


def test_a_face_without_an_eye_is_not_frontal():
    joints = np.stack([standing()] * 3)
    joints[1, 1], joints[2, 2] = np.nan, np.nan
    assert frontalness(joints).tolist() == [1.0, 0.0, 0.0]


def test_half_a_turn_is_half_frontal():
    joints = standing()
    joints[0, 0] += 0.5 * 27
    assert 0.2 < frontalness(joints[None])[0] < 0.8
