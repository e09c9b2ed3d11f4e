"""Make the configs of VAE and text encoder in the original layout.

They have the form that diffusers and transformers write. Neither part has a config.json there. Their sizes are read off
the shapes of their tensors. Whatever no shape tells is a constant of Wan2.1 (modules/vae.py, modules/t5.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from faceid.errors import ModelError
from faceid.models.tensor_shapes import Shapes, shape_of

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
"""The original layout keeps its schedule in its sampler. For 720p give --shift 5."""


def vae_config(shapes: Shapes, source: Path) -> dict[str, Any]:
    """The VAE's config. Raises: ModelError when the shapes are not those of a Wan2.1 VAE."""
    base_dim, z_dim = shape_of(shapes, "encoder.conv1.weight", source)[0], shape_of(shapes, "conv2.weight", source)[0]
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
    widths = [shape_of(shapes, f"encoder.downsamples.{place}.residual.2.weight", source)[0] for place in firsts]
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
    """The text encoder's config. Raises: ModelError when the shapes are not those of a UMT5 encoder."""
    vocab_size, d_model = shape_of(shapes, "token_embedding.weight", source)
    buckets, heads = shape_of(shapes, "blocks.0.pos_embedding.embedding.weight", source)
    return {
        "model_type": "umt5",
        "architectures": ["UMT5EncoderModel"],
        "vocab_size": vocab_size,
        "d_model": d_model,
        "d_kv": shape_of(shapes, "blocks.0.attn.q.weight", source)[0] // heads,
        "d_ff": shape_of(shapes, "blocks.0.ffn.fc1.weight", source)[0],
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
"""Functions for the parts that have no config.json."""
