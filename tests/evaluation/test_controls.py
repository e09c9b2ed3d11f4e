"""Control joints in the renders' pixels, from a file or read from the driving clip."""

from __future__ import annotations

import json

import numpy as np
import pytest

from faceid.errors import DataError
from faceid.evaluation.controls import read_control
from faceid.media.video import write_video


class BrightestPixel:
    """Reads every joint at the brightest pixel of a frame, the first joint without confidence: the answer is known."""

    def read(self, frames: np.ndarray) -> np.ndarray:
        places = [np.unravel_index(frame[:, :, 0].argmax(), frame.shape[:2]) for frame in frames]
        joints = np.array([[(column, row, 1.0)] * 17 for row, column in places], np.float32)
        joints[:, 0, 2] = 0.1
        return joints


def write(folder, joints, size_hw=(64, 64)):
    (folder / "x.joints.json").write_text(json.dumps({"joints": joints, "size_hw": size_hw}))
    return folder


def from_file(folder, num_frames=1, size_hw=(64, 64)):
    return read_control("x", num_frames, size_hw, folder, None, BrightestPixel())


def test_a_joint_that_is_null_is_unknown(tmp_path):
    joints = from_file(write(tmp_path, [[None] + [[3, 4]] * 16]))
    assert np.isnan(joints[0, 0]).all() and joints[0, 1].tolist() == [3, 4]


def test_joints_of_another_size_are_cropped_and_scaled_as_poses_are(tmp_path):
    # 128 wide to 64: the middle 64 of 128 columns at half size are kept, 32 px are cut on the left.
    folder = write(tmp_path, [[[64, 32]] * 17], size_hw=(64, 128))
    assert from_file(folder, size_hw=(32, 32))[0, 0].tolist() == [16, 16]


@pytest.mark.parametrize("size_hw", [[64], ["a", 64], [0, 64], 7])
def test_what_is_no_size_is_refused(tmp_path, size_hw):
    with pytest.raises(DataError, match=r"x\.joints\.json: size_hw .* is no size"):
        from_file(write(tmp_path, [[[3, 4]] * 17], size_hw=size_hw))


def test_a_control_shorter_than_the_render_is_refused(tmp_path):
    with pytest.raises(DataError, match="1 frames, the render has 2"):
        from_file(write(tmp_path, [[[3, 4]] * 17]), num_frames=2)


@pytest.mark.parametrize("joints", [[[[3, 4]] * 16], [[[3]] * 17], 7])
def test_what_is_no_control_is_refused(tmp_path, joints):
    with pytest.raises(DataError, match=r"x\.joints\.json"):
        from_file(write(tmp_path, joints))


def test_the_driving_clip_is_read_where_its_joints_are_not_known(tmp_path):
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    frames[:, 20:24, 40:44] = 255
    write_video(tmp_path / "x.mp4", frames, 16)
    joints = read_control("x", 2, (64, 64), None, tmp_path, BrightestPixel())
    assert joints.shape == (2, 17, 2) and np.isnan(joints[:, 0]).all()
    assert np.abs(joints[:, 1] - (41.5, 21.5)).max() <= 2


def test_a_missing_driving_clip_is_named(tmp_path):
    with pytest.raises(DataError, match=r"x\.mp4: no such file"):
        read_control("x", 1, (64, 64), None, tmp_path, BrightestPixel())
