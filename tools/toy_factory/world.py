"""Say what the toy world looks like to those who learn from it, and how its base is built.

A base of this geometry has Wan's own: 8 x 8 pixels and 4 frames a latent cell, 16 channels, 96 of control.
"""

from __future__ import annotations

from typing import Any

from faceid.toy import shipped
from faceid.toy.toy_settings import Framing

FRAME_PX, CLIP_FRAMES = 128, 9
# Half the tempo of the first world, whose heads moved several pixels a frame: no VAE of this size could follow.
PACE = 0.5
# How often each framing is drawn. An upper half's head is about 70 pixels, a whole figure's 48, a far one's 12 to 26.
FRAMING_SHARES: dict[Framing, float] = {"upper": 0.5, "whole": 0.35, "far": 0.15}
# The most tokens of a prompt.
TEXT_TOKENS = 64

# As the shipped base, but for these.
BASE_CONFIGS: dict[str, dict[str, Any]] = {
    **shipped.BASE_CONFIGS,
    "transformer": {**shipped.BASE_CONFIGS["transformer"], "text_dim": 64, "vace_in_channels": 2 * 16 + 8 * 8},
    "vae": {
        **shipped.BASE_CONFIGS["vae"],
        # Four levels, as Wan2.1's. Wan2.2's patches would spare the largest. But WanVACEPipeline counts two pixels for
        # each level, and knows of no patches.
        "base_dim": 8,
        "decoder_base_dim": 10,
        "dim_mult": [1, 2, 8, 8],
        "temperal_downsample": [False, True, True],
        "scale_factor_spatial": 8,
    },
    "text_encoder": {
        **shipped.BASE_CONFIGS["text_encoder"],
        "vocab_size": 512,
        "d_model": 64,
        "d_kv": 16,
        "d_ff": 128,
        "num_layers": 3,
    },
    "tokenizer": {"model_max_length": TEXT_TOKENS},
}
