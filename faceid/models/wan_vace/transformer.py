"""The transformer of Wan-VACE: its class, its config in either layout, its inputs, and its blocks.

Besides main blocks it has blocks that carry hints of the control: VACE blocks. Another base may have no such blocks.
Code that walks over blocks asks here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import WanVACEPipeline, WanVACETransformer3DModel
from diffusers.models.transformers.transformer_wan_vace import WanVACETransformerBlock
from torch import Tensor, nn

from faceid.errors import ModelError
from faceid.geometry import Geometry
from faceid.models.tensor_shapes import Shapes, shape_of
from faceid.models.wan_vace.control import control_channels

TRANSFORMER, PIPELINE = WanVACETransformer3DModel, WanVACEPipeline
CLASS_NAME = "WanVACETransformer3DModel"
# Config keys that the tensors' shapes leave open, and on which the output depends.
NOT_IN_SHAPES = ("num_attention_heads", "patch_size", "vace_layers", "qk_norm", "cross_attn_norm", "eps")
# The name, in the model, of the blocks that carry hints.
HINT_BLOCKS = "vace_blocks"


def check_class(config: Mapping[str, Any], source: Path) -> None:
    """Raises: ModelError when a config is of another class."""
    name = config.get("_class_name")
    if name != CLASS_NAME:
        raise ModelError(
            f"model_path={source}: its transformer is {name}, not {CLASS_NAME}; pose control needs a VACE model"
        )


def check_control(config: Mapping[str, Any], geometry: Geometry, source: Path) -> None:
    """Raises: ModelError when the transformer takes another control tensor than its VAE makes."""
    takes, made = config["vace_in_channels"], control_channels(geometry)
    if takes != made:
        raise ModelError(
            f"model_path={source}: transformer takes {takes} control channels, "
            f"its VAE makes {made}; the parts belong to different models"
        )


def hint_blocks(transformer: Any) -> Sequence[nn.Module]:
    """The blocks that carry hints, in order. They see the text and the control, and never the face."""
    return transformer.vace_blocks


def all_blocks(transformer: Any) -> list[Any]:
    """Main blocks, then those that carry hints."""
    return [*transformer.blocks, *hint_blocks(transformer)]


def is_hint_block(block: nn.Module) -> bool:
    """Whether a block carries hints."""
    return isinstance(block, WanVACETransformerBlock)


def num_hint_blocks(config: Mapping[str, Any]) -> int:
    """Number of blocks that carry hints, by a transformer's config."""
    return len(config["vace_layers"])


def num_input_channels(config: Mapping[str, Any]) -> int:
    """Channels of latents and control together, which are embedded."""
    return config["in_channels"] + config["vace_in_channels"]


def forward_inputs(
    x_t: Tensor, timestep: Tensor, text: Tensor, control: Tensor, hint_scale: Tensor | None = None
) -> dict[str, Any]:
    """The inputs of a forward pass without the face.

    x_t: [B, C, f, h, w]; timestep: [B]; text: [B, L, D]; control: [B, channels, f, h, w]. hint_scale: from
    `scaled_hints`; None counts each hint as it is.
    """
    scaled = {} if hint_scale is None else {"control_hidden_states_scale": hint_scale}
    return {
        **scaled,
        "hidden_states": x_t,
        "timestep": timestep,
        "encoder_hidden_states": text,
        "control_hidden_states": control,
        "return_dict": False,
    }


def scaled_hints(
    transformer: Any, control: Tensor, num_references: int, control_scale: float, reference_scale: float
) -> Tensor:
    """The strength of each block's hint: [blocks], or [blocks, 1, tokens, 1] where references count otherwise.

    The transformer unbinds the first dimension and multiplies, so a value per token works as well as one number. A
    frame's tokens follow each other, with the references' first (ali-vilab/VACE issue 27).
    control: [B, channels, R + f, h, w].
    """
    scale = torch.full((len(transformer.config.vace_layers),), float(control_scale))
    scale = scale.to(control.device, control.dtype)
    if num_references == 0 or reference_scale == control_scale:
        return scale
    _, _, frames, height, width = control.shape
    p_t, p_h, p_w = transformer.config.patch_size
    of_frame = (height // p_h) * (width // p_w)
    scale = scale.view(-1, 1, 1, 1).repeat(1, 1, frames // p_t * of_frame, 1)
    scale[:, :, : num_references // p_t * of_frame] = reference_scale
    return scale


def of_two_blocks(width: int, inner: int, text_dim: int) -> Any:
    """A transformer of two main blocks and two that carry hints. inner: width within the feed-forward."""
    return TRANSFORMER(
        num_attention_heads=1,
        attention_head_dim=width,
        ffn_dim=inner,
        num_layers=2,
        vace_layers=[0, 1],
        in_channels=1,
        out_channels=1,
        vace_in_channels=1,
        text_dim=text_dim,
        freq_dim=2,
        rope_max_seq_len=1,
    )


def transformer_config(original: Mapping[str, Any], shapes: Shapes, source: Path) -> dict[str, Any]:
    """Convert the original config. original: its config.json.

    Raises: ModelError naming what is missing, or when the model is no VACE model.
    """
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
        "_class_name": CLASS_NAME,
        "patch_size": list(shapes["patch_embedding.weight"][2:]),
        "num_attention_heads": original["num_heads"],
        "attention_head_dim": original["dim"] // original["num_heads"],
        "in_channels": original["in_dim"],
        "out_channels": original["out_dim"],
        "text_dim": shape_of(shapes, "text_embedding.0.weight", source)[1],
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
    """Convert back to the content of the Wan repositories' config.json."""
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
