"""List the face encoders: their names in flags, their help texts, and who loads each.

This is the one list. torch is not imported, so that a command line is read before torch is. docs/extending.md says how
to add an encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from faceid.faces.encoders.face_encoders import FaceEncoder

# What --encoder_path names: a folder in transformers' layout or a hub name, one file, or nothing.
PathKind = Literal["folder", "file", "nothing"]
# Pillow's numbers for these filters.
BILINEAR, BICUBIC = 2, 3
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class VisionModel:
    """A family of transformers' vision models, with its published preprocessing for folders that have none."""

    model_type: str
    """The model type in config.json, or the beginning of it."""
    has_projection: bool = False
    """True for CLIP, whose projection is the embedding. For others it is the class token."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    """For red, green and blue, on a scale of 0 to 1."""
    resize: int | None = None
    """Side in pixels. None: the model's own image_size."""
    crop: int | None = None
    """Side in pixels of the central crop. None: no crop."""
    has_crop: bool = True
    resample: int = BICUBIC
    is_scaled_first: bool = False
    """Whether pixels are scaled to 0..1 before the resize, so that nothing is rounded to whole grey levels."""


Load = Callable[..., "FaceEncoder"]
"""Function (kind, path, device, **onnx_input) that returns an encoder. Raises: ModelError."""


@dataclass(frozen=True)
class EncoderSpec:
    """One kind of encoder."""

    meaning: str
    """Text for the help."""
    load: Load
    needs: PathKind
    """What --encoder_path names."""
    file: str = ""
    """Where a file is needed: which one, as it follows "needs --encoder_path, "."""
    published: str | None = None
    """The hub name that is used when no path is given."""
    is_gated: bool = False
    """Whether its licence must be accepted on the hub, with an account, before it can be downloaded."""
    vision: VisionModel | None = None


def _load_vision(kind: str, path: str, device: str, **_: Any) -> FaceEncoder:
    from faceid.faces.encoders.face_encoders import VisionEncoder

    return VisionEncoder(kind, path, device)


def _load_onnx(kind: str, path: str, device: str, **onnx_input: Any) -> FaceEncoder:
    # onnxruntime is an optional extra, so its module is imported on request only.
    from faceid.faces.encoders.onnx_encoder import OnnxEncoder

    return OnnxEncoder(path, device, **onnx_input)


ENCODERS: dict[str, EncoderSpec] = {
    "clip": EncoderSpec(
        "CLIP image embedding (768 numbers for ViT-L/14)",
        _load_vision,
        "folder",
        published="openai/clip-vit-large-patch14",
        vision=VisionModel("clip", has_projection=True, mean=CLIP_MEAN, std=CLIP_STD),
    ),
    "dinov3": EncoderSpec(
        "DINOv3's class token (1024; gated: licence to accept)",
        _load_vision,
        "folder",
        published="facebook/dinov3-vitl16-pretrain-lvd1689m",
        is_gated=True,
        vision=VisionModel("dinov3_", has_crop=False, resample=BILINEAR, is_scaled_first=True),
    ),
    "dinov2": EncoderSpec(
        "DINOv2's class token (1024; free)",
        _load_vision,
        "folder",
        published="facebook/dinov2-large",
        vision=VisionModel("dinov2", resize=256, crop=224),
    ),
    "onnx": EncoderSpec("any face recogniser file of yours", _load_onnx, "file", "the .onnx file of a face recogniser"),
}


def vision_of(kind: str) -> VisionModel:
    """The family of an encoder that is a model of transformers."""
    family = ENCODERS[kind].vision
    assert family is not None, f"{kind} is no model of transformers"
    return family


# A key of ENCODERS: to whoever reads flags those words, to a type checker a text.
if TYPE_CHECKING:
    EncoderKind = str
else:
    EncoderKind = Literal[tuple(ENCODERS)]

# Text for the help.
ENCODER_MEANINGS = "; ".join(f"{name}: {spec.meaning}" for name, spec in ENCODERS.items())
RECOGNISERS = [name if spec.needs == "nothing" else f"{name}:PATH" for name, spec in ENCODERS.items()]
"""The encoders' names as --recognisers takes them."""
