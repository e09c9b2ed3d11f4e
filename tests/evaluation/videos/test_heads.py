"""Heads as the keypoints or the detector give them, also at the edge of the picture."""

from __future__ import annotations

import json

import numpy as np
import pytest
from drawn_renders import PEOPLE

from faceid.errors import DataError
from faceid.evaluation.videos.controls import joints_of_file
from faceid.evaluation.videos.heads import cut_head, found_heads, known_heads, shows_face
from faceid.faces.photos.detect import DetectedFace, load_detector
from faceid.toy.dance import dance_joints
from faceid.toy.people import draw_nuisance
from faceid.toy.render import drawn_head_boxes, render_clip, render_photo


def write(folder, boxes, **more):
    (folder / "x.heads.json").write_text(json.dumps({"boxes": boxes, **more}))
    return folder


def test_a_head_partly_outside_is_cut_at_the_edge_and_one_outside_is_none(tmp_path):
    folder = write(tmp_path, [[-5, 10, 20, 30], None, [70, 10, 90, 30]], size_hw=[64, 64])
    assert known_heads(folder, "x", range(3), (64, 64)) == [(0, 10, 20, 30), None, None]


def test_heads_of_another_size_are_cropped_and_scaled_as_poses_are(tmp_path):
    # 1080p to 832x480: 1872 columns of the 1920 are kept from the 24th on, and 1080 rows become 480.
    folder = write(tmp_path, [[924, 540, 1104, 720], None, [0, 0, 20, 20]], size_hw=[1080, 1920])
    first, none, cut_off = known_heads(folder, "x", range(3), (480, 832))
    assert first == pytest.approx((400, 240, 480, 320)) and none is None and cut_off is None


def test_heads_and_joints_move_alike(tmp_path):
    size = [90, 160]
    write(tmp_path, [[50, 30, 70, 60]], size_hw=size)
    joints = {"joints": [[[50, 30], [70, 60]] + [None] * 15], "size_hw": size}
    (tmp_path / "x.joints.json").write_text(json.dumps(joints))
    moved = joints_of_file(tmp_path / "x.joints.json", range(1), (64, 64))[0]
    assert known_heads(tmp_path, "x", range(1), (64, 64)) == [pytest.approx((*moved[0], *moved[1]))]


def test_heads_of_an_unknown_picture_are_refused_where_they_cannot_be_the_renders(tmp_path):
    folder = write(tmp_path, [[1, 2, 9, 9], [700, 100, 900, 300]])
    assert known_heads(folder, "x", range(2), (1080, 1920)) == [(1, 2, 9, 9), (700, 100, 900, 300)]
    with pytest.raises(DataError, match=r"x\.heads\.json: box \[700.*\] of frame 1 .* 832x480.*write \"size_hw\""):
        # Also where the render is too short to reach that box.
        known_heads(folder, "x", range(1), (480, 832))


@pytest.mark.parametrize("size_hw", [[64], ["a", 64], [0, 64], 7])
def test_what_is_no_size_is_refused(tmp_path, size_hw):
    with pytest.raises(DataError, match=r'x\.heads\.json: size_hw .* is no size; write "size_hw": \[h, w\]'):
        known_heads(write(tmp_path, [[1, 2, 9, 9]], size_hw=size_hw), "x", range(1), (64, 64))


def test_a_render_shorter_than_its_clip_takes_the_first_boxes(tmp_path):
    folder = write(tmp_path, [[0, 0, 9, 9], [1, 1, 9, 9], [2, 2, 9, 9]])
    assert len(known_heads(folder, "x", range(2), (64, 64))) == 2


def test_too_few_boxes_are_refused(tmp_path):
    with pytest.raises(DataError, match="1 boxes, the render has 2 frames"):
        known_heads(write(tmp_path, [None]), "x", range(2), (64, 64))


@pytest.mark.fault("M4")
def test_a_render_of_a_sampled_pose_takes_the_boxes_of_the_frames_it_followed(tmp_path):
    folder = write(tmp_path, [[place, 0, place + 9, 9] for place in range(9)])
    assert [box[0] for box in known_heads(folder, "x", [0, 2, 4, 8, 8], (64, 64))] == [0, 2, 4, 8, 8]
    with pytest.raises(DataError, match="9 boxes, the render has 2 frames and follows the clip to its frame 9"):
        known_heads(folder, "x", [0, 9], (64, 64))


@pytest.mark.parametrize("boxes", [[[1, 2, 3]], [["a", 1, 2, 3]], 7])
def test_what_is_no_box_is_refused(tmp_path, boxes):
    with pytest.raises(DataError, match=r"x\.heads\.json"):
        known_heads(write(tmp_path, boxes), "x", range(1), (64, 64))


def test_a_head_of_less_than_a_pixel_is_still_cut():
    assert cut_head(np.zeros((8, 8, 3), np.uint8), (7.6, 7.6, 8.0, 8.0), 0.0).shape == (1, 1, 3)


def test_the_detector_finds_a_face_and_none_where_none_is():
    frames = np.stack([render_photo(PEOPLE["ann"], 100, 96), np.full((96, 96, 3), 120, np.uint8)])
    boxes = found_heads(frames, load_detector("haar"))
    assert boxes[0] is not None and boxes[1] is None


def test_the_detector_sees_a_small_known_head_and_none_where_it_is_blank():
    joints = dance_joints("BR", 0, 3, (64, 64))
    frames = render_clip(PEOPLE["ann"], joints, draw_nuisance(1), (64, 64))
    boxes = [tuple(box) for box in drawn_head_boxes(joints, (64, 64))]
    detector = load_detector("haar")
    assert all(shows_face(frame, box, detector) for frame, box in zip(frames, boxes, strict=True))
    for frame, (x0, y0, x1, y1) in zip(frames, boxes, strict=True):
        frame[round(y0) : round(y1), round(x0) : round(x1)] = 120
    assert not any(shows_face(frame, box, detector) for frame, box in zip(frames, boxes, strict=True))


def test_a_face_beside_the_known_head_is_not_its_face():
    class AtTheEdge:
        """Finds a face, but in the margin around the head."""

        def detect(self, image_rgb):
            side = image_rgb.shape[0]
            return [DetectedFace((0, 0, side // 8, side // 8), 1.0)]

    assert not shows_face(np.zeros((64, 64, 3), np.uint8), (20, 20, 40, 40), AtTheEdge())
