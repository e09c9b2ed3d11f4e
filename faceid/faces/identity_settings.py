"""Settings for turning photos into an identity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import OnResume, Reason
from faceid.faces.encoders.encoder_kinds import ENCODER_MEANINGS, EncoderKind
from faceid.limits import PixelDeviation, PixelMean

DetectorKind = Literal["haar", "yunet", "none"]
Aggregation = Literal["weighted_mean", "mean", "median"]


@dataclass(frozen=True)
class FaceSettings:
    """Photos to identity: encoder, detector, aggregation."""

    ON_RESUME: ClassVar[OnResume] = "by_content"
    IN_HELP: ClassVar[dict[str, str]] = {"encoders": ENCODER_MEANINGS}

    encoder: EncoderKind = "clip"
    """{encoders}."""
    encoder_path: str | None = None
    """Folder, hub name in the local cache, or .onnx file. Default: the published model of that encoder."""
    encoder_device: str = "cpu"
    """Where the encoder runs: cpu, cuda, cuda:0. 15 photos with CLIP ViT-L take 45 s on one CPU core."""
    onnx_mean: PixelMean = 127.5
    """onnx: subtracted from each 0..255 value."""
    onnx_std: PixelDeviation = 127.5
    """onnx: each value is divided by this after the mean is subtracted."""
    onnx_colour: Literal["rgb", "bgr"] = "rgb"
    """onnx: channel order the recogniser was trained with."""
    aggregation: Aggregation = "weighted_mean"
    """weighted_mean: by sharpness, size, detection and agreement; mean: all alike; median: geometric median."""
    detector: DetectorKind = "haar"
    """haar: inside OpenCV, frontal faces; yunet: better, needs --detector_path; none: each photo already is a face."""
    detector_path: str | None = None
    """yunet: the model file, face_detection_yunet_*.onnx."""
    face_margin: Annotated[float, Field(ge=0, le=2)] = 0.3
    """Margin around the face box, as a share of its longer side, on each side."""
    allow_few: bool = False
    """Go on with fewer than 3 usable photos. The likeness will be weaker."""
    check_one_person: bool = True
    """Stop when the photos fall into two groups that look like two people."""
    shared: bool = False
    """Let others on this machine look into what shows a face, as the umask says. By default only you can."""

    # Fields that say how the photos of one person become an identity.
    OF_IDENTITIES: ClassVar[tuple[str, ...]] = ("aggregation", "allow_few", "check_one_person")

    def unused(self, without_identity: str = "") -> Iterator[Reason]:
        """Options that detector and encoder do not use. without_identity: why no identity is made, if none is."""
        if without_identity:
            for name in self.OF_IDENTITIES:
                yield name, without_identity
        if self.encoder != "onnx":
            for name in ("onnx_mean", "onnx_std", "onnx_colour"):
                yield name, "without --encoder onnx"
        if self.detector != "yunet":
            yield "detector_path", "without --detector yunet"
