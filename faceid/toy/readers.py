"""Load the judges of the toy world by name: `toy_recogniser`, `toy_readout` and `toy` in `tools/evaluate.py`."""

from __future__ import annotations

from faceid.errors import ConfigError
from faceid.faces.encoders.face_encoders import FaceEncoder, load_encoder
from faceid.toy.pose_reader import ToyPoseReader, load_pose_reader
from faceid.toy.readout import load_readout
from faceid.toy.shipped import WEIGHTS


def load_toy_recogniser(name: str) -> FaceEncoder:
    """`toy_recogniser`: the small recogniser. `toy_readout`: measured attributes. Raises: ConfigError otherwise."""
    if name == "toy_recogniser":
        return load_encoder("clip", WEIGHTS / "recogniser")
    if name == "toy_readout":
        return load_readout(WEIGHTS / "readout.safetensors")
    raise ConfigError(f"recognisers={name}: the toy world has toy_recogniser and toy_readout")


def load_toy_pose_reader() -> ToyPoseReader:
    """The pose reader of the toy world."""
    return load_pose_reader(WEIGHTS / "pose_reader.safetensors")
