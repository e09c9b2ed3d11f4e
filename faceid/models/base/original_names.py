"""Translate the names of tensors in Wan's VAE and text encoder.

The names of the Wan repositories become those of diffusers and transformers. Every name is taken apart and looked up
whole, never replaced piece by piece. A name that is in no table is unknown. Sources: Wan-AI's modules
(wan/modules/vae.py, t5.py) and the converters of diffusers, against which the tests compare every name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from faceid.errors import ModelError

# The VAE's residual block, which is a Sequential in the original.
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
"""From a tensor's original name to its name here; None when it is unknown."""


def vae_name(original: str, num_res_blocks: int) -> str | None:
    """The name of a VAE tensor. num_res_blocks: per stage of the encoder; a decoder's stage has one more."""
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
    """The name of a tensor of the UMT5 encoder."""
    stem, _, leaf = original.rpartition(".")
    if stem in _TEXT_OUTER:
        return f"{_TEXT_OUTER[stem]}.{leaf}"
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", stem)
    if found is None or found[2] not in _TEXT_BLOCK:
        return None
    return f"encoder.block.{found[1]}.{_TEXT_BLOCK[found[2]]}.{leaf}"


def translate(names: Iterable[str], rule: Translate, source: str) -> dict[str, str]:
    """Map every original name to its new one. source: for the message.

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
