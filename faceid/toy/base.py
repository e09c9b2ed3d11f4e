"""The embedded tiny base: real classes, fixed seed, made once into a cache folder in the diffusers layout.

`--model_path toy` and `--encoder_path toy` name it. For now its weights are random; a later release ships
trained ones under the same name, and nothing that uses it changes.
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from faceid.errors import ModelError
from faceid.faces.encoders import initialise_clip
from faceid.models.initialise import initialise_base
from faceid.provenance import sha256_json

TOY = "toy"
SEED = 20

# 4x in space and time, so a 64 x 64 clip of 9 frames is 3 latent frames of 16 x 16 cells: 192 tokens.
BASE_CONFIGS: dict[str, dict[str, Any]] = {
    "transformer": {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 4,
        "attention_head_dim": 24,
        "in_channels": 16,
        "out_channels": 16,
        "text_dim": 32,
        "freq_dim": 64,
        "ffn_dim": 256,
        "num_layers": 4,
        "vace_layers": [0, 2],
        "vace_in_channels": 2 * 16 + 4 * 4,
    },
    "vae": {
        "base_dim": 8,
        "z_dim": 16,
        "dim_mult": [1, 2, 4],
        "num_res_blocks": 1,
        "temperal_downsample": [True, True],
        "latents_mean": [0.0] * 16,
        # Measured on drawn clips, so that normalised latents have about unit variance.
        "latents_std": [0.16] * 16,
        "scale_factor_spatial": 4,
        "scale_factor_temporal": 4,
    },
    "text_encoder": {
        # Three special ids, 256 bytes and the 125 sentinels of ByT5Tokenizer.
        "vocab_size": 384,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
    },
    "tokenizer": {"model_max_length": 64},
    "scheduler": {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0},
}
ENCODER_CONFIG: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 64,
    "patch_size": 8,
    "projection_dim": 64,
}


def resolve_model_path(name: str) -> Path:
    """`toy` to the embedded base's folder; anything else is a path and returned as one."""
    return toy_folder() / "base" if name == TOY else Path(name)


def resolve_encoder_path(name: str | None) -> str | None:
    """`toy` to the embedded face encoder's folder; anything else is returned unchanged."""
    return str(toy_folder() / "encoder") if name == TOY else name


def toy_folder() -> Path:
    """The folder holding the embedded models; made on first use, safe when many processes ask at once."""
    folder = cache_folder() / f"toy-{sha256_json([BASE_CONFIGS, ENCODER_CONFIG, SEED])[:12]}"
    if folder.is_dir():
        return folder
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.mkdir(parents=True)
        initialise_base(temporary / "base", BASE_CONFIGS, SEED)
        initialise_clip(temporary / "encoder", ENCODER_CONFIG, SEED)
        temporary.rename(folder)
    except OSError as error:
        # Another process published first: same seed, same weights.
        if not folder.is_dir():
            raise ModelError(f"{folder}: the embedded base cannot be written: {error}; set FACEID_CACHE") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def cache_folder() -> Path:
    """FACEID_CACHE, or the user's cache folder."""
    given = os.environ.get("FACEID_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "faceid"
