"""Heads as the keypoints or the detector give them, also at the edge of the picture."""

from __future__ import annotations

import json

import numpy as np
import pytest
from drawn_renders import PEOPLE

from faceid.errors import DataError
from faceid.evaluation.heads import cut_head, found_heads, known_heads
from faceid.faces.detect import load_detector
from faceid.toy.render import render_photo


def write(folder, boxes):
    (folder / "x.heads.json").write_text(json.dumps({"boxes": boxes}))
    return folder


def test_a_head_partly_outside_is_cut_at_the_edge_and_one_outside_is_none(tmp_path):
    folder = write(tmp_path, [[-5, 10, 20, 30], None, [70, 10, 90, 30]])
    assert known_heads(folder, "x", 3, (64, 64)) == [(0, 10, 20, 30), None, None]


def test_a_render_shorter_than_its_clip_takes_the_first_boxes(tmp_path):
    folder = write(tmp_path, [[0, 0, 9, 9], [1, 1, 9, 9], [2, 2, 9, 9]])
    assert len(known_heads(folder, "x", 2, (64, 64))) == 2


def test_too_few_boxes_are_refused(tmp_path):
    with pytest.raises(DataError, match="1 boxes, the render has 2 frames"):
        known_heads(write(tmp_path, [None]), "x", 2, (64, 64))


@pytest.mark.parametrize("boxes", [[[1, 2, 3]], [["a", 1, 2, 3]], 7])
def test_what_is_no_box_is_refused(tmp_path, boxes):
    with pytest.raises(DataError, match=r"x\.heads\.json"):
        known_heads(write(tmp_path, boxes), "x", 1, (64, 64))


def test_a_head_of_less_than_a_pixel_is_still_cut():
    assert cut_head(np.zeros((8, 8, 3), np.uint8), (7.6, 7.6, 8.0, 8.0), 0.0).shape == (1, 1, 3)


def test_the_detector_finds_a_face_and_none_where_none_is():
    frames = np.stack([render_photo(PEOPLE["ann"], 100, 96), np.full((96, 96, 3), 120, np.uint8)])
    boxes = found_heads(frames, load_detector("haar"))
    assert boxes[0] is not None and boxes[1] is None
