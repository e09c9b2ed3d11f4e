"""Load a Wan2.1-VACE base: transformer, VAE, text encoder, scheduler, and what sizes they ask for.

Everything comes from a local folder in the diffusers layout; nothing is fetched. The base is never changed: its
fingerprint travels in every adapter and is checked when one is loaded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanVACETransformer3DModel
from transformers import AutoTokenizer, UMT5EncoderModel

from faceid.errors import ModelError
from faceid.geometry import Geometry
from faceid.models.latents import LatentStatistics, statistics_of
from faceid.provenance import sha256_json

log = logging.getLogger(__name__)

PARTS = ("transformer", "vae", "text")
# Enough of a weights file to tell two fine-tunes of one architecture apart, in milliseconds instead of a minute.
FINGERPRINT_PIECES, FINGERPRINT_PIECE_BYTES = 16, 65536


@dataclass
class WanModel:
    """One base in memory. A part that was not asked for is None."""

    name: str
    path: Path
    geometry: Geometry
    statistics: LatentStatistics
    fingerprint: str
    """Names the transformer and the VAE: what an adapter fits."""
    latents_fingerprint: str
    """Names what encodes, VAE and text encoder: bases that share them share latents (the 1.3B and the 14B do)."""
    transformer: Any = None
    vae: Any = None
    tokenizer: Any = None
    text_encoder: Any = None
    scheduler: Any = None


def load_wan(
    path: Path,
    parts: Collection[str] = PARTS,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    name: str | None = None,
) -> WanModel:
    """Load the asked parts of a diffusers folder, frozen and in eval mode.

    The VAE stays float32: it is small, and a bfloat16 encode is visibly worse. `name` is what adapters record
    as their base (default: the path as given).
    Raises: ModelError naming the folder and the missing piece.
    """
    check_base_folder(path)
    if not sys.stderr.isatty():
        diffusers.utils.logging.disable_progress_bar()
        transformers.utils.logging.disable_progress_bar()
    model = WanModel(
        name=name or str(path),
        path=path,
        geometry=read_geometry(path),
        statistics=read_statistics(path),
        fingerprint=base_fingerprint(path),
        latents_fingerprint=latents_fingerprint(path),
    )
    if "transformer" in parts:
        transformer = WanVACETransformer3DModel.from_pretrained(
            path / "transformer", torch_dtype=dtype, local_files_only=True
        )
        model.transformer = transformer.to(device).requires_grad_(False).eval()
    if "vae" in parts:
        vae = AutoencoderKLWan.from_pretrained(path / "vae", torch_dtype=torch.float32, local_files_only=True)
        model.vae = vae.to(device).requires_grad_(False).eval()
    if "text" in parts:
        model.tokenizer = AutoTokenizer.from_pretrained(path / "tokenizer", local_files_only=True)
        encoder = UMT5EncoderModel.from_pretrained(path / "text_encoder", dtype=dtype, local_files_only=True)
        model.text_encoder = encoder.to(device).requires_grad_(False).eval()
    model.scheduler = UniPCMultistepScheduler.from_pretrained(path / "scheduler", local_files_only=True)
    log.info("loaded %s of base %s (fingerprint %s)", ", ".join(parts), model.name, model.fingerprint[:12])
    return model


def check_base_folder(path: Path) -> None:
    """Raises: ModelError unless `path` looks like a WanVACE folder in the diffusers layout."""
    if not path.is_dir():
        raise ModelError(
            f"model_path={path}: no such folder; give a Wan2.1-VACE folder in the diffusers layout, or toy"
        )
    for part in ("transformer", "vae", "text_encoder", "tokenizer", "scheduler"):
        if not (path / part).is_dir():
            raise ModelError(
                f"model_path={path}: no {part}/ in it; a diffusers Wan2.1-VACE folder has transformer, vae, "
                "text_encoder, tokenizer and scheduler"
            )
    config = read_config(path, "transformer")
    if config.get("_class_name") != "WanVACETransformer3DModel":
        raise ModelError(
            f"model_path={path}: its transformer is {config.get('_class_name')}, not WanVACETransformer3DModel; "
            "pose control needs a VACE model"
        )


def read_config(path: Path, part: str) -> dict[str, Any]:
    """The config.json of one part. Raises: ModelError when it is missing or not JSON."""
    file = path / part / "config.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read: {error}") from error


def read_geometry(path: Path) -> Geometry:
    """Derive every size from the configs, the way WanVACEPipeline does (`vae_scale_factor_*`)."""
    vae, transformer = read_config(path, "vae"), read_config(path, "transformer")
    downsample = vae["temperal_downsample"]
    patch_t, patch_h, patch_w = transformer["patch_size"]
    geometry = Geometry(
        spatial_factor=2 ** len(downsample),
        temporal_factor=2 ** sum(downsample),
        latent_channels=vae["z_dim"],
        patch_thw=(patch_t, patch_h, patch_w),
    )
    if transformer["vace_in_channels"] != geometry.control_channels:
        raise ModelError(
            f"model_path={path}: transformer takes {transformer['vace_in_channels']} control channels, "
            f"its VAE makes {geometry.control_channels}; the parts belong to different models"
        )
    return geometry


def read_statistics(path: Path) -> LatentStatistics:
    """The latent statistics of the folder's VAE, without loading it."""
    return statistics_of(read_config(path, "vae"))


def base_fingerprint(path: Path) -> str:
    """Hex sha256 naming the transformer and VAE: configs, and size, head and spread pieces of each weights file."""
    return _fingerprint(path, ("transformer", "vae"))


def latents_fingerprint(path: Path) -> str:
    """Hex sha256 naming what makes latents and prompt embeddings: the VAE and the text encoder."""
    return _fingerprint(path, ("vae", "text_encoder"))


def _fingerprint(path: Path, parts: tuple[str, ...]) -> str:
    described: dict[str, Any] = {}
    for part in parts:
        config = {key: value for key, value in read_config(path, part).items() if not key.startswith("_")}
        files = sorted((path / part).glob("*.safetensors"))
        if not files:
            raise ModelError(f"{path / part}: no .safetensors weights in it")
        described[part] = [config, *([file.name, file.stat().st_size, _sample_digest(file)] for file in files)]
    return sha256_json(described)


def _sample_digest(file: Path) -> str:
    size = file.stat().st_size
    step = max(size // FINGERPRINT_PIECES, FINGERPRINT_PIECE_BYTES)
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        for offset in range(0, size, step):
            stream.seek(offset)
            digest.update(stream.read(FINGERPRINT_PIECE_BYTES))
        stream.seek(max(size - FINGERPRINT_PIECE_BYTES, 0))
        digest.update(stream.read())
    return digest.hexdigest()
