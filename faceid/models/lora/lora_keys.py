"""Parse keys of LoRA files: which tool wrote the key, for which layer, by diffusers' names of the layers.

The names of diffusers, peft, ComfyUI, DiffSynth-Studio, kohya's tools and LightX2V are read, also mixed. `parse_key`
reports a key that it cannot translate, and never guesses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from faceid.models.wan_vace.tensor_names import (
    ANY_BLOCKS,
    BLOCK_LAYERS,
    BLOCK_NORMS,
    OUTER_LAYERS,
    VACE_LAYERS,
    original_transformer_name,
    transformer_name,
)

KeyKind = Literal["down", "up", "alpha", "up_bias", "diff", "diff_b", "diff_m"]
"""up_bias: added to the layer's bias, times the scale.

diff, diff_b, diff_m: added whole to weight, bias, modulation.
"""

KOHYA_PREFIX = "lora_unet_"
# Tools write these before a layer's name, at times several.
_PREFIXES = (
    *("base_model.model.", "model.", "diffusion_model.", "transformer."),
    *("pipe.dit.", "pipe.vace.", "dit.", "vace."),
)
_NAME = r"(?:\.\w+)?"  # peft's name of an adapter
_ENDINGS = re.compile(
    rf"\.(?:(?P<down>lora_A{_NAME}\.weight|lora_down{_NAME}\.weight|lora\.down\.weight)"
    rf"|(?P<up>lora_B{_NAME}\.weight|lora_up{_NAME}\.weight|lora\.up\.weight)"
    rf"|(?P<up_bias>lora_B{_NAME}\.bias|lora_up{_NAME}\.bias|lora\.up\.bias)"
    r"|(?P<alpha>alpha)|(?P<diff>diff)|(?P<diff_b>diff_b)|(?P<diff_m>diff_m))$"
)
# Methods that are more, or other, than a product added to a weight. None of them can be read as a plain LoRA.
_OTHER_METHODS = (
    ("DoRA", re.compile(r"\.(dora_scale|lora_magnitude_vector)\b")),
    ("LoKr", re.compile(r"\.lokr_\w+$")),
    ("LoHa", re.compile(r"\.hada_\w+$")),
    ("OFT", re.compile(r"\.oft_\w+\b")),
    ("LoCon with a middle tensor", re.compile(r"\.lora_mid\.weight$")),
)
# Layers of the image branch, which Wan's I2V models have and no VACE model has.
_IMAGE_BRANCH = re.compile(r"k_img|v_img|img_emb|add_[kv]_proj|norm_added_k|image_embedder")


@dataclass(frozen=True)
class LoraKey:
    """One key taken apart. layer: its name in diffusers. named: its name in the file, without prefixes."""

    layer: str
    kind: KeyKind
    named: str


def parse_key(key: str) -> LoraKey | None:
    """Take a key apart; None for a key that is no part of a LoRA of a Wan VACE transformer."""
    ending = _ENDINGS.search(key)
    if ending is None:
        return None
    named = _without_prefix(key[: ending.start()])
    kind: KeyKind = str(ending.lastgroup)  # type: ignore[assignment]  # the groups have the kinds' names
    if (table := _modulation(named, kind)) is not None:
        return LoraKey(table, "diff_m", named)
    layer = _layer(named) if kind != "diff_m" else None
    return None if layer is None else LoraKey(layer, kind, named)


def other_method(key: str) -> str | None:
    """The method of a key that does not belong to a plain LoRA."""
    return next((name for name, pattern in _OTHER_METHODS if pattern.search(key)), None)


def is_of_image_branch(key: str) -> bool:
    """Whether the key is for a layer that only Wan's I2V models have."""
    return _IMAGE_BRANCH.search(key) is not None


def _without_prefix(name: str) -> str:
    if name.startswith(KOHYA_PREFIX):
        # VideoX-Fun writes two underscores.
        inner = name.removeprefix(KOHYA_PREFIX).lstrip("_")
        found = re.fullmatch(rf"({ANY_BLOCKS})_(\d+)_(\w+)", inner)
        if found is not None:
            return f"{found[1]}.{found[2]}.{_KOHYA_INNER.get(found[3], found[3])}"
        return _KOHYA_OUTER.get(inner, inner)
    while prefix := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
    return name


def _layer(name: str) -> str | None:
    new = transformer_name(f"{name}.weight")
    if new is not None:
        return new.removesuffix(".weight")
    return name if original_transformer_name(f"{name}.weight") is not None else None


def _modulation(name: str, kind: KeyKind) -> str | None:
    """The table that `blocks.0.diff_m`, `blocks.0.modulation.diff` and `blocks.0.scale_shift_table.diff` change."""
    if kind == "diff_m":
        return transformer_name(f"{name}.modulation")
    if kind != "diff":
        return None
    return transformer_name(name) or (name if original_transformer_name(name) is not None else None)


_KOHYA_INNER = {inner.replace(".", "_"): inner for inner in (*BLOCK_LAYERS, *BLOCK_NORMS, *VACE_LAYERS)}
_KOHYA_OUTER = {outer.replace(".", "_"): outer for outer in OUTER_LAYERS}
