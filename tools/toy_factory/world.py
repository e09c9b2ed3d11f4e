"""Say what the toy world's clips look like to those who learn from them."""

from __future__ import annotations

import numpy as np

from faceid.toy.toy_settings import Framing

# Side of the square frames in pixels, and frames of a clip.
FRAME_PX, CLIP_FRAMES = 96, 9
# How often each framing is drawn. An upper half's head is about 55 pixels, a whole figure's 36, a far one's 10 to 22.
FRAMING_SHARES: dict[Framing, float] = {"upper": 0.5, "whole": 0.35, "far": 0.15}


def draw_framing(rng: np.random.Generator) -> Framing:
    """One framing, by the shares."""
    names = list(FRAMING_SHARES)
    return names[int(rng.choice(len(names), p=list(FRAMING_SHARES.values())))]
