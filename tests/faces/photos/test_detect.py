"""Boxes where the faces are, and square crops that never squeeze them."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_faces import write_yunet_model

from faceid.errors import ConfigError, ModelError
from faceid.faces.photos.detect import crop_face, load_detector
from faceid.media.images import read_photo


def numbered(height, width):
    """[H, W, 3] whose first channel is the column and second the row."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, np.zeros_like(rows)], axis=-1).astype(np.uint8)


def test_the_crop_is_the_box_with_its_margin():
    crop = crop_face(numbered(100, 100), (40, 50, 60, 70), margin=0.25)
    assert crop.shape == (30, 30, 3)
    assert crop[0, 0].tolist() == [35, 45, 0] and crop[-1, -1].tolist() == [64, 74, 0]


def test_a_crop_over_the_edge_repeats_the_edge():
    crop = crop_face(numbered(50, 50), (0, 0, 20, 20), margin=0.5)
    assert crop.shape == (40, 40, 3)
    assert (crop[:10, :10] == 0).all() and crop[10, 15, 0] == 5


def test_an_oblong_box_gives_a_square_around_its_centre():
    crop = crop_face(numbered(100, 100), (40, 20, 60, 80), margin=0.0)
    assert crop.shape == (60, 60, 3)
    assert crop[0, 0].tolist() == [20, 20, 0]


def test_detector_none_takes_the_whole_photo():
    (face,) = load_detector("none").detect(numbered(30, 40))
    assert face.box_xyxy == (0, 0, 40, 30) and face.score == 1.0


def test_haar_finds_no_face_in_noise():
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    assert load_detector("haar").detect(noise) == []


@pytest.mark.parametrize(("height", "width", "scale"), [(64, 128, 1), (60, 100, 1), (640, 2048, 2)])
def test_yunet_boxes_are_in_pixels_of_the_photo(tmp_path, height, width, scale):
    detector = load_detector("yunet", write_yunet_model(tmp_path / "yunet.onnx"))
    image = np.zeros((height, width, 3), np.uint8)
    image[24 * scale : 32 * scale, 80 * scale : 88 * scale] = 255
    (face,) = detector.detect(image)
    assert face.box_xyxy == tuple(scale * value for value in (68, 12, 92, 36))
    assert face.score > 0.99


def test_yunet_without_its_file_says_what_to_give():
    with pytest.raises(ConfigError, match="detector_path"):
        load_detector("yunet", None)


def test_a_file_that_is_no_detector_is_refused(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"x\.onnx"):
        load_detector("yunet", tmp_path / "x.onnx")


@pytest.mark.real_data
def test_haar_finds_both_people_of_a_real_group_photo_largest_first(real_data):
    faces = load_detector("haar").detect(read_photo(real_data / "faces" / "group" / "two_people.jpg"))
    assert len(faces) == 2 and faces[0].area_px >= faces[1].area_px
    assert min(face.score for face in faces) > 0.9
