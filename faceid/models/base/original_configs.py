"""Configs, as diffusers and transformers write them, of parts in the original layout.

The transformer's config.json there has other keys; the VAE and the text encoder have none: their sizes are read off
the shapes of their tensors. What no shape tells is a constant of Wan2.1 (modules/vae.py, modules/t5.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from faceid.errors import ModelError

Shapes = Mapping[str, tuple[int, ...]]

LATENTS_MEAN = (
    *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
    *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
)
LATENTS_STD = (
    *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
    *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
)
SCHEDULER = {
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "num_train_timesteps": 1000,
    "flow_shift": 3.0,
}
"""The original has its schedule in its sampler. For 720p give --shift 5."""


def transformer_config(original: Mapping[str, Any], shapes: Shapes, source: Path) -> dict[str, Any]:
    """original: its config.json. Raises: ModelError naming what is missing, or when it is no VACE model."""
    needed = ("dim", "num_heads", "num_layers", "ffn_dim", "freq_dim", "in_dim", "out_dim", "eps")
    for key in needed:
        if key not in original:
            raise ModelError(f"{source / 'config.json'}: no {key!r} in it; not the config of a Wan2.1 or Wan2.2 model")
    if "vace_patch_embedding.weight" not in shapes:
        kind = original.get("model_type", "without a VACE branch")
        raise ModelError(f"model_path={source}: its transformer is {kind}; pose control needs a VACE model")
    # Without a list the original takes every other layer (modules/vace_model.py).
    layers = original.get("vace_layers") or list(range(0, original["num_layers"], 2))
    return {
        "_class_name": "WanVACETransformer3DModel",
        "patch_size": list(shapes["patch_embedding.weight"][2:]),
        "num_attention_heads": original["num_heads"],
        "attention_head_dim": original["dim"] // original["num_heads"],
        "in_channels": original["in_dim"],
        "out_channels": original["out_dim"],
        "text_dim": _shape(shapes, "text_embedding.0.weight", source)[1],
        "freq_dim": original["freq_dim"],
        "ffn_dim": original["ffn_dim"],
        "num_layers": original["num_layers"],
        "cross_attn_norm": original.get("cross_attn_norm", True),
        "qk_norm": "rms_norm_across_heads",
        "eps": original["eps"],
        "added_kv_proj_dim": None,
        "vace_layers": list(layers),
        "vace_in_channels": shapes["vace_patch_embedding.weight"][1],
    }


def original_transformer_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The other way round: what the Wan repositories' config.json says."""
    return {
        "_class_name": "VaceWanModel",
        "dim": config["num_attention_heads"] * config["attention_head_dim"],
        "eps": config["eps"],
        "ffn_dim": config["ffn_dim"],
        "freq_dim": config["freq_dim"],
        "in_dim": config["in_channels"],
        "model_type": "vace",
        "num_heads": config["num_attention_heads"],
        "num_layers": config["num_layers"],
        "out_dim": config["out_channels"],
        "text_len": 512,
        "vace_in_dim": config["vace_in_channels"],
        "vace_layers": list(config["vace_layers"]),
    }


def vae_config(shapes: Shapes, source: Path) -> dict[str, Any]:
    """Raises: ModelError when they are not those of a Wan2.1 VAE."""
    base_dim, z_dim = _shape(shapes, "encoder.conv1.weight", source)[0], _shape(shapes, "conv2.weight", source)[0]
    if z_dim != len(LATENTS_MEAN):
        raise ModelError(
            f"{source}: latents of {z_dim} channels; the VACE models are of Wan2.1's VAE, which has {len(LATENTS_MEAN)}"
        )
    resampled = sorted(
        int(name.split(".")[2])
        for name in shapes
        if name.startswith("encoder.down") and name.endswith("resample.1.weight")
    )
    if not resampled:
        raise ModelError(f"{source}: no encoder.downsamples in it; not the VAE of Wan2.1")
    num_res_blocks = resampled[0]
    per_stage = num_res_blocks + 1
    firsts = range(0, len(resampled) * per_stage + 1, per_stage)
    widths = [_shape(shapes, f"encoder.downsamples.{place}.residual.2.weight", source)[0] for place in firsts]
    return {
        "_class_name": "AutoencoderKLWan",
        "base_dim": base_dim,
        "z_dim": z_dim,
        "dim_mult": [width // base_dim for width in widths],
        "num_res_blocks": num_res_blocks,
        "attn_scales": [],
        "temperal_downsample": [f"encoder.downsamples.{place}.time_conv.weight" in shapes for place in resampled],
        "dropout": 0.0,
        "latents_mean": list(LATENTS_MEAN),
        "latents_std": list(LATENTS_STD),
        "scale_factor_spatial": 2 ** len(resampled),
        "scale_factor_temporal": 2
        ** sum(f"encoder.downsamples.{place}.time_conv.weight" in shapes for place in resampled),
    }


def text_encoder_config(shapes: Shapes, source: Path) -> dict[str, Any]:
    """Raises: ModelError when they are not those of a UMT5 encoder."""
    vocab_size, d_model = _shape(shapes, "token_embedding.weight", source)
    buckets, heads = _shape(shapes, "blocks.0.pos_embedding.embedding.weight", source)
    return {
        "model_type": "umt5",
        "architectures": ["UMT5EncoderModel"],
        "vocab_size": vocab_size,
        "d_model": d_model,
        "d_kv": _shape(shapes, "blocks.0.attn.q.weight", source)[0] // heads,
        "d_ff": _shape(shapes, "blocks.0.ffn.fc1.weight", source)[0],
        "num_layers": sum(name.endswith(".norm1.weight") for name in shapes),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "relative_attention_max_distance": 128,
        "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": 1e-6,
    }


FROM_SHAPES: dict[str, Callable[[Shapes, Path], dict[str, Any]]] = {
    "vae": vae_config,
    "text_encoder": text_encoder_config,
}
"""Of the parts that have no config.json."""


def _shape(shapes: Shapes, name: str, source: Path) -> tuple[int, ...]:
    if name not in shapes:
        raise ModelError(f"{source}: no {name} in it; not a file of this part of Wan2.1")
    return shapes[name]
