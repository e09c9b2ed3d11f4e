"""Say what the toy world looks like to those who learn from it, and how its base is built.

A base of this geometry has Wan's own: 8 x 8 pixels and 4 frames a latent cell, 16 channels, 96 of control.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from faceid.toy import shipped
from faceid.toy.toy_settings import Framing

FRAME_PX, CLIP_FRAMES = 96, 9
# A quarter of the tempo of the first world, whose heads moved several pixels a frame: no VAE of this size could follow.
PACE = 0.25
# How often each framing is drawn. An upper half's head is about 55 pixels, a whole figure's 36, a far one's 10 to 22.
FRAMING_SHARES: dict[Framing, float] = {"upper": 0.5, "whole": 0.35, "far": 0.15}


@dataclass(frozen=True)
class Look:
    """How clips of people look: the side of their frames in pixels, how often each framing is drawn, and the tempo."""

    frame_px: int = FRAME_PX
    framing_shares: Mapping[Framing, float] = field(default_factory=lambda: FRAMING_SHARES)
    pace: float = PACE

    def draw_framing(self, rng: np.random.Generator) -> Framing:
        """One framing, by the shares."""
        names = list(self.framing_shares)
        return names[int(rng.choice(len(names), p=list(self.framing_shares.values())))]


NEW_LOOK = Look()
# The world of the weights that are shipped today.
SHIPPED_LOOK = Look(64, {"whole": 1.0}, 1.0)
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
