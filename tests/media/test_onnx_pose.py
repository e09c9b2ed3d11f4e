"""ONNX pose models of both kinds, with outputs whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_renders import save_model, write_pose_model
from onnx import TensorProto, helper

from faceid.errors import ModelError
from faceid.media.onnx_pose import OnnxPoseReader, decode_heatmaps, decode_simcc

# Pixels reach the model as 0..1.
MEAN, STD = (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)


@pytest.mark.parametrize("kind", ["heatmaps", "simcc"])
def test_joints_come_back_in_pixels_of_the_frame(tmp_path, kind):
    reader = OnnxPoseReader(write_pose_model(tmp_path / "pose.onnx", kind), "cpu", MEAN, STD)
    # 96x96 goes into 64x48 at half size, with black above and below.
    frames = np.zeros((2, 96, 96, 3), np.uint8)
    frames[0, 20:28, 64:72, 0] = 255
    frames[1, 72:80, 8:16, 0] = 255
    joints = reader.read(frames)
    assert joints.shape == (2, 17, 3) and joints.dtype == np.float32
    assert np.abs(joints[0, :, :2] - (67.5, 23.5)).max() <= 8
    assert np.abs(joints[1, :, :2] - (11.5, 75.5)).max() <= 8
    assert (joints[:, :, 2] == 1).all()


def test_a_black_frame_gives_no_confidence(tmp_path):
    reader = OnnxPoseReader(write_pose_model(tmp_path / "pose.onnx", "heatmaps"), "cpu", MEAN, STD)
    assert (reader.read(np.zeros((1, 96, 96, 3), np.uint8))[:, :, 2] == 0).all()


def test_a_heatmap_peak_leans_to_its_higher_neighbour():
    heatmaps = np.zeros((17, 16, 12), np.float32)
    heatmaps[:, 4, 5], heatmaps[:, 4, 6], heatmaps[:, 3, 5] = 0.9, 0.5, 0.4
    assert decode_heatmaps(heatmaps, (64, 48))[0] == pytest.approx([5.25 * 4, 3.75 * 4, 0.9])


def test_simcc_takes_the_lower_peak_as_confidence():
    x_bins, y_bins = np.zeros((17, 96), np.float32), np.zeros((17, 128), np.float32)
    x_bins[:, 31], y_bins[:, 60] = 0.8, 0.4
    assert decode_simcc(x_bins, y_bins, (64, 48))[0] == pytest.approx([15.5, 30, 0.4])


def test_another_model_is_refused(tmp_path):
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 64, 48])
    same = helper.make_tensor_value_info("same", TensorProto.FLOAT, [1, 3, 64, 48])
    path = save_model(tmp_path / "p.onnx", [helper.make_node("Identity", ["picture"], ["same"])], [picture], [same])
    with pytest.raises(ModelError, match=r"outputs \[\[1, 3, 64, 48\]\]; needs heatmaps"):
        OnnxPoseReader(path, "cpu", MEAN, STD)


def test_a_missing_or_damaged_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        OnnxPoseReader(tmp_path / "absent.onnx", "cpu", MEAN, STD)
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="onnxruntime cannot load it"):
        OnnxPoseReader(tmp_path / "bad.onnx", "cpu", MEAN, STD)
