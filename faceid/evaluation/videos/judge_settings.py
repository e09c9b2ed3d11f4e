"""Settings of who judges: the people to tell apart, the recognisers, the reader of poses.

Names are flag names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import Reason
from faceid.errors import ConfigError
from faceid.faces.encoders.encoder_kinds import RECOGNISERS
from faceid.faces.identity_settings import DetectorKind
from faceid.limits import PixelDeviation, PixelMean

TOY_RECOGNISERS = ("toy_recogniser", "toy_readout")
# The pose readers, and the detector, that are no file.
TOY, NONE = "toy", "none"


@dataclass(frozen=True)
class PeopleSettings:
    """The people to tell apart, and how faces are found."""

    references_dir: Path
    """One subfolder of photos per person, none of them used for conditioning. These people are the candidates."""
    conditioning_dir: Path | None = None
    """The photos the embeddings were made from, laid out as references_dir. A photo that is also a reference is
    refused."""
    heads_dir: Path | None = None
    """Folder of <clip>.heads.json, boxes per frame in pixels of the clip (size_hw). Default: the detector looks."""
    detector: DetectorKind = "haar"
    """haar: frontal faces, built in; yunet: better, needs --detector_path; none: the whole picture is the face."""
    detector_path: str | None = None
    """yunet: the model file."""
    face_margin: Annotated[float, Field(ge=0, le=2)] = 0.3
    """Margin around a face box, as a share of its longer side, on each side."""
    real_vae: str | None = None
    """Base whose VAE the clips of --real go through before they are judged, as renders have been: toy, or a model
    folder. So they show what a render can score at best."""

    def unused(self, has_real: bool) -> Iterator[Reason]:
        """Options that change nothing. has_real: whether there are real clips."""
        if not has_real:
            yield "real_vae", "without --real"
        if self.detector != "yunet":
            yield "detector_path", "without --detector yunet"
        if self.detector == NONE and self.heads_dir is None:
            yield "face_margin", "with --detector none, for which the whole picture is the face"


@dataclass(frozen=True)
class RecogniserSettings:
    """The recognisers, and who may be none."""

    IN_HELP: ClassVar[dict[str, str]] = {"recognisers": ", ".join([*RECOGNISERS, *TOY_RECOGNISERS])}

    recognisers: list[str]
    """[{recognisers}], one or more. The first one is the primary."""
    adapter: Path | None = None
    """The adapter that rendered. Its encoder is refused as a recogniser."""
    conditioning_fingerprint: str | None = None
    """The conditioning encoder's fingerprint, instead of --adapter."""
    device: str = "cpu"
    """Where recognisers and the pose model run: cpu, cuda, cuda:0."""
    onnx_mean: PixelMean = 127.5
    """onnx recognisers: subtracted from each 0..255 value."""
    onnx_std: PixelDeviation = 127.5
    """onnx recognisers: each value is divided by this after the mean is subtracted."""
    onnx_colour: Literal["rgb", "bgr"] = "rgb"
    """onnx recognisers: channel order they were trained with."""

    def __post_init__(self) -> None:
        if not self.recognisers:
            raise ConfigError("recognisers: is empty; name at least one, such as '[onnx:recogniser.onnx]'")
        if len(set(self.recognisers)) < len(self.recognisers):
            raise ConfigError(f"recognisers={self.recognisers}: names one twice; leave it out once")
        if self.adapter is not None and self.conditioning_fingerprint is not None:
            raise ConfigError("adapter, conditioning_fingerprint: give one of them, not both")

    @property
    def is_encoder_known(self) -> bool:
        """Whether it can be checked that no recogniser is the encoder that conditioned the renders."""
        return self.adapter is not None or self.conditioning_fingerprint is not None

    def unused(self, pose_reader: str) -> Iterator[Reason]:
        """Options that change nothing. pose_reader: it may run on the device as well."""
        if not any(name.startswith("onnx:") for name in self.recognisers):
            for name in ("onnx_mean", "onnx_std", "onnx_colour"):
                yield name, "without an onnx: recogniser"
        if set(self.recognisers) <= set(TOY_RECOGNISERS) and pose_reader in (NONE, TOY):
            yield "device", "here: the toy's own readers run on the CPU"


@dataclass(frozen=True)
class PoseReaderSettings:
    """How poses are read, and what they are compared with."""

    pose_reader: str = NONE
    """none: pose is not scored; toy; or a COCO-17 top-down .onnx pose model of yours."""
    joints_dir: Path | None = None
    """Folder of <clip>.joints.json, the control joints (COCO-17) per frame."""
    driver_videos_dir: Path | None = None
    """Folder of the clips the poses were drawn from, read by the pose reader. Instead of --joints_dir."""
    pose_mean: tuple[PixelMean, PixelMean, PixelMean] = (123.675, 116.28, 103.53)
    """onnx pose model: subtracted from red, green and blue, 0..255."""
    pose_std: tuple[PixelDeviation, PixelDeviation, PixelDeviation] = (58.395, 57.12, 57.375)
    """onnx pose model: each colour is divided by this after the mean is subtracted."""

    def __post_init__(self) -> None:
        if self.joints_dir is not None and self.driver_videos_dir is not None:
            raise ConfigError("joints_dir, driver_videos_dir: give one of them, not both")
        if self.pose_reader != NONE and not (self.joints_dir or self.driver_videos_dir):
            raise ConfigError(f"pose_reader={self.pose_reader}: has nothing to compare with; give --joints_dir")

    def unused(self) -> Iterator[Reason]:
        """Options that change nothing."""
        if not self.pose_reader.endswith(".onnx"):
            for name in ("pose_mean", "pose_std"):
                yield name, "without an .onnx --pose_reader"
        if self.pose_reader == NONE:
            yield "driver_videos_dir", "without --pose_reader"
            yield "joints_dir", "on the scores without --pose_reader; it is only drawn in the report"
