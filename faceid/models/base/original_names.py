"""Names of Wan's tensors: as the Wan repositories have them, and as diffusers and transformers do.

Every name is taken apart and looked up whole, never replaced piece by piece: what is not in a table is unknown, and
norm2 and norm3, which change places, need no placeholder. Each table read backwards is the other direction.
Sources: Wan-AI's modules (wan/modules/model.py, vae.py, t5.py) and the converters of diffusers, against which the tests
compare every name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from faceid.errors import ModelError

# A linear layer of a block, original to diffusers: what a LoRA can be on.
BLOCK_LAYERS = {
    "self_attn.q": "attn1.to_q",
    "self_attn.k": "attn1.to_k",
    "self_attn.v": "attn1.to_v",
    "self_attn.o": "attn1.to_out.0",
    "cross_attn.q": "attn2.to_q",
    "cross_attn.k": "attn2.to_k",
    "cross_attn.v": "attn2.to_v",
    "cross_attn.o": "attn2.to_out.0",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}
# Of the VACE blocks alone. before_proj is in the first of them only.
VACE_LAYERS = {"before_proj": "proj_in", "after_proj": "proj_out"}
BLOCK_NORMS = {
    "self_attn.norm_q": "attn1.norm_q",
    "self_attn.norm_k": "attn1.norm_k",
    "cross_attn.norm_q": "attn2.norm_q",
    "cross_attn.norm_k": "attn2.norm_k",
    "norm3": "norm2",
}
OUTER_LAYERS = {
    "patch_embedding": "patch_embedding",
    "vace_patch_embedding": "vace_patch_embedding",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "head.head": "proj_out",
}
# The VAE's residual block, a Sequential in the original.
_RESIDUAL = {
    "residual.0": "norm1",
    "residual.2": "conv1",
    "residual.3": "norm2",
    "residual.6": "conv2",
    "shortcut": "conv_shortcut",
}
_RESAMPLE = {"resample.1": "resample.1", "time_conv": "time_conv"}
_VAE_OUTER = {
    "conv1": "quant_conv",
    "conv2": "post_quant_conv",
    "encoder.conv1": "encoder.conv_in",
    "encoder.head.0": "encoder.norm_out",
    "encoder.head.2": "encoder.conv_out",
    "decoder.conv1": "decoder.conv_in",
    "decoder.head.0": "decoder.norm_out",
    "decoder.head.2": "decoder.conv_out",
}
_TEXT_BLOCK = {
    "norm1": "layer.0.layer_norm",
    "attn.q": "layer.0.SelfAttention.q",
    "attn.k": "layer.0.SelfAttention.k",
    "attn.v": "layer.0.SelfAttention.v",
    "attn.o": "layer.0.SelfAttention.o",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}
_TEXT_OUTER = {"token_embedding": "shared", "norm": "encoder.final_layer_norm"}

Translate = Callable[[str], str | None]
"""A tensor's original name to its name here; None when it is unknown."""


def transformer_name(original: str) -> str | None:
    """Of a tensor of the transformer."""
    if original == "head.modulation":
        return "scale_shift_table"
    stem, _, leaf = original.rpartition(".")
    if leaf == "modulation":
        return f"{stem}.scale_shift_table" if re.fullmatch(r"(vace_)?blocks\.\d+", stem) else None
    new = OUTER_LAYERS.get(stem) or _inside(stem, {**BLOCK_LAYERS, **BLOCK_NORMS}, VACE_LAYERS)
    return None if new is None else f"{new}.{leaf}"


def original_transformer_name(name: str) -> str | None:
    """The other way round: of a tensor of the transformer."""
    if name == "scale_shift_table":
        return "head.modulation"
    stem, _, leaf = name.rpartition(".")
    if leaf == "scale_shift_table":
        return f"{stem}.modulation"
    old = _backwards(OUTER_LAYERS).get(stem)
    old = old or _inside(stem, _backwards({**BLOCK_LAYERS, **BLOCK_NORMS}), _backwards(VACE_LAYERS))
    return None if old is None else f"{old}.{leaf}"


def vae_name(original: str, num_res_blocks: int) -> str | None:
    """Of a tensor of the VAE. num_res_blocks: of its encoder's stages, which a decoder's stage has one more of."""
    stem, _, leaf = original.rpartition(".")
    if stem in _VAE_OUTER:
        return f"{_VAE_OUTER[stem]}.{leaf}"
    found = re.fullmatch(r"(encoder|decoder)\.middle\.([012])\.(.+)\.(\w+)", original)
    if found is not None:
        half, place, inner, leaf = found.groups()
        if place == "1":
            return f"{half}.mid_block.attentions.0.{inner}.{leaf}" if inner in ("norm", "to_qkv", "proj") else None
        return (
            None if inner not in _RESIDUAL else f"{half}.mid_block.resnets.{int(place) // 2}.{_RESIDUAL[inner]}.{leaf}"
        )
    found = re.fullmatch(r"(encoder\.down|decoder\.up)samples\.(\d+)\.(.+)\.(\w+)", original)
    if found is None:
        return None
    half, place, inner, leaf = found.groups()
    new = _RESIDUAL.get(inner) or _RESAMPLE.get(inner)
    if new is None:
        return None
    if half == "encoder.down":
        return f"{half}_blocks.{place}.{new}.{leaf}"
    stage, number = divmod(int(place), num_res_blocks + 2)
    part = "upsamplers.0" if number == num_res_blocks + 1 else f"resnets.{number}"
    if (inner in _RESAMPLE) != part.startswith("up"):
        return None
    return f"{half}_blocks.{stage}.{part}.{new}.{leaf}"


def text_encoder_name(original: str) -> str | None:
    """Of a tensor of the UMT5 encoder."""
    stem, _, leaf = original.rpartition(".")
    if stem in _TEXT_OUTER:
        return f"{_TEXT_OUTER[stem]}.{leaf}"
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", stem)
    if found is None or found[2] not in _TEXT_BLOCK:
        return None
    return f"encoder.block.{found[1]}.{_TEXT_BLOCK[found[2]]}.{leaf}"


def translate(names: Iterable[str], rule: Translate, source: str) -> dict[str, str]:
    """Every original name to its new one. source: for the message.

    Raises: ModelError naming the first name that is unknown, or that two tensors would have.
    """
    found: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in names:
        new = rule(name)
        if new is None or new in taken:
            what = "unknown" if new is None else f"and {taken[new]} are one tensor"
            raise ModelError(f"{source}: {name} {what}; not the weights of a Wan2.1 or Wan2.2 VACE model")
        found[name], taken[new] = new, name
    return found


def _inside(name: str, of_blocks: dict[str, str], of_vace_blocks: dict[str, str]) -> str | None:
    found = re.fullmatch(r"((vace_)?blocks\.\d+)\.(.+)", name)
    if found is None:
        return None
    block, is_vace, inner = found.groups()
    new = of_blocks.get(inner) or (of_vace_blocks.get(inner) if is_vace else None)
    return None if new is None else f"{block}.{new}"


def _backwards(table: dict[str, str]) -> dict[str, str]:
    return {new: old for old, new in table.items()}
