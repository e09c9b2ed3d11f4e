"""Find the embedded tiny base, its face encoder and a first adapter: real classes, shipped inside the package.

`--model_path toy`, `--encoder_path toy` and `--init_adapter toy` name them. `tools/train_toy_base.py` made them from
drawings alone. benchmarks/records/toy_base.json says how.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from faceid.errors import ModelError

TOY, TOY_STRONG = "toy", "toy_strong"
WEIGHTS = Path(__file__).with_name("weights")
ADAPTER_FILE = "face_lora_toy.safetensors"

# Side of the frames that the base was trained on.
SIDE_PX = 96
# The most tokens of a prompt.
TEXT_TOKENS = 64
# Wan's own geometry: 8 x 8 pixels and 4 frames a latent cell, 16 channels, 96 of control. So a clip of 9 frames of
# 96 x 96 pixels is 3 latent frames of 12 x 12 cells, or 108 tokens.
BASE_CONFIGS: dict[str, dict[str, Any]] = {
    "transformer": {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 4,
        "attention_head_dim": 32,
        "in_channels": 16,
        "out_channels": 16,
        "text_dim": 64,
        "freq_dim": 64,
        "ffn_dim": 512,
        "num_layers": 6,
        "vace_layers": [0, 2, 4],
        "vace_in_channels": 2 * 16 + 8 * 8,
    },
    "vae": {
        # Four levels, as Wan2.1's. Wan2.2's patches would spare the largest. But WanVACEPipeline counts two pixels for
        # each level, and knows of no patches.
        "base_dim": 8,
        "decoder_base_dim": 10,
        "z_dim": 16,
        "dim_mult": [1, 2, 8, 8],
        "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
        # Wan2.2's shortcuts. Without them the same training ends several dB lower.
        "is_residual": True,
        # Replaced by measured values once the VAE is trained.
        "latents_mean": [0.0] * 16,
        "latents_std": [1.0] * 16,
        "scale_factor_spatial": 8,
        "scale_factor_temporal": 4,
    },
    "text_encoder": {
        "vocab_size": 512,
        "d_model": 64,
        "d_kv": 16,
        "d_ff": 128,
        "num_layers": 3,
        "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
    },
    "tokenizer": {"model_max_length": TEXT_TOKENS},
    "scheduler": {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0},
}
ENCODER_CONFIG: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": 64,
    "patch_size": 8,
    "projection_dim": 64,
}


# The recogniser of the evaluation. Its size differs from the conditioning encoder's.
RECOGNISER_CONFIG: dict[str, Any] = {
    **ENCODER_CONFIG,
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_attention_heads": 3,
    "projection_dim": 48,
}


def resolve_model_path(name: str) -> Path:
    """`toy` becomes the embedded base's folder. Anything else is returned as a path."""
    return _shipped("base") if name == TOY else Path(name)


def resolve_encoder_path(name: str | None) -> str | None:
    """`toy` becomes the folder of the embedded face encoder, `toy_strong` of the strong one; others stay the same."""
    folders = {TOY: "encoder", TOY_STRONG: "strong_encoder"}
    return str(_shipped(folders[name])) if name in folders else name


def resolve_adapter_path(name: str | None, key: str = "face_lora_path") -> str | None:
    """`toy` becomes the embedded stage-1 adapter, which learnt faces in general, and `toy_strong` that of `toy_strong`.

    Anything else becomes the file in a folder or hub id. key: the flag that gave it.
    Raises: ModelError when there is none.
    """
    if name is None:
        return None
    folders = {TOY: "adapter", TOY_STRONG: "strong_adapter"}
    if name in folders:
        return str(_shipped(f"{folders[name]}/{ADAPTER_FILE}"))
    # An adapter needs torch anyway. A command line without one is read without torch.
    from faceid.models.adapter.adapter_folder import find_adapter

    return str(find_adapter(name, key))


def _shipped(name: str) -> Path:
    path = WEIGHTS / name
    if not path.exists():
        raise ModelError(f"{path}: missing, so the installation is not whole; install faceid again")
    return path
