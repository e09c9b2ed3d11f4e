"""Encode face crops to unit embeddings with CLIP, DINO, or any ONNX recogniser.

Nothing is ever downloaded. Encoders come from a folder or the hub cache. One `load_encoder` serves all kinds of
encoder_kinds.py. The optional mean over many people (`embedding_mean.safetensors` in the encoder's folder) is
subtracted before normalising. CLIP vectors of different people otherwise lie at cosine 0.6 to 0.9.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import transformers
from PIL import Image

from faceid.device import pick_device
from faceid.errors import ModelError
from faceid.faces.encoders.centring import load_embedding_mean, save_embedding_mean, unit_embeddings
from faceid.faces.encoders.encoder_folder import find_folder, load_model, quiet_transformers
from faceid.faces.encoders.encoder_kinds import (
    BICUBIC,
    BILINEAR,
    CLIP_MEAN,
    CLIP_STD,
    ENCODERS,
    EncoderKind,
    VisionModel,
    vision_of,
)
from faceid.files.documents import read_json
from faceid.files.given_paths import why_no_file
from faceid.files.outputs import staged_folder
from faceid.files.provenance import sha256_json
from faceid.files.writing import write_json
from faceid.logs import progress

logger = logging.getLogger(__name__)

__all__ = ["FaceEncoder", "initialise_clip", "load_encoder", "open_clip", "save_embedding_mean"]

# ViT-L takes about 3 s a face on one CPU core. A batch is also one step of the progress bar.
BATCH_FACES = 8


class FaceEncoder(Protocol):
    """Turns face crops into embeddings."""

    name: str
    """The kind: a key of ENCODERS."""
    fingerprint: str
    """Hex sha256 over weights, preprocessing and embedding mean. Embeddings of equal fingerprints are comparable."""
    dim: int
    """D, numbers per embedding."""

    def embed(self, faces: list[np.ndarray]) -> torch.Tensor:
        """Square face crops (RGB uint8 [S, S, 3], any S) to [N, D], float32, unit length, on the CPU."""
        ...


def load_encoder(
    kind: EncoderKind, path: Path | str | None = None, device: str = "cpu", **onnx_input: Any
) -> FaceEncoder:
    """Load an encoder once; nothing is downloaded.

    path: a local folder, a hub name already in the cache, or (onnx) a file. None: the published model of that kind.
    onnx_input: mean, std (0..255 scale) and colour (rgb, bgr) of an ONNX recogniser.
    Raises: ModelError when the weights are missing or of another architecture, with what to do.
    """
    spec = ENCODERS[kind]
    if spec.needs == "file" and path is None:
        raise ModelError(f"encoder={kind}: needs --encoder_path, {spec.file}")
    return spec.load(kind, spec.published if path is None else str(path), device, **onnx_input)


def check_encoder_is_there(kind: EncoderKind, path: str | None, key: str) -> None:
    """Look for an encoder's files without loading them. key: the flag that named them. Raises: ModelError."""
    spec = ENCODERS[kind]
    if spec.needs == "folder":
        find_folder(kind, path or str(spec.published))
    elif spec.needs == "file" and (reason := why_no_file(path or "")) is not None:
        raise ModelError(f"{key}={path}: {reason}; give {spec.file}")


def initialise_clip(folder: Path, config: dict, seed: int) -> None:
    """Write a randomly initialised CLIP image encoder and its preprocessing into `folder`, in the standard layout.

    config: keys of transformers' CLIPVisionConfig. The same config and seed give the same bytes.
    """
    vision_config = transformers.CLIPVisionConfig(**config)
    with torch.random.fork_rng(devices=[]), staged_folder(folder, "an image encoder") as staged, quiet_transformers():
        torch.manual_seed(seed)
        transformers.CLIPVisionModelWithProjection(vision_config).eval().save_pretrained(staged)
        side = vision_config.image_size
        preprocessing = {
            "image_processor_type": "CLIPImageProcessor",
            "do_resize": True,
            "size": {"shortest_edge": side},
            "resample": int(Image.Resampling.BICUBIC),
            "do_center_crop": True,
            "crop_size": {"height": side, "width": side},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
            "do_convert_rgb": True,
        }
        write_json(staged / "preprocessor_config.json", preprocessing)


def open_clip(folder: Path) -> Any:
    """The image tower of a CLIP folder as a trainable module. Raises: ModelError when it is not one."""
    return load_model("clip", folder)


