"""Read joints from pictures with the toy world's own reader, or an ONNX pose model of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from faceid.errors import ConfigError
from faceid.evaluation.videos.judge_settings import NONE, TOY, PoseReaderSettings


class PoseReader(Protocol):
    """Finds the joints of one person."""

    def read(self, frames: np.ndarray) -> np.ndarray:
        """uint8 RGB [T, H, W, 3] to float32 [T, 17, 3]: COCO-17 joints, x and y in pixels and confidence 0..1."""
        ...


def check_pose_reader_name(name: str) -> None:
    """Check a name without its file. Raises: ConfigError for an unknown name."""
    if name not in (NONE, TOY) and not name.endswith(".onnx"):
        raise ConfigError(f"pose_reader={name}: must be none, toy, or the .onnx file of a COCO-17 pose model")


def load_joint_reader(settings: PoseReaderSettings, device: str) -> PoseReader | None:
    """The reader that the settings name; None for `none`. Raises: ConfigError for an unknown name."""
    name = settings.pose_reader
    check_pose_reader_name(name)
    if name == NONE:
        return None
    if name == TOY:
        # The toy's readers are imported only when the toy is judged.
        from faceid.toy.readers import load_toy_pose_reader

        return load_toy_pose_reader()
    # onnxruntime is an optional extra, so its module is imported only on request.
    from faceid.media.onnx_pose import OnnxPoseReader

    return OnnxPoseReader(Path(name), device, settings.pose_mean, settings.pose_std)
