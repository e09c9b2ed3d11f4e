"""Names of the transformer's tensors: those of the Wan repositories, and those of diffusers.

Every name is taken apart and looked up whole, never replaced piece by piece. A name that is in no table is unknown. So
norm2 and norm3, which change places, need no placeholder. Each table read backwards is the other direction.
Sources: Wan-AI's wan/modules/model.py and vace_model.py, and the converters of diffusers. The tests compare every name
with them.
"""

from __future__ import annotations

import re

# Pattern for a block of either branch.
ANY_BLOCKS = r"(?:vace_)?blocks"
# Linear layers of a block, original to diffusers. A LoRA can be on them.
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
# Layers of the VACE blocks alone. before_proj is in the first of them only.
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


def transformer_name(original: str) -> str | None:
    """The name in diffusers of a transformer tensor."""
    if original == "head.modulation":
        return "scale_shift_table"
    stem, _, leaf = original.rpartition(".")
    if leaf == "modulation":
        return f"{stem}.scale_shift_table" if re.fullmatch(r"(vace_)?blocks\.\d+", stem) else None
    new = OUTER_LAYERS.get(stem) or _inside(stem, {**BLOCK_LAYERS, **BLOCK_NORMS}, VACE_LAYERS)
    return None if new is None else f"{new}.{leaf}"


def original_transformer_name(name: str) -> str | None:
    """The original name of a transformer tensor, from its name in diffusers."""
    if name == "scale_shift_table":
        return "head.modulation"
    stem, _, leaf = name.rpartition(".")
    if leaf == "scale_shift_table":
        return f"{stem}.modulation"
    old = _backwards(OUTER_LAYERS).get(stem)
    old = old or _inside(stem, _backwards({**BLOCK_LAYERS, **BLOCK_NORMS}), _backwards(VACE_LAYERS))
    return None if old is None else f"{old}.{leaf}"


def is_of_hint_block(layer: str) -> bool:
    """Whether a layer, by its name in the model, is in a block that carries hints."""
    return layer.startswith("vace_blocks.")


def _inside(name: str, of_blocks: dict[str, str], of_vace_blocks: dict[str, str]) -> str | None:
    found = re.fullmatch(r"((vace_)?blocks\.\d+)\.(.+)", name)
    if found is None:
        return None
    block, is_vace, inner = found.groups()
    new = of_blocks.get(inner) or (of_vace_blocks.get(inner) if is_vace else None)
    return None if new is None else f"{block}.{new}"


def _backwards(table: dict[str, str]) -> dict[str, str]:
    return {new: old for old, new in table.items()}
