"""Control joints in the renders' pixels, from a file or read from the driving clip."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from faceid.errors import DataError
from faceid.evaluation.videos.controls import read_control
from faceid.evaluation.videos.measure import Instruments, Measurer
from faceid.evaluation.videos.renders import Render
from faceid.faces.photos.detect import load_detector
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
    return read_control("x", range(num_frames), size_hw, folder, None, BrightestPixel())


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
    joints = read_control("x", range(2), (64, 64), None, tmp_path, BrightestPixel())
    assert joints.shape == (2, 17, 2) and np.isnan(joints[:, 0]).all()
    assert np.abs(joints[:, 1] - (41.5, 21.5)).max() <= 2


def test_a_missing_driving_clip_is_named(tmp_path):
    with pytest.raises(DataError, match=r"x\.mp4: no such file"):
        read_control("x", range(1), (64, 64), None, tmp_path, BrightestPixel())


@pytest.mark.fault("M4")
def test_a_render_of_a_sampled_pose_is_held_against_the_frames_it_followed(tmp_path):
    joints = [[[4 * frame, 4 * frame]] * 17 for frame in range(9)]
    taken = [0, 2, 4, 8, 8]
    found = read_control("x", taken, (64, 64), write(tmp_path, joints), None, BrightestPixel())
    assert found[:, 5, 0].tolist() == [4 * place for place in taken]
    with pytest.raises(DataError, match="9 frames, the render has 2 and follows the clip to its frame 9"):
        read_control("x", [0, 9], (64, 64), tmp_path, None, BrightestPixel())
    frames = np.zeros((9, 64, 64, 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[20:24, 4 + 6 * number : 8 + 6 * number] = 255
    write_video(tmp_path / "x.mp4", frames, 30)
    read = read_control("x", taken, (64, 64), None, tmp_path, BrightestPixel())
    assert np.abs(read[:, 1, 0] - [5.5 + 6 * place for place in taken]).max() <= 2
    with pytest.raises(DataError, match=r"x\.mp4: ends before frame 9.*the render has 2 frames: give the clip of its"):
        read_control("x", [0, 9], (64, 64), None, tmp_path, BrightestPixel())


class Upright(BrightestPixel):
    """With hips ten pixels under everything else: a torso to measure by."""

    def read(self, frames: np.ndarray) -> np.ndarray:
        joints = super().read(frames)
        joints[:, 11:13, 1] += 10
        return joints


@pytest.mark.fault("M4")
def test_a_perfect_render_of_a_sampled_pose_has_no_pose_error(tmp_path):
    frames = np.zeros((9, 64, 64, 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[20:24, 4 + 6 * number : 8 + 6 * number] = 255
    write_video(tmp_path / "x.mp4", frames, 32)
    write_video(tmp_path / "render.mp4", frames[::2], 16)
    tools = Instruments([], [], load_detector("none"), 0.0, pose_reader=Upright(), driver_videos_dir=tmp_path)
    render = Render(tmp_path / "render.mp4", "x", "", 1.0, 0, "a", (0, 2, 4, 6, 8))
    assert Measurer(tools).measure(render).pose.error < 0.01
    one_by_one = replace(render, sha256="b", pose_frames=None)
    assert Measurer(tools).measure(one_by_one).pose.error > 0.1
