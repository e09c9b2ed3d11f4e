"""Run any COCO-17 top-down pose model from an .onnx file through onnxruntime (the optional extra `onnx`).

The outputs tell the kind of model. Heatmaps are [1, 17, h, w] (HRNet, ViTPose). SimCC has one row of bins per axis,
[1, 17, W * k] and [1, 17, H * k] (RTMPose). There is no person detector. The whole frame is the person's box, fitted
into the model's input with black edges. So videos should show one person, and not a tiny one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from faceid.errors import ModelError
from faceid.files.given_paths import why_no_file
from faceid.media.onnx_session import only_input, open_session
from faceid.media.pixels.fit import Fit, fit_sizes

NUM_JOINTS = 17
# The input size of these models when their file leaves it open.
USUAL_SIZE_HW = (256, 192)
Colours = tuple[float, float, float]


class OnnxPoseReader:
    """A pose model's file, used as a `PoseReader`."""

    def __init__(self, path: Path, device: str, mean: Colours, std: Colours) -> None:
        """mean, std: of red, green and blue, on the scale 0..255."""
        self.path = path
        if (reason := why_no_file(path)) is not None:
            raise ModelError(f"pose_reader={path}: {reason}; name the .onnx file of a COCO-17 pose model")
        self.session = open_session(path, device, "pose_reader")
        self.input_name, self.size_hw = _read_input(path, self.session)
        self.mean, self.std = np.array(mean, np.float32), np.array(std, np.float32)
        self.is_simcc = _is_simcc(path, self._run(np.zeros((*self.size_hw, 3), np.uint8)))

    def read(self, frames: np.ndarray) -> np.ndarray:
        """uint8 RGB [T, H, W, 3] to float32 [T, 17, 3]: x and y in pixels of the frames, confidence 0..1."""
        fit = fit_sizes((frames.shape[1], frames.shape[2]), *self.size_hw, "pad")
        return np.stack([self._read_frame(fit.frame(frame), fit) for frame in frames])

    def _read_frame(self, picture: np.ndarray, fit: Fit) -> np.ndarray:
        outputs = self._run(picture)
        if self.is_simcc:
            joints = decode_simcc(outputs[0][0], outputs[1][0], self.size_hw)
        else:
            joints = decode_heatmaps(outputs[0][0], self.size_hw)
        left, top, width, height = fit.target
        scale = (fit.source[2] / width, fit.source[3] / height)
        joints[:, :2] = (joints[:, :2] - (left, top)) * scale
        return joints

    def _run(self, picture: np.ndarray) -> list[np.ndarray]:
        pixels = ((picture.astype(np.float32) - self.mean) / self.std).transpose(2, 0, 1)[None]
        return self.session.run(None, {self.input_name: np.ascontiguousarray(pixels)})


def decode_heatmaps(heatmaps: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Peaks of heatmaps [17, h, w] to [17, 3]: x, y in pixels of the input, peak height within 0..1.

    A peak moves a quarter cell towards its higher neighbour, as HRNet decodes (leoxiaobo/mmpose:
    keypoints_from_heatmaps).
    """
    count, height, width = heatmaps.shape
    best = heatmaps.reshape(count, -1).argmax(axis=1)
    joints = np.zeros((count, 3), np.float32)
    for joint, (row, column) in enumerate(zip(*np.unravel_index(best, (height, width)), strict=True)):
        heat = heatmaps[joint]
        x, y = float(column), float(row)
        if 0 < column < width - 1:
            x += 0.25 * float(np.sign(heat[row, column + 1] - heat[row, column - 1]))
        if 0 < row < height - 1:
            y += 0.25 * float(np.sign(heat[row + 1, column] - heat[row - 1, column]))
        joints[joint] = (x * size_hw[1] / width, y * size_hw[0] / height, np.clip(heat[row, column], 0, 1))
    return joints


def decode_simcc(x_bins: np.ndarray, y_bins: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Peaks of SimCC rows [17, W * k] and [17, H * k] to [17, 3]: x, y in pixels of the input, confidence within 0..1.

    The confidence is the lower of the two peaks (mmpose: get_simcc_maximum).
    """
    x = x_bins.argmax(axis=1) * size_hw[1] / x_bins.shape[1]
    y = y_bins.argmax(axis=1) * size_hw[0] / y_bins.shape[1]
    confidence = np.clip(np.minimum(x_bins.max(axis=1), y_bins.max(axis=1)), 0, 1)
    return np.stack([x, y, confidence], axis=1).astype(np.float32)


def _read_input(path: Path, session: Any) -> tuple[str, tuple[int, int]]:
    """Name and size of the model's input."""
    wanted = "a pose model takes one float picture [1, 3, H, W]"
    name, shape = only_input(path, session, "pose_reader", wanted)
    if shape[1] != 3:
        raise ModelError(f"pose_reader={path}: input {shape}; {wanted}")
    height, width = (s if isinstance(s, int) else usual for s, usual in zip(shape[2:], USUAL_SIZE_HW, strict=True))
    return name, (height, width)


def _is_simcc(path: Path, outputs: list[np.ndarray]) -> bool:
    shapes = [list(output.shape) for output in outputs]
    if all(shape[:2] == [1, NUM_JOINTS] for shape in shapes):
        if len(shapes) == 1 and len(shapes[0]) == 4:
            return False
        if len(shapes) == 2 and all(len(shape) == 3 for shape in shapes):
            return True
    raise ModelError(
        f"pose_reader={path}: outputs {shapes}; needs heatmaps [1, 17, h, w] or SimCC's [1, 17, W*k] and [1, 17, H*k]"
    )
