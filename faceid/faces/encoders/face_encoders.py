"""Face crops to unit embeddings: CLIP, DINO, or any ONNX recogniser; from a folder or the hub cache, never a download.

One `load_encoder`, four kinds behind it. The optional mean over many people (`embedding_mean.safetensors` in the
encoder's folder) is taken off before normalising: CLIP vectors of different people otherwise lie at cosine 0.6 to 0.9.
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
from faceid.faces.identity_settings import EncoderKind
from faceid.files.documents import read_json
from faceid.files.given_paths import why_no_file
from faceid.files.outputs import staged_folder
from faceid.files.provenance import sha256_json
from faceid.files.writing import write_json
from faceid.logs import progress

logger = logging.getLogger(__name__)

__all__ = ["FaceEncoder", "initialise_clip", "load_encoder", "open_clip", "save_embedding_mean"]

DEFAULT_PATHS = {
    "clip": "openai/clip-vit-large-patch14",
    "dinov3": "facebook/dinov3-vitl16-pretrain-lvd1689m",
    "dinov2": "facebook/dinov2-large",
}
# ViT-L takes about 3 s a face on one CPU core: a batch is also one step of the progress bar.
BATCH_FACES = 8

# The published preprocessing of each family, for a folder that comes without preprocessor_config.json.
DINOV2_RESIZE, DINOV2_CROP = 256, 224
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class FaceEncoder(Protocol):
    """Turns face crops into embeddings."""

    name: str
    """The kind: clip, dinov3, dinov2 or onnx."""
    fingerprint: str
    """Hex sha256 over weights, preprocessing and embedding mean: equal when the embeddings are comparable."""
    dim: int
    """D, numbers per embedding."""

    def embed(self, faces: list[np.ndarray]) -> torch.Tensor:
        """Square face crops (RGB uint8 [S, S, 3], any S) to [N, D], float32, unit length, on the CPU."""
        ...


def load_encoder(
    kind: EncoderKind, path: Path | str | None = None, device: str = "cpu", **onnx_input: Any
) -> FaceEncoder:
    """Load an encoder once; nothing is downloaded.

    path: a local folder, a hub name already in the cache, or (onnx) a file; None: the published model of that kind.
    onnx_input: mean, std (0..255 scale) and colour (rgb, bgr) of an ONNX recogniser.
    Raises: ModelError when the weights are missing or of another architecture, with what to do.
    """
    if kind == "onnx":
        # onnxruntime is an optional extra, so its room is entered only on request.
        from faceid.faces.encoders.onnx_encoder import OnnxEncoder

        return OnnxEncoder(path, device, **onnx_input)
    return _VisionEncoder(kind, str(path) if path is not None else DEFAULT_PATHS[kind], device)


def check_encoder_is_there(kind: EncoderKind, path: str | None, key: str) -> None:
    """Look for an encoder's files without loading them. key: the flag that named them. Raises: ModelError."""
    if kind != "onnx":
        find_folder(kind, path or DEFAULT_PATHS[kind])
    elif (reason := why_no_file(path or "")) is not None:
        raise ModelError(f"{key}={path}: {reason}; give the .onnx file of a face recogniser")


def initialise_clip(folder: Path, config: dict, seed: int) -> None:
    """Write a randomly initialised CLIP image encoder and its preprocessing into `folder`, in the standard layout.

    config: keys of transformers' CLIPVisionConfig; the same config and seed give the same bytes.
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
    """The image tower of a CLIP folder as a module: to be trained. Raises: ModelError when it is not one."""
    return load_model("clip", folder)


class _VisionEncoder:
    """CLIP with its projection, or a DINO backbone with its class token."""

    def __init__(self, kind: str, path: str, device: str) -> None:
        self.name = kind
        self.device = pick_device(device, "encoder_device")
        folder = find_folder(kind, path)
        self.model = load_model(kind, folder)
        self.preprocessing = _Preprocessing.of(kind, folder, self.model.config)
        self.dim = int(self.model.config.projection_dim if kind == "clip" else self.model.config.hidden_size)
        self.mean = load_embedding_mean(folder, self.dim)
        self.fingerprint = _fingerprint(self.model, self.preprocessing.settings, self.mean)
        self.model.to(self.device)

    @torch.inference_mode()
    def embed(self, faces: list[np.ndarray]) -> torch.Tensor:
        rows = [torch.zeros(0, self.dim)]
        for start in progress(range(0, len(faces), BATCH_FACES), "embedding faces", unit="batch", leave=False):
            pixels = torch.stack([self.preprocessing(face) for face in faces[start : start + BATCH_FACES]])
            output = self.model(pixel_values=pixels.to(self.device))
            rows.append((output.image_embeds if self.name == "clip" else _class_token(output)).float().cpu())
        return unit_embeddings(torch.cat(rows), self.mean).clone()


class _Preprocessing:
    """Resize, centre crop and normalise as the model folder says.

    transformers' own image processor for DINOv3 needs torchvision, which this project does without; for square crops
    the steps are these few lines, and tests hold them equal to transformers' processors of CLIP and DINOv2.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    @classmethod
    def of(cls, kind: str, folder: Path, config: Any) -> _Preprocessing:
        file = folder / "preprocessor_config.json"
        content = read_json(file) if file.is_file() else {}
        # Published files name what they leave open, as null.
        stored = {key: value for key, value in content.items() if value is not None}
        if not stored:
            logger.warning("%s: no preprocessor_config.json; using the published preprocessing of %s", folder, kind)
        is_clip, is_dinov2, is_dinov3 = (kind == name for name in ("clip", "dinov2", "dinov3"))
        size = _side(stored.get("size"), DINOV2_RESIZE if is_dinov2 else config.image_size)
        crops = stored.get("do_center_crop", not is_dinov3)
        settings = {
            "resize": size,
            "crop": _side(stored.get("crop_size"), DINOV2_CROP if is_dinov2 else size) if crops else size,
            "resample": int(
                stored.get("resample", Image.Resampling.BILINEAR if is_dinov3 else Image.Resampling.BICUBIC)
            ),
            "mean": stored.get("image_mean") or (CLIP_MEAN if is_clip else IMAGENET_MEAN),
            "std": stored.get("image_std") or (CLIP_STD if is_clip else IMAGENET_STD),
        }
        # DINOv3's processor scales to 0..1 before it resizes, so that nothing is rounded to whole grey levels.
        return cls({**settings, "resize_unrounded": True} if is_dinov3 else settings)

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


def _side(value: Any, default: int) -> int:
    if isinstance(value, dict):
        value = value.get("shortest_edge") or value.get("height")
    return int(value or default)


def _class_token(output: Any) -> torch.Tensor:
    pooled = getattr(output, "pooler_output", None)
    return pooled if pooled is not None else output.last_hidden_state[:, 0]


def _fingerprint(model: torch.nn.Module, preprocessing: dict[str, Any], mean: torch.Tensor | None) -> str:
    """Hash names, shapes and 64 evenly spaced values of each tensor: cheap, and the same however it was stored."""
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