class VisionEncoder:
    """CLIP with its projection, or a backbone of transformers with its class token. Raises: ModelError."""

    def __init__(self, kind: str, path: str, device: str) -> None:
        family = vision_of(kind)
        self.name, self._has_projection = kind, family.has_projection
        self.device = pick_device(device, "encoder_device")
        folder = find_folder(kind, path)
        self.model = load_model(kind, folder)
        config = self.model.config
        self.preprocessing = _Preprocessing.of(kind, family, folder, config)
        self.dim = int(config.projection_dim if self._has_projection else config.hidden_size)
        self.mean = load_embedding_mean(folder, self.dim)
        self.fingerprint = _fingerprint(self.model, self.preprocessing.settings, self.mean)
        self.model.to(self.device)

    @torch.inference_mode()
    def embed(self, faces: list[np.ndarray]) -> torch.Tensor:
        rows = [torch.zeros(0, self.dim)]
        for start in progress(range(0, len(faces), BATCH_FACES), "embedding faces", unit="batch", leave=False):
            pixels = torch.stack([self.preprocessing(face) for face in faces[start : start + BATCH_FACES]])
            output = self.model(pixel_values=pixels.to(self.device))
            rows.append((output.image_embeds if self._has_projection else _class_token(output)).float().cpu())
        return unit_embeddings(torch.cat(rows), self.mean).clone()

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Square face crops [N, 3, S, S] in [0, 1], on the encoder's device, to [N, D], with gradient to the pixels."""
        output = self.model(pixel_values=self.preprocessing.of_pixels(pixels))
        raw = (output.image_embeds if self._has_projection else _class_token(output)).float()
        units = torch.nn.functional.normalize(raw, dim=1)
        if self.mean is not None:
            units = torch.nn.functional.normalize(units - self.mean.to(units), dim=1)
        return units


class _Preprocessing:
    """Resize, centre crop and normalise as the model folder says.

    transformers' own image processor for DINOv3 needs torchvision, which this project does without. For square crops
    these few lines suffice, and tests hold them equal to transformers' processors of CLIP and DINOv2.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    @classmethod
    def of(cls, kind: str, family: VisionModel, folder: Path, config: Any) -> _Preprocessing:
        file = folder / "preprocessor_config.json"
        content = read_json(file) if file.is_file() else {}
        # Published files write null for what they leave open.
        stored = {key: value for key, value in content.items() if value is not None}
        if not stored:
            logger.warning("%s: no preprocessor_config.json; using the published preprocessing of %s", folder, kind)
        size = _side(stored.get("size"), family.resize or config.image_size)
        has_crop = stored.get("do_center_crop", family.has_crop)
        settings = {
            "resize": size,
            "crop": _side(stored.get("crop_size"), family.crop or size) if has_crop else size,
            "resample": int(stored.get("resample", family.resample)),
            "mean": stored.get("image_mean") or family.mean,
            "std": stored.get("image_std") or family.std,
        }
        return cls({**settings, "resize_unrounded": True} if family.is_scaled_first else settings)

    def __call__(self, face: np.ndarray) -> torch.Tensor:
        size, crop = self.settings["resize"], self.settings["crop"]
        start = (size - crop) // 2
        box = (start, start, start + crop, start + crop)
        resample = Image.Resampling(self.settings["resample"])
        is_scaled_first = self.settings.get("resize_unrounded", False)
        planes = np.moveaxis(face.astype(np.float32) / 255 if is_scaled_first else face, -1, 0)
        resized = [Image.fromarray(plane).resize((size, size), resample).crop(box) for plane in planes]
        pixels = torch.from_numpy(np.stack([np.array(plane) for plane in resized])).float()
        mean, std = (torch.tensor(self.settings[key]).view(3, 1, 1) for key in ("mean", "std"))
        return ((pixels if is_scaled_first else pixels / 255) - mean) / std

    def of_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """The same of pictures [N, 3, S, S] in [0, 1], with gradient; alike but for rounding to whole grey levels."""
        size, crop = self.settings["resize"], self.settings["crop"]
        mode = {BILINEAR: "bilinear", BICUBIC: "bicubic"}.get(self.settings["resample"], "bicubic")
        start = (size - crop) // 2
        resized = torch.nn.functional.interpolate(pixels, (size, size), mode=mode, antialias=True)
        cut = resized[..., start : start + crop, start : start + crop]
        mean, std = (torch.tensor(self.settings[key]).view(1, 3, 1, 1).to(pixels) for key in ("mean", "std"))
        return (cut - mean) / std


def _side(value: Any, default: int) -> int:
    if isinstance(value, dict):
        value = value.get("shortest_edge") or value.get("height")
    return int(value or default)


def _class_token(output: Any) -> torch.Tensor:
    pooled = getattr(output, "pooler_output", None)
    return pooled if pooled is not None else output.last_hidden_state[:, 0]


def _fingerprint(model: torch.nn.Module, preprocessing: dict[str, Any], mean: torch.Tensor | None) -> str:
    """Hash names, shapes and 64 evenly spaced values of each tensor. This is cheap and independent of the storage."""
    architecture = ("model_type", "hidden_act", "num_attention_heads", "image_size", "patch_size", "layer_norm_eps")
    tensors = dict(model.named_parameters())
    if mean is not None:
        tensors["embedding_mean"] = torch.nn.Parameter(mean)
    content: dict[str, Any] = {key: getattr(model.config, key, None) for key in architecture}
    content["preprocessing"] = preprocessing
    content["tensors"] = [
        [name, list(tensor.shape), _sample(tensor.detach())] for name, tensor in sorted(tensors.items())
    ]
    return sha256_json(content)


def _sample(tensor: torch.Tensor) -> list[float]:
    flat = tensor.flatten()
    count = min(64, flat.numel())
    places = torch.arange(count) * (flat.numel() - 1) // max(count - 1, 1)
    return flat[places].tolist()
